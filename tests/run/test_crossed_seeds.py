"""A study that crosses pretext and method seeds: shared pretexts, its tables, and where the variance lies."""

from collections.abc import Callable
from platform.reports import content, json_view, writer
from platform.reports.summarize import summarize
from platform.run.trial_queue import TrialQueue
from platform.study.errors import StudyErrors
from platform.study.plan import rows
from platform.study.resolved import resolved
from platform.study.study import Study
from platform.tracking.run_metadata import parameters, trial_name
from typing import Any

import pytest

from trainables import seeds
from trainables.runner import pipeline_runner
from trainables.runner.messages import Done

MakeStudy = Callable[[str], Study]

PAGE = """\
    method: spc
    seeds: {pretext: [0, 1], method: [0, 1, 2]}
    search: {spc.graph_neighbors: [5, 20]}
    sampler: grid
    objective: {metric: spc/selection_loss, mode: min}
    """


def test_each_setting_runs_with_every_pair(make_study: MakeStudy) -> None:
    study = make_study(PAGE)
    assert [seeds.parts(seed) for seed in study.seeds] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert resolved(study)["seeds"] == {"pretext": [0, 1], "method": [0, 1, 2]}
    assert "trials     2 settings x 6 seeds = 12" in rows(study)


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("{pretext: [0]}", "must be a list, or lists under pretext and method"),
        ("{pretext: [0], method: 1}", "must be a list, or lists under pretext and method"),
        ("{pretext: [], method: [1]}", "must be whole numbers from 0 to 2147483647, at least one"),
        ("{pretext: [a], method: [1]}", "must be whole numbers from 0 to 2147483647, at least one"),
        ("{pretext: [0, 0], method: [1]}", "must differ from each other, but 0/1 stands twice"),
        ("[2147483648]", "must be whole numbers from 0 to 2147483647, at least one"),
    ],
)
def test_what_is_wrong_is_named(make_study: MakeStudy, written: str, fault: str) -> None:
    with pytest.raises(StudyErrors, match="page.yaml:2: seeds") as caught:
        make_study(PAGE.replace("{pretext: [0, 1], method: [0, 1, 2]}", written))
    assert fault in str(caught.value)


def finished(make_study: MakeStudy, make_queue: Callable[..., TrialQueue], page: str = PAGE) -> TrialQueue:
    """Every trial done, with an accuracy that the pretext's seed decides nearly alone."""
    trial_queue = make_queue(make_study(page))
    while (found := trial_queue.next()) is not None:
        key, trial_spec = found
        pretext, method = seeds.parts(trial_spec["seed"])
        acc = 0.5 + 0.2 * pretext + 0.001 * method
        trial_queue.on_start(key)
        trial_queue.on_done(key, Done({"spc/selection_loss": -acc, "acc": acc}, [], 1.0))
    return trial_queue


def test_pretexts_are_shared_by_all_method_seeds(make_study: MakeStudy, make_queue: Callable[..., TrialQueue]) -> None:
    # Nothing before spc is searched; SCAN has the method's seed, so it is shared by settings and not by seeds.
    trial_queue = finished(make_study, make_queue)
    trials = [trial for trial in trial_queue.trials if trial.kind == "trial"]
    prepare = [trial for trial in trial_queue.trials if trial.kind == "prepare"]
    assert (len(trials), len(prepare)) == (12, 6)
    # Where SCAN is searched, the pretext and its neighbors are shared by seeds too, k-means beside them is not.
    other = finished(
        make_study, make_queue, PAGE.replace("spc.graph_neighbors: [5, 20]", "scan.optimizer.lr: [0.001, 0.01]")
    )
    shared = [pipeline_runner.addresses(trial.trial_spec) for trial in other.trials if trial.kind == "prepare"]
    counts = {slot: len({each[slot] for each in shared}) for slot in shared[0]}
    assert counts == {"pretext": 2, "neighbors": 2, "kmeans": 6}
    assert other.finished


def test_both_seeds_are_shown(make_study: MakeStudy, make_queue: Callable[..., TrialQueue]) -> None:
    trial_queue = finished(make_study, make_queue)
    trial = next(each for each in trial_queue.trials if each.kind == "trial" and seeds.parts(each.seed) == (1, 2))
    assert trial_name(trial, trial_queue.configurations[0]).endswith("seed 1/2")
    told = parameters(trial.trial_spec)
    assert (told["pretext_seed"], told["seed"]) == ("1", "2")
    table = writer.trials_csv(trial_queue.configurations, [each for each in trial_queue.trials if each.kind == "trial"])
    assert table.splitlines()[0].startswith("id,setting,variant,pretext_seed,seed,status")


def summarized(trial_queue: TrialQueue, study: Study) -> Any:
    ledger = trial_queue._ledger
    launch = ledger.open_launch("again", {}, resolved(study), lookahead=3)
    copy = TrialQueue(ledger, launch, study, fingerprints={"fingerprint": "f"}, shared=(), storage=".")
    while (found := copy.next()) is not None:
        key, trial_spec = found
        known = next(
            each
            for each in trial_queue.trials
            if each.kind == "trial" and each.trial_spec["seed"] == trial_spec["seed"]
        )
        copy.on_start(key)
        copy.on_done(key, Done(known.metrics, [], 1.0))
    return ledger, launch


def test_the_report_says_where_the_variance_lies(make_study: MakeStudy, make_queue: Callable[..., TrialQueue]) -> None:
    ledger, launch = summarized(finished(make_study, make_queue), make_study(PAGE))
    summary = summarize(ledger, launch.id)
    assert summary.best is not None and (summary.best.done, summary.best.wanted) == (6, 6)
    assert any("100 % between pretext seeds, 0 % between method seeds" in line for line in content.headline(summary))
    trial = json_view.as_json(summary, {}, {}, {})["trials"][4]
    assert (trial["pretext_seed"], trial["seed"]) == (1, 1)
