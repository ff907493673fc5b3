"""What is said of a trial, worked out by hand from ledger rows."""

import math
from dataclasses import replace
from pathlib import Path
from platform.ledger.rows import DONE, FAILED, RUNNING, Configuration, EpochRow, Trial
from platform.tracking import run_metadata
from platform.tracking.run_metadata import Point
from typing import Any

import pytest

from trainables.runner.messages import StageRecord

TRIAL_SPEC = {
    "kind": "trial",
    "method": "spc",
    "pretext": "",
    "changes": {"spc.strong_threshold": 0.9},
    "dataset": {"name": "digits"},
    "fingerprint": "f0",
    "seed": 1,
    "until": "",
    "storage": "/nowhere",
    "threads": 1,
}
STAGE = StageRecord("spc", "spc", "a1", cached=False, seconds=1.0)


def trial(state: str = DONE, **changed: Any) -> Trial:
    values: dict[str, Any] = dict(
        key="k", kind="trial", configuration=0, seed=1, state=state, trial_spec=TRIAL_SPEC, attempts=1, worker={},
        metrics={}, stages=[STAGE], error="", started=1.0, ended=2.0, seconds=1.0, sequence=1,
    )  # fmt: skip
    return Trial(**(values | changed))


def epoch(number: int, **metrics: float) -> EpochRow:
    return EpochRow(number, "k", "spc", number, 3, metrics, 10.0 + number)


def test_an_epochs_points_carry_the_slot_and_the_time_in_milliseconds() -> None:
    assert run_metadata.epoch_points(epoch(2, loss=0.5)) == [Point("spc/loss", 0.5, 2, 12_000)]


def test_what_is_not_finite_is_left_out() -> None:
    assert run_metadata.epoch_points(epoch(1, loss=math.nan, acc=math.inf, nmi=0.5)) == [
        Point("spc/nmi", 0.5, 1, 11_000)
    ]


def test_a_final_value_that_the_last_epoch_had_is_not_repeated() -> None:
    rows = [epoch(1, loss=2.0, acc=0.1), epoch(2, loss=1.0, acc=0.2)]
    found = run_metadata.final_points(trial(metrics={"spc/loss": 1.0, "spc/acc": 0.5}), rows)
    assert found == [Point("spc/acc", 0.5, 3, 2_000)]


def test_the_seed_alone_does_not_change_the_config_id() -> None:
    assert run_metadata.config_id(TRIAL_SPEC) == run_metadata.config_id({**TRIAL_SPEC, "seed": 2})


@pytest.mark.parametrize("change", [{"changes": {"spc.strong_threshold": 0.95}}, {"fingerprint": "f1"}])
def test_a_setting_or_the_images_change_the_config_id(change: dict[str, Any]) -> None:
    assert run_metadata.config_id(TRIAL_SPEC) != run_metadata.config_id({**TRIAL_SPEC, **change})


def test_parameters_stop_at_the_last_stage_that_is_walked() -> None:
    slots = {
        name.partition(".")[0] for name in run_metadata.parameters({**TRIAL_SPEC, "until": "neighbors"}) if "." in name
    }
    assert slots == {"dataset", "pretext", "neighbors"}


def test_true_and_false_stand_as_in_a_study_file() -> None:
    assert run_metadata.parameters(TRIAL_SPEC)["spc.intersection_requires_label_agreement"] == "false"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (trial(), "ok"),
        (trial(metrics={"spc/cluster_share_max": 0.995}), "collapsed"),
        (trial(metrics={"scan/cluster_share_max": 0.995}), "ok"),
        (trial(FAILED, error="Diverged: loss is nan"), "failed"),
        (trial(FAILED, error="OutOfMemoryError: CUDA out of memory"), "oom"),
        (trial(RUNNING), "interrupted"),
    ],
    ids=["ok", "collapsed", "collapsed_before_the_last_stage", "failed", "oom", "interrupted"],
)
def test_status(found: Trial, expected: str) -> None:
    assert run_metadata.status(found) == expected


def test_the_baseline_is_the_row_that_changes_nothing() -> None:
    rows = [Configuration(0, "DEC", {"a.b": 1}), Configuration(1, "full", {}), Configuration(2, "none", {"a.b": 2})]
    assert run_metadata.baseline(rows) == "full"


def test_without_such_a_row_the_baseline_is_the_first() -> None:
    assert run_metadata.baseline([Configuration(0, "DEC", {"a.b": 1}), Configuration(1, "+ x", {"a.b": 2})]) == "DEC"


def test_a_search_has_no_baseline() -> None:
    assert run_metadata.baseline([Configuration(0, "", {"a.b": 1})]) == ""


def test_an_ablation_row_names_its_run() -> None:
    assert run_metadata.trial_name(trial(), Configuration(0, "+ correction", {})) == "+ correction · seed 1"


def test_figures_are_those_of_the_last_stage(tmp_path: Path) -> None:
    for name in ("scan-a0", "spc-a1"):
        folder = tmp_path / "stages" / name / "figures"
        folder.mkdir(parents=True)
        (folder / "clusters.png").touch()
    stages = [replace(STAGE, name="scan", address="a0"), STAGE]
    found = run_metadata.figures(trial(trial_spec={**TRIAL_SPEC, "storage": str(tmp_path)}, stages=stages))
    assert [file.relative_to(tmp_path).as_posix() for file in found] == ["stages/spc-a1/figures/clusters.png"]


def test_counts_leave_out_shared_stages_and_trials_that_never_began() -> None:
    waiting = trial("PENDING", attempts=0)
    found = [trial(), trial(FAILED), trial(RUNNING), waiting, trial(kind="prepare")]
    assert run_metadata.counts(found) == {"done": 1, "failed": 1, "unfinished": 1}
