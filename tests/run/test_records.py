"""What is said of a trial, worked out by hand from ledger rows."""

import math
from pathlib import Path
from platform.run import records
from platform.run.records import Point
from platform.run.rows import DONE, FAILED, RUNNING, EpochRow, Setting, Trial
from typing import Any

import pytest

CELL = {
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
STAGE = {"slot": "spc", "name": "spc", "address": "a1", "cached": False, "seconds": 1.0}


def trial(state: str = DONE, **changed: Any) -> Trial:
    values: dict[str, Any] = dict(
        key="k", kind="trial", setting=0, seed=1, state=state, cell=CELL, attempts=1, worker={}, metrics={},
        stages=[STAGE], error="", started=1.0, ended=2.0, seconds=1.0, sequence=1,
    )  # fmt: skip
    return Trial(**(values | changed))


def epoch(number: int, **metrics: float) -> EpochRow:
    return EpochRow(number, "k", "spc", number, 3, metrics, 10.0 + number)


def test_an_epochs_points_carry_the_slot_and_the_time_in_milliseconds() -> None:
    assert records.epoch_points(epoch(2, loss=0.5)) == [Point("spc/loss", 0.5, 2, 12_000)]


def test_what_is_not_finite_is_left_out() -> None:
    assert records.epoch_points(epoch(1, loss=math.nan, acc=math.inf, nmi=0.5)) == [Point("spc/nmi", 0.5, 1, 11_000)]


def test_a_final_value_that_the_last_epoch_had_is_not_repeated() -> None:
    rows = [epoch(1, loss=2.0, acc=0.1), epoch(2, loss=1.0, acc=0.2)]
    found = records.final_points(trial(metrics={"spc/loss": 1.0, "spc/acc": 0.5}), rows)
    assert found == [Point("spc/acc", 0.5, 3, 2_000)]


def test_the_seed_alone_does_not_change_the_config_id() -> None:
    assert records.config_id(CELL) == records.config_id({**CELL, "seed": 2})


@pytest.mark.parametrize("change", [{"changes": {"spc.strong_threshold": 0.95}}, {"fingerprint": "f1"}])
def test_a_setting_or_the_images_change_the_config_id(change: dict[str, Any]) -> None:
    assert records.config_id(CELL) != records.config_id({**CELL, **change})


def test_parameters_stop_at_the_last_stage_that_is_walked() -> None:
    slots = {name.partition(".")[0] for name in records.parameters({**CELL, "until": "neighbors"}) if "." in name}
    assert slots == {"dataset", "pretext", "neighbors"}


def test_true_and_false_stand_as_in_a_study_file() -> None:
    assert records.parameters(CELL)["spc.refine"] == "true"


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
    assert records.status(found) == expected


def test_the_baseline_is_the_row_that_changes_nothing() -> None:
    rows = [Setting(0, "DEC", {"a.b": 1}), Setting(1, "full", {}), Setting(2, "none", {"a.b": 2})]
    assert records.baseline(rows) == "full"


def test_without_such_a_row_the_baseline_is_the_first() -> None:
    assert records.baseline([Setting(0, "DEC", {"a.b": 1}), Setting(1, "+ x", {"a.b": 2})]) == "DEC"


def test_a_search_has_no_baseline() -> None:
    assert records.baseline([Setting(0, "", {"a.b": 1})]) == ""


def test_an_ablation_row_names_its_run() -> None:
    assert records.trial_name(trial(), Setting(0, "+ correction", {})) == "+ correction · seed 1"


def test_figures_are_those_of_the_last_stage(tmp_path: Path) -> None:
    for name in ("scan-a0", "spc-a1"):
        folder = tmp_path / "stages" / name / "figures"
        folder.mkdir(parents=True)
        (folder / "clusters.png").touch()
    stages = [{**STAGE, "name": "scan", "address": "a0"}, STAGE]
    found = records.figures(trial(cell={**CELL, "storage": str(tmp_path)}, stages=stages))
    assert [file.relative_to(tmp_path).as_posix() for file in found] == ["stages/spc-a1/figures/clusters.png"]


def test_counts_leave_out_prepare_cells_and_trials_that_never_began() -> None:
    waiting = trial("PENDING", attempts=0)
    found = [trial(), trial(FAILED), trial(RUNNING), waiting, trial(kind="prepare")]
    assert records.counts(found) == {"done": 1, "failed": 1, "unfinished": 1}
