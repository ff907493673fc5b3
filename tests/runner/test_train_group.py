"""What a worker group's failure says, and whether another group may succeed."""

import pytest

from trainables.runner.train_group import last_words, was_lost


class GroupError(RuntimeError):
    """As Ray Train raises it: what each worker raised, by rank."""

    def __init__(self, **by_rank: BaseException) -> None:
        super().__init__("the group failed")
        self.worker_failures = {int(rank[1:]): error for rank, error in by_rank.items()}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (GroupError(r1=ValueError("second"), r0=ValueError("Traceback\n\nloss is nan")), "ValueError: loss is nan"),
        (GroupError(), "GroupError: the group failed"),
        (RuntimeError("plain"), "RuntimeError: plain"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_the_first_worker_s_last_line_is_told(error: BaseException, words: str) -> None:
    assert last_words(error) == words


class WorkerHealthCheckFailedError(RuntimeError):
    """As Ray Train calls a worker that no longer answers."""


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (GroupError(r0=ValueError("bad setting"), r1=ValueError("bad setting")), False),
        (GroupError(r0=RuntimeError("Connection closed by peer"), r1=WorkerHealthCheckFailedError("died")), True),
        (GroupError(r0=RuntimeError("CUDA error: an illegal memory access was encountered")), True),
        (RuntimeError("the group did not start"), True),
    ],
)
def test_a_group_is_lost_with_a_worker_and_not_by_what_its_workers_computed(error: Exception, lost: bool) -> None:
    assert was_lost(error) == lost
