import time
from dataclasses import replace
from platform.ledger.rows import COLLAPSED, DONE, ENDED, FAILED, PENDING, PRUNED, RUNNING, Configuration, Trial
from platform.run.display import Best, Ended
from platform.run.progress import LaunchProgress, time_left_s
from types import SimpleNamespace
from typing import Any

import pytest

from trainables.runner.messages import EpochRecord, StageRecord

OBJECTIVE = "spc/selection_loss"


def _trial(
    key: str, configuration: int | None, seed: int, state: str, loss: float = 0.0, sequence: int | None = None
) -> Trial:
    done = state == DONE
    return Trial(
        key=key,
        kind="prepare" if configuration is None else "trial",
        configuration=configuration,
        seed=seed,
        state=state,
        trial_spec={},
        attempts=1,
        worker={},
        metrics={OBJECTIVE: loss, "acc": 0.5} if done else {},
        stages=[],
        error="OSError: disk" if state == FAILED else "",
        started=100.0,
        ended=103.0,
        seconds=4.0 if done else None,
        sequence=sequence,
    )


def _state(trials: list[Trial], mode: str = "min") -> Any:
    objective = SimpleNamespace(metric=OBJECTIVE, mode=mode)
    study = SimpleNamespace(method="spc", pretext="", seeds=(0, 1), objective=objective)
    numbers = sorted({trial.configuration for trial in trials if trial.configuration is not None})
    known = {trial.key: trial for trial in trials}
    trial_queue = SimpleNamespace(
        study=study,
        trial=known.__getitem__,
        ended=sorted((trial for trial in trials if trial.state in ENDED), key=lambda trial: trial.sequence or 0),
        num_trials=sum(trial.kind == "trial" for trial in trials),
        num_prepare=sum(trial.kind == "prepare" for trial in trials),
        configurations=[Configuration(number, "", {"spc.graph_neighbors": number + 1}) for number in numbers],
        num_configurations=5,
        running={trial.key for trial in trials if trial.state == RUNNING},
    )
    return SimpleNamespace(
        trial_queue=trial_queue, slots=2, last_epochs={}, started_at={trial.key: time.monotonic() for trial in trials}
    )


def test_settings_that_are_not_drawn_yet_count_towards_the_total() -> None:
    # One setting with two seeds is drawn; four more will have two trials each.
    snapshot = LaunchProgress(_state([_trial("a", 0, 0, RUNNING), _trial("b", 0, 1, PENDING)])).snapshot()
    assert (snapshot.total, snapshot.done, snapshot.failed) == (10, 0, 0)


def test_a_running_trial_has_its_stage_and_epoch() -> None:
    state = _state([_trial("a", 0, 1, RUNNING)])
    state.last_epochs["a"] = EpochRecord("spc", 3, 15, {})
    (running,) = LaunchProgress(state).snapshot().running
    assert (running.label, running.slot, running.epoch, running.total) == ("k2=1 seed 1", "spc", 3, 15)


def test_shared_stages_run_under_their_own_name() -> None:
    snapshot = LaunchProgress(
        _state([_trial("p", None, 0, RUNNING), _trial("q", None, 1, DONE, sequence=1)])
    ).snapshot()
    assert snapshot.running[0].label == "shared stages seed 0"
    assert (snapshot.prepared, snapshot.prepare) == (1, 2)


def test_trials_that_ended_come_in_the_order_of_ending() -> None:
    trials = [_trial("a", 0, 0, DONE, -1.0, sequence=2), _trial("b", 0, 1, FAILED, sequence=1)]
    assert LaunchProgress(_state(trials)).snapshot().ended == (
        Ended("k2=1 seed 1", 1, 10, "failed", {}, 3.0, "OSError: disk"),
        Ended("k2=1 seed 0", 2, 10, "done", {OBJECTIVE: -1.0, "acc": 0.5}, 4.0),
    )


def test_trials_of_an_earlier_run_of_the_command_are_counted_and_not_said_again() -> None:
    state = _state([_trial("a", 0, 0, DONE, sequence=1), _trial("b", 0, 1, DONE, sequence=2)])
    del state.started_at["a"]
    snapshot = LaunchProgress(state).snapshot()
    assert (snapshot.done, [each.place for each in snapshot.ended]) == (2, [2])


def test_what_ended_stays_where_it_was_in_the_list() -> None:
    trials = [_trial("a", 0, 0, DONE, sequence=2), _trial("b", 0, 1, RUNNING)]
    state = _state(trials)
    progress = LaunchProgress(state)
    first = progress.snapshot().ended
    state.trial_queue.ended.append(_trial("b", 0, 1, DONE, sequence=3))
    assert progress.snapshot().ended[:1] == first
    assert len(progress.snapshot().ended) == 2


def test_a_trial_that_ends_again_is_counted_once() -> None:
    # A trial over its time is failed, and its result may come a moment later.
    state = _state([_trial("a", 0, 0, FAILED, sequence=1)])
    progress = LaunchProgress(state)
    assert (progress.snapshot().done, progress.snapshot().failed) == (0, 1)
    state.trial_queue.ended.append(_trial("a", 0, 0, DONE, -3.0, sequence=2))
    snapshot = progress.snapshot()
    assert (snapshot.done, snapshot.failed, len(snapshot.ended)) == (1, 0, 1)
    assert snapshot.best is not None
    assert snapshot.best.mean == -3.0


def test_a_setting_with_a_stopped_seed_is_not_the_best() -> None:
    state = _state([_trial("a", 0, 0, DONE, -9.0, sequence=1), _trial("b", 1, 0, DONE, -1.0, sequence=2)])
    progress = LaunchProgress(state)
    first = progress.snapshot().best
    state.trial_queue.ended.append(_trial("c", 0, 1, PRUNED, sequence=3))
    second = progress.snapshot().best
    assert first is not None
    assert second is not None
    assert (first.mean, second.mean) == (-9.0, -1.0)


def test_counts_are_by_state_and_stages_by_how_they_came() -> None:
    stages = [StageRecord("pretext", "simclr", "a", True, 0.0), StageRecord("spc", "spc", "b", False, 1.0)]
    done = replace(_trial("a", 0, 0, DONE, sequence=1), stages=stages)
    state = _state([done, _trial("b", 0, 1, RUNNING), _trial("c", 1, 0, PENDING), _trial("p", None, 0, RUNNING)])
    states, found = LaunchProgress(state).counts()
    assert states == {DONE: 1, FAILED: 0, PRUNED: 0, COLLAPSED: 0, RUNNING: 1, PENDING: 1}
    assert found == {"cached": 1, "computed": 1}


@pytest.mark.parametrize(("mode", "label"), [("min", "k2=2"), ("max", "k2=1")])
def test_the_best_setting_has_the_best_mean(mode: str, label: str) -> None:
    trials = [_trial("a", 0, 0, DONE, -1.0), _trial("b", 1, 0, DONE, -2.0), _trial("c", 1, 1, DONE, -4.0)]
    best = LaunchProgress(_state(trials, mode)).snapshot().best
    assert best is not None
    assert best.label == label
    if mode == "min":
        # Mean -3, squares 1 + 1 over n - 1 = 1.
        assert best == Best("k2=2", OBJECTIVE, -3.0, pytest.approx(2**0.5), 2)


def test_time_left_is_the_mean_over_what_is_left_and_the_slots() -> None:
    # Mean 4 s, 6 left, 2 at a time.
    assert time_left_s(4.0, 6, 2) == 12.0


def test_time_left_is_unknown_before_the_first_trial_is_done() -> None:
    assert time_left_s(None, 6, 2) is None


def test_a_look_costs_what_has_ended_since_the_last_one() -> None:
    trials = [_trial(str(number), number // 2, number % 2, DONE, -1.0, sequence=number) for number in range(1000)]
    state = _state(trials)
    progress = LaunchProgress(state)
    progress.snapshot()
    # Whoever looked at a trial once more would find it changed.
    state.trial_queue.ended[:] = [replace(trial, state=FAILED) for trial in trials]
    state.trial_queue.ended.append(_trial("new", 500, 0, DONE, -1.0, sequence=1001))
    snapshot = progress.snapshot()
    assert (snapshot.done, snapshot.failed) == (1001, 0)
