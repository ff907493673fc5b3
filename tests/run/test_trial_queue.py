"""What runs next and what becomes of it: the same settings whatever ends first, after any restart, each trial once."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from platform.ledger.ledger import Ledger
from platform.ledger.rows import DONE, FAILED, PENDING
from platform.run.trial_queue import TrialQueue
from platform.study.plan import shared_parts
from platform.study.study import Study
from typing import Any

import pytest

from trainables.runner.messages import Done, EpochRecord

MakeStudy = Callable[[str], Study]
MakeQueue = Callable[..., TrialQueue]

SEARCH = """\
    method: spc
    seeds: [0, 1]
    search:
      spc.strong_threshold: {uniform: [0.5, 0.99]}
      spc.graph_neighbors: {choice: [5, 20]}
    sampler: {name: tpe, seed: 3, startup: 3}
    trials: 9
    objective: {metric: spc/selection_loss, mode: min}
    """

FINITE = """\
    method: spc
    search:
      spc.graph_neighbors: {choice: [5, 20]}
      spc.mix: {choice: [hierarchical, code]}
    sampler: random
    trials: 30
    """

ABLATION = """\
    method: spc
    seeds: [0, 1]
    ablate:
      whole: {}
      "mixed as in the code": {spc.mix: code}
      "without balance": {scan.entropy_weight: 0.0}
    """


def value(trial_spec: Mapping[str, Any]) -> float:
    """A loss that a trial's settings decide, as if it had been trained."""
    return abs(float(trial_spec["changes"].get("spc.strong_threshold", 0.0)) - 0.8) + 0.01 * int(trial_spec["seed"])


def end(trial_queue: TrialQueue, key: str, trial_spec: Mapping[str, Any]) -> None:
    metrics = {} if trial_spec["kind"] == "prepare" else {"spc/selection_loss": value(trial_spec)}
    trial_queue.on_done(key, Done(metrics, [], 1.0))


def play(trial_queue: TrialQueue, chance: random.Random, slots: int = 4, ends: int = 10_000) -> list[str]:
    """Run a queue: fill the slots, end one of the running trials drawn by ``chance``, at most ``ends`` times."""
    running: dict[str, Mapping[str, Any]] = {}
    out: list[str] = []
    for _ in range(ends):
        while len(running) < slots and (found := trial_queue.next()) is not None:
            key, trial_spec = found
            trial_queue.on_start(key)
            running[key] = trial_spec
            out.append(key)
        if not running:
            break
        key = chance.choice(sorted(running))
        end(trial_queue, key, running.pop(key))
    return out


def proposed(trial_queue: TrialQueue) -> list[Mapping[str, Any]]:
    return [configuration.params for configuration in trial_queue.configurations]


@pytest.fixture
def reference(make_study: MakeStudy, make_queue: MakeQueue) -> list[Mapping[str, Any]]:
    """What one slot proposes, whose trials end in order."""
    trial_queue = make_queue(make_study(SEARCH), "reference.db")
    play(trial_queue, random.Random(0), slots=1)
    assert trial_queue.finished
    return proposed(trial_queue)


@pytest.mark.parametrize("order", range(6))
def test_the_settings_do_not_depend_on_which_trials_end_first(
    make_study: MakeStudy, make_queue: MakeQueue, reference: list[Mapping[str, Any]], order: int
) -> None:
    trial_queue = make_queue(make_study(SEARCH))
    play(trial_queue, random.Random(order), slots=1 + order)
    assert trial_queue.finished
    assert proposed(trial_queue) == reference


@pytest.mark.parametrize("ends", range(1, 20, 3))
def test_the_settings_are_the_same_after_a_restart_at_any_point(
    make_study: MakeStudy, make_queue: MakeQueue, reference: list[Mapping[str, Any]], ends: int
) -> None:
    study = make_study(SEARCH)
    play(make_queue(study), random.Random(1), ends=ends)
    # The first driver is gone, with trials running; a new one opens the same ledger.
    trial_queue = make_queue(study)
    play(trial_queue, random.Random(2))
    assert trial_queue.finished
    assert proposed(trial_queue) == reference


def test_a_driver_restarted_after_every_trial_proposes_the_same(
    make_study: MakeStudy, make_queue: MakeQueue, reference: list[Mapping[str, Any]]
) -> None:
    study = make_study(SEARCH)
    for _ in range(50):
        trial_queue = make_queue(study)
        if trial_queue.finished:
            break
        play(trial_queue, random.Random(3), ends=1)
    assert trial_queue.finished
    assert proposed(trial_queue) == reference


def test_a_queue_made_again_writes_nothing(make_study: MakeStudy, make_queue: MakeQueue, tmp_path: Path) -> None:
    # Ten thousand settings that are done already would be ten thousand waits for the disk.
    study = make_study(SEARCH)
    play(make_queue(study), random.Random(1))
    ledger = Ledger(tmp_path / "l.db")
    launch = ledger.open_launch(study.name, {}, {}, lookahead=3)
    written: list[str] = []
    ledger._connection.set_trace_callback(written.append)  # noqa: SLF001 - what it asks of SQLite is the point
    trial_queue = TrialQueue(
        ledger, launch, study, fingerprints={"fingerprint": "f"}, shared=shared_parts(study), storage="/s"
    )
    assert trial_queue.finished
    assert [text for text in written if not text.startswith("SELECT")] == []


def test_what_has_ended_is_known_in_its_order_also_after_a_restart(
    make_study: MakeStudy, make_queue: MakeQueue
) -> None:
    study = make_study(SEARCH)
    first = make_queue(study)
    play(first, random.Random(1), ends=9)
    again = make_queue(study)
    assert [trial.key for trial in first.ended] == [trial.key for trial in again.ended]
    assert len(again.ended) == 9
    play(again, random.Random(2))
    assert len(again.ended) == len(again.trials) == again.num_trials + again.num_prepare
    assert [trial.sequence for trial in again.ended] == sorted(trial.sequence or 0 for trial in again.trials)


def test_a_trial_that_is_done_is_never_handed_out_again(make_study: MakeStudy, make_queue: MakeQueue) -> None:
    study = make_study(SEARCH)
    first = make_queue(study)
    play(first, random.Random(1), ends=11)
    done = {trial.key for trial in first.trials if trial.state == DONE}
    assert len(done) == 11
    again = set(play(make_queue(study), random.Random(2)))
    assert done.isdisjoint(again)


def test_every_trial_is_handed_out_once(make_study: MakeStudy, make_queue: MakeQueue) -> None:
    trial_queue = make_queue(make_study(SEARCH))
    keys = play(trial_queue, random.Random(4))
    # 9 settings with 2 seeds, and one prepare trial a seed.
    assert len(keys) == len(set(keys)) == 9 * 2 + 2


def test_a_setting_is_not_drawn_before_its_lookahead_allows(make_study: MakeStudy, make_queue: MakeQueue) -> None:
    # Setting i needs settings 0 .. i - 3 to have ended: with none ended there are three.
    trial_queue = make_queue(make_study(SEARCH), lookahead=3)
    for key, trial_spec in trial_queue.prepare_trials:
        trial_queue.on_start(key)
        end(trial_queue, key, trial_spec)
    handed = []
    while (found := trial_queue.next()) is not None:
        handed.append(found)
    assert len(trial_queue.configurations) == 3 and len(handed) == 6
    # One seed of setting 0 is not the setting.
    end(trial_queue, *handed[0])
    assert trial_queue.next() is None
    end(trial_queue, *handed[1])
    assert trial_queue.next() is not None
    assert len(trial_queue.configurations) == 4


def test_another_sampler_seed_proposes_other_settings(
    make_study: MakeStudy, make_queue: MakeQueue, reference: list[Mapping[str, Any]]
) -> None:
    trial_queue = make_queue(make_study(SEARCH.replace("seed: 3", "seed: 4")))
    play(trial_queue, random.Random(0))
    assert proposed(trial_queue) != reference


def test_no_setting_is_proposed_twice(reference: list[Mapping[str, Any]]) -> None:
    texts = [str(sorted(params.items())) for params in reference]
    assert len(set(texts)) == len(texts) == 9


def test_a_finite_space_is_exhausted_and_then_finished(make_study: MakeStudy, make_queue: MakeQueue) -> None:
    trial_queue = make_queue(make_study(FINITE))
    play(trial_queue, random.Random(0))
    assert trial_queue.finished
    found = {(params["spc.graph_neighbors"], params["spc.mix"]) for params in proposed(trial_queue)}
    assert found == {(5, "hierarchical"), (5, "code"), (20, "hierarchical"), (20, "code")}
    assert len(proposed(trial_queue)) == 4


def test_settings_that_differ_in_nothing_that_counts_are_one_trial(
    make_study: MakeStudy, make_queue: MakeQueue
) -> None:
    # Where images are mixed within a batch, the scope of the mixing share does not count.
    text = """\
        method: spc
        search:
          spc.mix: {choice: [hierarchical, code]}
          spc.lambda_scope: {choice: [sample, batch]}
        sampler: grid
        """
    trial_queue = make_queue(make_study(text))
    keys = play(trial_queue, random.Random(0))
    assert trial_queue.finished
    assert len(trial_queue.configurations) == 3
    assert len([trial for trial in trial_queue.trials if trial.kind == "trial"]) == 3
    assert len(keys) == len(set(keys)) == 4


def test_rows_of_an_ablation_come_in_the_order_of_the_file(make_study: MakeStudy, make_queue: MakeQueue) -> None:
    trial_queue = make_queue(make_study(ABLATION))
    play(trial_queue, random.Random(5))
    assert [configuration.variant for configuration in trial_queue.configurations] == [
        "whole",
        "mixed as in the code",
        "without balance",
    ]
    assert trial_queue.finished


def test_a_study_without_search_is_one_setting_with_every_seed(make_study: MakeStudy, make_queue: MakeQueue) -> None:
    trial_queue = make_queue(make_study("method: spc\nseeds: [0, 1, 2]\n"))
    play(trial_queue, random.Random(0))
    assert trial_queue.finished
    assert [(trial.kind, trial.seed) for trial in trial_queue.trials] == [("trial", 0), ("trial", 1), ("trial", 2)]


# Prepare


def test_no_trial_starts_before_its_seed_is_prepared(make_study: MakeStudy, make_queue: MakeQueue) -> None:
    trial_queue = make_queue(make_study(SEARCH))
    first, second = trial_queue.next(), trial_queue.next()
    assert first is not None and second is not None
    assert [first[1]["kind"], second[1]["kind"]] == ["prepare", "prepare"]
    assert trial_queue.next() is None
    end(trial_queue, *first)
    trial = trial_queue.next()
    assert trial is not None
    assert (trial[1]["kind"], trial[1]["seed"]) == ("trial", first[1]["seed"])


def test_a_prepare_trial_ends_at_the_last_stage_that_nothing_touches(
    make_study: MakeStudy, make_queue: MakeQueue
) -> None:
    ((_, first), (_, second)) = make_queue(make_study(SEARCH)).prepare_trials
    assert (first["until"], second["until"]) == ("scan", "scan")


def test_a_failed_prepare_fails_its_seed_s_trials_with_the_reason(make_study: MakeStudy, make_queue: MakeQueue) -> None:
    trial_queue = make_queue(make_study(SEARCH))
    found = trial_queue.next()
    assert found is not None
    key, trial_spec = found
    trial_queue.on_start(key)
    trial_queue.on_failed(key, "Diverged: pretext: loss is nan")
    play(trial_queue, random.Random(0))
    assert trial_queue.finished
    trials = [trial for trial in trial_queue.trials if trial.kind == "trial"]
    mine = [trial for trial in trials if trial.seed == trial_spec["seed"]]
    others = [trial for trial in trials if trial.seed != trial_spec["seed"]]
    assert len(mine) == len(others) == 9
    assert {trial.state for trial in mine} == {FAILED}
    assert {trial.error for trial in mine} == {
        f"the stages shared by seed {trial_spec['seed']} failed: Diverged: pretext: loss is nan"
    }
    assert {trial.state for trial in others} == {DONE}


def test_when_every_prepare_fails_the_launch_is_finished_without_a_trial(
    make_study: MakeStudy, make_queue: MakeQueue
) -> None:
    trial_queue = make_queue(make_study(SEARCH))
    for key, _ in trial_queue.prepare_trials:
        trial_queue.on_start(key)
        trial_queue.on_failed(key, "no")
    assert trial_queue.next() is None
    assert trial_queue.finished


def test_a_new_driver_tries_failed_trials_again(make_study: MakeStudy, make_queue: MakeQueue) -> None:
    study = make_study(SEARCH)
    first = make_queue(study)
    for key, _ in first.prepare_trials:
        first.on_start(key)
        first.on_failed(key, "no")
    assert first.next() is None
    trial_queue = make_queue(study)
    assert {trial.state for trial in trial_queue.trials} == {PENDING}
    play(trial_queue, random.Random(0))
    assert {trial.state for trial in trial_queue.trials} == {DONE}


# Failures


def test_a_setting_with_a_failed_seed_counts_with_the_mean_of_the_others(
    make_study: MakeStudy, make_queue: MakeQueue
) -> None:
    trial_queue = make_queue(make_study(SEARCH), lookahead=1)
    for key, trial_spec in trial_queue.prepare_trials:
        trial_queue.on_start(key)
        end(trial_queue, key, trial_spec)
    first, second = trial_queue.next(), trial_queue.next()
    assert first is not None and second is not None
    assert trial_queue.next() is None
    trial_queue.on_failed(first[0], "no")
    end(trial_queue, *second)
    assert trial_queue.next() is not None


def test_a_trial_that_failed_is_not_handed_out_by_the_same_driver(make_study: MakeStudy, make_queue: MakeQueue) -> None:
    trial_queue = make_queue(make_study("method: spc\n"))
    found = trial_queue.next()
    assert found is not None
    trial_queue.on_start(found[0])
    trial_queue.on_failed(found[0], "no")
    assert trial_queue.next() is None
    assert trial_queue.finished


def test_a_setting_without_the_objective_s_metric_does_not_stop_the_search(
    make_study: MakeStudy, make_queue: MakeQueue
) -> None:
    text = """\
        method: spc
        search:
          spc.mix: {choice: [hierarchical, code]}
        objective: {metric: spc/loss, mode: min}
        trials: 2
        """
    trial_queue = make_queue(make_study(text), lookahead=1)
    while (found := trial_queue.next()) is not None:
        key, trial_spec = found
        has_loss = trial_spec["changes"].get("spc.mix") == "code"
        trial_queue.on_start(key)
        trial_queue.on_done(key, Done({"spc/loss": 1.0} if has_loss else {}, [], 1.0))
    assert trial_queue.finished


def test_epochs_are_in_the_ledger_before_the_trial_ends(make_study: MakeStudy, make_queue: MakeQueue) -> None:
    trial_queue = make_queue(make_study("method: spc\n"))
    found = trial_queue.next()
    assert found is not None
    trial_queue.on_start(found[0])
    trial_queue.on_epochs(found[0], [EpochRecord("spc", 1, 2, {"loss": 0.5})])
    (row,) = trial_queue._ledger.epochs(trial_queue.launch.id, found[0])
    assert (row.slot, row.epoch, row.metrics) == ("spc", 1, {"loss": 0.5})
