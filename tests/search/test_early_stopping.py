"""Which trials stop early: the rules by hand, and what becomes of the stopped ones in the queue."""

import math
from collections.abc import Callable
from platform.ledger.aggregate import Objective, mean_curve
from platform.ledger.rows import COLLAPSED, DONE, FAILED, PENDING, PRUNED
from platform.run.launch_state import LaunchState
from platform.run.trial_queue import TrialQueue
from platform.search.early_stopping import EarlyStopping, Progress, brackets, rungs, stop_reason
from platform.study.file_schema import Asha, Hyperband, Median
from platform.study.study import Study
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.runner.messages import Collapsed, Done, EpochRecord, Failed, Report

MakeStudy = Callable[[str], Study]
MakeQueue = Callable[..., TrialQueue]

MIN, MAX = Objective("spc/selection_loss", "min"), Objective("spc/selection_loss", "max")
ASHA = Asha(grace_epochs=1, reduction_factor=3)


def at(value: float, epoch: int = 1, configuration: int = 0, total: int = 10) -> Progress:
    return Progress(configuration, {epoch: value}, total)


def test_rungs_grow_by_the_factor_and_end_before_the_last_epoch() -> None:
    assert rungs(Asha(grace_epochs=2, reduction_factor=3), 0, 18) == [2, 6]
    assert rungs(Asha(grace_epochs=2, reduction_factor=3), 1, 19) == [6, 18]
    assert rungs(Asha(grace_epochs=5, reduction_factor=3), 0, 5) == []


def test_hyperband_has_a_bracket_for_every_rung_and_asha_one() -> None:
    assert brackets(Hyperband(grace_epochs=1, reduction_factor=3), 27) == 3
    assert brackets(Hyperband(grace_epochs=5, reduction_factor=3), 5) == 1
    assert brackets(ASHA, 27) == 1


@pytest.mark.parametrize(
    ("own", "others", "goes_on"),
    [
        (5.0, [], True),  # the first is the best of one
        (5.0, [4.0], False),  # of two, one goes on
        (5.0, [5.0], True),  # ties go on
        (2.0, [1.0, 3.0, 4.0, 5.0, 6.0], True),  # second of six: 6 // 3 = 2 go on
        (2.0, [1.0, 1.5, 4.0, 5.0, 6.0], False),
        (2.0, [1.0, 3.0, 4.0, 5.0], False),  # second of five: 5 // 3 = 1
    ],
)
def test_asha_keeps_the_best_share_of_those_at_the_rung(own: float, others: list[float], goes_on: bool) -> None:
    smaller = stop_reason(ASHA, at(own), [at(value) for value in others], 1, MIN)
    larger = stop_reason(ASHA, at(-own), [at(-value) for value in others], 1, MAX)
    assert (not smaller, not larger) == (goes_on, goes_on)


def test_asha_stops_at_rungs_only_and_never_at_the_last_epoch() -> None:
    better = [Progress(1, dict.fromkeys(range(1, 10), 0.0), 9)]
    own = Progress(0, dict.fromkeys(range(1, 10), 1.0), 9)
    assert [epoch for epoch in range(1, 10) if stop_reason(ASHA, own, better, epoch, MIN)] == [1, 3]


def test_hyperband_compares_within_a_bracket() -> None:
    # Rungs below 10 are 1, 3 and 9: three brackets, so settings 0 and 3 are together and 1 is alone.
    rule = Hyperband(grace_epochs=1, reduction_factor=3)
    assert stop_reason(rule, at(5.0, configuration=0), [at(4.0, configuration=1)], 1, MIN) == ""
    assert stop_reason(rule, at(5.0, configuration=3), [at(4.0, configuration=0)], 1, MIN) != ""
    # Bracket 1 begins at epoch 3.
    assert stop_reason(rule, at(5.0, configuration=4), [at(4.0, configuration=1)], 1, MIN) == ""
    assert stop_reason(rule, at(5.0, 3, configuration=4), [at(4.0, 3, configuration=1)], 3, MIN) != ""


def test_the_median_rule_holds_the_best_value_against_the_others_means() -> None:
    rule = Median(grace_epochs=2, min_trials=3)
    # Means up to epoch 2 are 1, 2 and 3, so the median is 2; what comes later does not count.
    others = [Progress(n, {1: n + 1.0, 2: n - 1.0, 3: -9.0}, 9) for n in (1, 2, 3)]
    assert stop_reason(rule, Progress(0, {1: 2.5, 2: 2.1}, 9), others, 2, MIN) == (
        "the best value 2.1 is worse than 2, the median of 3 trials"
    )
    assert stop_reason(rule, Progress(0, {1: 2.0, 2: 5.0}, 9), others, 2, MIN) == ""
    assert stop_reason(rule, Progress(0, {1: 9.0}, 9), others, 1, MIN) == ""  # within the grace epochs
    assert stop_reason(rule, Progress(0, {1: 9.0, 2: 9.0}, 9), others[:2], 2, MIN) == ""  # too few others


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30), st.integers(2, 5))
def test_the_best_at_a_rung_always_goes_on(values: list[int], factor: int) -> None:
    rule = Asha(grace_epochs=1, reduction_factor=factor)
    best = values.index(min(values))
    others = [at(float(value)) for place, value in enumerate(values) if place != best]
    assert stop_reason(rule, at(float(values[best])), others, 1, MIN) == ""


def test_seeds_are_averaged_where_all_of_them_have_been() -> None:
    assert mean_curve([{1: 1.0, 2: 2.0, 3: 9.0}, {1: 3.0, 2: 4.0}]) == {1: 2.0, 2: 3.0}
    assert mean_curve([]) == {}


PAGE = """\
    method: spc
    seeds: [0, 1]
    search: {spc.strong_threshold: {uniform: [0.5, 0.99]}}
    sampler: random
    trials: 3
    scheduler: asha
    """


def launch_of(trial_queue: TrialQueue, ledger: Any) -> LaunchState:
    return LaunchState(
        trial_queue.launch, trial_queue, 2, early_stopping=EarlyStopping(trial_queue.study, ledger, trial_queue.launch)
    )


def report(state: LaunchState, key: str, epoch: int, value: float) -> bool:
    """Report an epoch; whether the trial stops there."""
    return state.on_report(key, Report([EpochRecord("spc", epoch, 9, {"selection_loss": value})]))


def prepared(trial_queue: TrialQueue) -> None:
    for key, _ in trial_queue.prepare_trials:
        trial_queue.on_start(key)
        trial_queue.on_done(key, Done({}, [], 0.0))


def start(state: LaunchState) -> tuple[str, dict[str, Any]]:
    found = state.trial_queue.next()
    assert found is not None
    state.on_start(found[0])
    return found


def test_a_pruned_trial_keeps_its_last_metrics_and_is_not_run_again(
    make_study: MakeStudy, make_queue: MakeQueue
) -> None:
    study = make_study(PAGE)
    trial_queue = make_queue(study)
    prepared(trial_queue)
    state = launch_of(trial_queue, trial_queue._ledger)
    first, second, other = start(state)[0], start(state)[0], start(state)[0]
    assert trial_queue.trial(first).seed == trial_queue.trial(other).seed != trial_queue.trial(second).seed
    assert not report(state, first, 1, 1.0)
    assert not report(state, second, 1, 5.0)  # of another seed: nothing to compare with
    assert report(state, other, 1, 2.0)
    pruned = trial_queue.trial(other)
    assert (pruned.state, pruned.metrics) == (PRUNED, {"spc/selection_loss": 2.0})
    assert pruned.error == "asha after epoch 1 of spc: selection_loss: 2 is not among the best 1 of 2"
    again = make_queue(study)
    assert again.trial(other).state == PRUNED
    handed = set()
    while (found := again.next()) is not None:
        handed.add(found[0])
    assert other not in handed
    assert {first, second} <= handed


def test_a_restarted_driver_decides_by_the_epochs_in_the_ledger(make_study: MakeStudy, make_queue: MakeQueue) -> None:
    study = make_study(PAGE)
    trial_queue = make_queue(study)
    prepared(trial_queue)
    state = launch_of(trial_queue, trial_queue._ledger)
    first = start(state)[0]
    start(state)
    other = start(state)[0]
    assert not report(state, first, 1, 1.0)
    again = make_queue(study)
    state = launch_of(again, again._ledger)
    assert report(state, other, 1, 2.0)


def test_a_setting_with_a_pruned_seed_is_told_as_pruned(make_study: MakeStudy, make_queue: MakeQueue) -> None:
    trial_queue = make_queue(make_study(PAGE.replace("seeds: [0, 1]", "seeds: [0]")))
    prepared(trial_queue)
    state = launch_of(trial_queue, trial_queue._ledger)
    first, second = start(state)[0], start(state)[0]
    report(state, first, 1, 1.0)
    assert report(state, second, 1, 3.0)
    metrics = {"spc/selection_loss": 0.5}
    trial_queue.on_done(first, Done(metrics, [], 1.0))
    trial_queue._complete()
    completed = [(trial.values, dict(trial.intermediate)) for trial in trial_queue._completed]
    assert completed == [((0.5,), {}), (None, {1: 3.0})]


def test_a_collapsed_trial_has_an_outcome_of_its_own(make_study: MakeStudy, make_queue: MakeQueue) -> None:
    study = make_study(PAGE)
    trial_queue = make_queue(study)
    prepared(trial_queue)
    state = launch_of(trial_queue, trial_queue._ledger)
    key = start(state)[0]
    outcome = Collapsed("spc: collapsed", {"spc/cluster_entropy": 0.0})
    state.on_report(key, Report(outcome=outcome))
    assert (trial_queue.trial(key).state, trial_queue.trial(key).error) == (COLLAPSED, "spc: collapsed")
    assert make_queue(study).trial(key).state == COLLAPSED


def test_after_the_last_allowed_failure_nothing_more_starts(make_study: MakeStudy, make_queue: MakeQueue) -> None:
    study = make_study(PAGE + "max_failures: 2\n")
    trial_queue = make_queue(study)
    prepared(trial_queue)
    state = launch_of(trial_queue, trial_queue._ledger)
    keys = [start(state)[0] for _ in range(3)]
    waiting = (trial_queue.next() or ("",))[0]
    for key in keys[:2]:
        state.on_report(key, Report(outcome=Failed("no")))
    assert trial_queue.next() is None
    assert trial_queue.halted
    assert not trial_queue.finished  # two are under way
    trial_queue.put_back(waiting)
    trial_queue.on_done(keys[2], Done({}, [], 1.0))
    assert trial_queue.finished
    assert [trial_queue.trial(key).state for key in [*keys, waiting]] == [FAILED, FAILED, DONE, PENDING]
    again = make_queue(study)
    assert not again.finished
    assert again.trial(keys[0]).state == PENDING


@pytest.mark.parametrize(
    "error", ["OSError: [Errno 28] No space left on device", "OSError: [Errno 122] Disk quota exceeded"]
)
def test_a_full_disk_stops_the_sweep_until_there_is_room(
    make_study: MakeStudy, make_queue: MakeQueue, error: str
) -> None:
    # Tune goes on, and every trial of the night fails.
    study = make_study(PAGE)
    trial_queue = make_queue(study)
    prepared(trial_queue)
    state = launch_of(trial_queue, trial_queue._ledger)
    keys = [start(state)[0] for _ in range(2)]
    state.on_report(keys[0], Report(outcome=Failed(error)))
    assert trial_queue.next() is None
    assert trial_queue.halted
    trial_queue.on_done(keys[1], Done({}, [], 1.0))
    assert trial_queue.finished
    again = make_queue(study)  # after room was made, the same command
    assert again.next() is not None
    assert again.trial(keys[0]).state == PENDING


def test_a_failed_shared_stage_counts_as_one_failure(make_study: MakeStudy, make_queue: MakeQueue) -> None:
    trial_queue = make_queue(make_study(PAGE + "max_failures: 2\n"))
    key = (trial_queue.next() or ("",))[0]
    trial_queue.on_start(key)
    trial_queue.on_failed(key, "no")
    assert trial_queue.num_failures == 1


def test_trials_say_how_they_are_watched(make_study: MakeStudy, make_queue: MakeQueue) -> None:
    page = PAGE + "guard: {collapse: {patience_epochs: 2}}\n    time_limit: 20m\n"
    trial_queue = make_queue(make_study(page))
    prepared(trial_queue)
    _, trial_spec = trial_queue.next() or ("", {})
    assert trial_spec["watched_slot"] == "spc"
    assert trial_spec["collapse"] == {"min_entropy_share": 0.1, "max_empty_clusters": None, "patience_epochs": 2}
    assert math.isclose(trial_spec["time_limit_s"], 1200)
