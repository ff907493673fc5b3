"""What a worker group's failure says."""

import pytest

from trainables.prepare import _last_words


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
    assert _last_words(error) == words
