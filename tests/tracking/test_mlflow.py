"""The tracker with the real MLflow on SQLite, with a server that is not there, and killed in the middle."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from platform.ledger.ledger import Ledger
from platform.ledger.rows import Configuration, Launch
from platform.tracking.mlflow import Tracker
from typing import Any

import numpy as np
import pytest
import torch

from trainables.nets import backbones, models
from trainables.runner.messages import EpochRecord, StageRecord

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
DEAD = "http://127.0.0.1:9"
RESOLVED = {"method": "spc", "objective": {"metric": "spc/selection_loss", "mode": "min"}, "trials": 2}
FACTS = {"commit": "abc1234", "dirty": True, "host": "node7", "versions": {"torch": "2.15.0", "ray": "2.60.0"}}


def trial_spec(storage: Path, kind: str = "trial", threshold: float = 0.95) -> dict[str, Any]:
    return {
        "kind": kind,
        "method": "spc",
        "pretext": "",
        "changes": {"spc.strong_threshold": threshold} if kind == "trial" else {},
        "dataset": {"name": "digits", "root": "/somewhere/data"},
        "fingerprint": "f0",
        "seed": 1,
        "until": "scan" if kind == "prepare" else "",
        "storage": str(storage),
        "threads": 1,
    }


def open_launch(ledger: Ledger, storage: Path) -> Launch:
    """A prepare cell and two trials, still to be run."""
    launch = ledger.open_launch("digits_spc", {}, RESOLVED, lookahead=2, facts=FACTS)
    ledger.add_trials(launch.id, [("prep", trial_spec(storage, "prepare"))])
    for number, threshold in enumerate((0.9, 0.95)):
        ledger.add_configuration(launch.id, Configuration(number, "", {"spc.strong_threshold": threshold}))
        ledger.add_trials(launch.id, [(f"key{number}", trial_spec(storage, threshold=threshold))], configuration=number)
    return launch


def run_trial(ledger: Ledger, launch: Launch, key: str, epochs: int = 3) -> None:
    ledger.start(launch.id, key)
    rows = [EpochRecord("spc", n, epochs, {"loss": 1.0 / n, "acc": 0.1 * n}) for n in range(1, epochs + 1)]
    ledger.add_epochs(launch.id, key, rows)
    stages = [
        StageRecord("scan", "scan", "a0", cached=True, seconds=0.0),
        StageRecord("spc", "spc", "a1", cached=False, seconds=1.0),
    ]
    ledger.finish(launch.id, key, {"spc/loss": 0.25, "acc": 0.5}, stages, 1.0, {"host": "node9", "device": "cpu"})


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Whether something comes to hold in time."""
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return holds()


def client(tracker: Tracker) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracker.ids()["uri"])


def runs_of(tracker: Tracker) -> dict[str, Any]:
    """Trial key (or "parent") -> run; no key twice."""
    found = client(tracker).search_runs([tracker.ids()["experiment_id"]], max_results=1000)
    by_key = {run.data.tags["clustersweep.key"]: run for run in found}
    assert len(by_key) == len(found), "a trial has two runs"
    return by_key


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracker]:
    """A launch with one trial done, one failed and its prepare cell interrupted, as MLflow has it after close."""
    storage = tmp_path_factory.mktemp("runs")
    figures = storage / "stages" / "spc-a1" / "figures"
    figures.mkdir(parents=True)
    (figures / "confusion.png").write_bytes(b"a picture")
    report = storage / "report.md"
    report.write_text("# Report")
    ledger = Ledger(storage / "ledger.db")
    launch = open_launch(ledger, storage)
    ledger.start(launch.id, "prep")
    run_trial(ledger, launch, "key0")
    ledger.start(launch.id, "key1")
    ledger.fail(launch.id, "key1", "torch.OutOfMemoryError: CUDA out of memory")
    ledger.close_launch(launch.id, "interrupted")
    tracker = Tracker(ledger.place, storage, launch.id)
    tracker.start()
    tracker.log_parent([report], "best: **δ=0.9**", {"best/acc": 0.5})
    tracker.log_best_model("key0", classifier, np.zeros((1, 1, 8, 8), np.float32))
    assert not tracker.close(60)
    assert tracker.model_error == ""
    yield tracker
    ledger.close()


def classifier() -> torch.nn.Module:
    backbone = backbones.build("small", in_channels=1, image_size_px=8, seed=0)
    torch.manual_seed(0)
    return models.ClusterClassifier(backbone, torch.nn.Linear(backbone.width, 10), [0.5], [0.5])


def test_a_model_that_cannot_be_built_is_said_once_and_is_no_error_of_the_tracker_s(finished: Tracker) -> None:
    def build() -> torch.nn.Module:
        raise RuntimeError("Missing key(s): 0.weight")

    again = Tracker(finished._place, finished._storage, finished._launch)
    again.start()
    again.log_best_model("key0", build, np.zeros((1, 1, 8, 8), np.float32))
    assert not again.close(60)
    assert again.model_error == (
        "No model of the best trial is logged: it could not be built: Missing key(s): 0.weight."
    )


def test_a_study_is_an_experiment_and_a_launch_a_parent_run(finished: Tracker) -> None:
    parent = runs_of(finished)["parent"]
    assert client(finished).get_experiment(parent.info.experiment_id).name == "digits_spc"
    assert parent.info.run_id == finished.ids()["parent_run_id"]
    assert parent.info.run_name == "digits_spc #1"


def test_children_read_well(finished: Tracker) -> None:
    names = {key: run.info.run_name for key, run in runs_of(finished).items() if key != "parent"}
    assert names == {"prep": "prepare · seed 1", "key0": "δ=0.9 · seed 1", "key1": "δ=0.95 · seed 1"}


def test_no_run_is_left_running(finished: Tracker) -> None:
    states = {key: run.info.status for key, run in runs_of(finished).items()}
    assert states == {"parent": "KILLED", "prep": "KILLED", "key0": "FINISHED", "key1": "FAILED"}


def test_a_child_carries_every_setting_that_counts(finished: Tracker) -> None:
    params = runs_of(finished)["key0"].data.params
    expected = {"spc.strong_threshold": "0.9", "seed": "1", "dataset.name": "digits", "method": "spc"}
    assert expected.items() <= params.items()
    # mix: hierarchical by default, so the size of the labeled part of a batch does not count.
    assert "pretext.epochs" in params and "spc.labeled_batch_size" not in params and "dataset.root" not in params


def test_a_child_carries_where_it_came_from(finished: Tracker) -> None:
    tags = runs_of(finished)["key0"].data.tags
    expected = {
        "mlflow.parentRunId": finished.ids()["parent_run_id"],
        "mlflow.source.git.commit": "abc1234",
        "mlflow.source.name": "platform.sweep",
        "clustersweep.dirty": "true",
        "clustersweep.host": "node9",
        "clustersweep.device": "cpu",
        "clustersweep.versions": "ray 2.60.0, torch 2.15.0",
        "clustersweep.status": "ok",
        "clustersweep.cached": "scan",
        "clustersweep.fingerprint": "f0",
        "clustersweep.objective": "spc/selection_loss min",
    }
    assert expected.items() <= tags.items() and tags["mlflow.user"]


def test_metrics_have_the_epoch_as_step(finished: Tracker) -> None:
    history = client(finished).get_metric_history(runs_of(finished)["key0"].info.run_id, "spc/loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.25)]


def test_out_of_memory_is_told_from_other_failures(finished: Tracker) -> None:
    tags = runs_of(finished)["key1"].data.tags
    assert tags["clustersweep.status"] == "oom"
    assert tags["clustersweep.reason"] == "torch.OutOfMemoryError: CUDA out of memory"


def test_the_last_stages_figures_are_the_runs_artifacts(finished: Tracker) -> None:
    found = client(finished).list_artifacts(runs_of(finished)["key0"].info.run_id, "figures")
    assert [artifact.path for artifact in found] == ["figures/confusion.png"]


def test_the_parent_carries_the_report(finished: Tracker) -> None:
    parent = runs_of(finished)["parent"]
    assert parent.data.tags["mlflow.note.content"] == "best: **δ=0.9**"
    assert parent.data.metrics == {"best/acc": 0.5}
    assert [artifact.path for artifact in client(finished).list_artifacts(parent.info.run_id)] == ["report.md"]


def test_the_best_model_comes_back_with_the_same_probabilities(
    finished: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    mlflow.set_tracking_uri(finished.ids()["uri"])
    loaded = mlflow.pytorch.load_model(f"runs:/{runs_of(finished)['key0'].info.run_id}/model")
    images_BCHW = torch.rand(5, 1, 8, 8)
    torch.testing.assert_close(loaded(images_BCHW), classifier()(images_BCHW))


def test_a_model_of_unit_range_pixels_refuses_bytes(finished: Tracker) -> None:
    import mlflow

    mlflow.set_tracking_uri(finished.ids()["uri"])
    loaded = mlflow.pytorch.load_model(f"runs:/{runs_of(finished)['key0'].info.run_id}/model")
    with pytest.raises(RuntimeError, match="dtype mismatch"):
        loaded(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))


def test_the_database_has_a_write_ahead_log(finished: Tracker) -> None:
    import sqlite3

    path = str(finished.ids()["uri"]).removeprefix("sqlite:///")
    assert sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_dead_server_costs_the_driver_nothing_and_is_caught_up_with_later(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    launch = open_launch(ledger, tmp_path)
    tracker = Tracker(ledger.place, tmp_path, launch.id, DEAD)
    tracker.start()
    run_trial(ledger, launch, "key0")
    began = time.perf_counter()
    tracker.nudge()
    tracker.log_parent([], "", {})
    assert time.perf_counter() - began < 0.01
    assert within(20, lambda: tracker.num_unsent() == 1), "the live table says that MLflow lacks a trial"
    unsent = tracker.close(2)
    assert (unsent.trials, unsent.epochs, unsent.reports) == (1, 3, 1)
    assert "127.0.0.1:9" in str(unsent) and "the same command sends it" in str(unsent)

    later = Tracker(ledger.place, tmp_path, launch.id)
    later.start()
    assert not later.close(60)
    assert later.num_unsent() == 0
    assert runs_of(later)["key0"].info.status == "FINISHED"


def test_a_report_that_fails_keeps_no_other_back(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    tracker = Tracker(ledger.place, tmp_path, open_launch(ledger, tmp_path).id)
    tracker.start()
    tracker.log_best_model("nowhere", classifier, np.zeros((1, 1, 8, 8), np.float32))
    tracker.log_parent([], "a note", {})
    unsent = tracker.close(12)
    assert (unsent.reports, unsent.error) == (
        1,
        "trial nowhere has no run in MLflow yet, so its model has no place there",
    )
    assert runs_of(tracker)["parent"].data.tags["mlflow.note.content"] == "a note"


def test_a_password_is_shown_nowhere(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    launch = open_launch(ledger, tmp_path)
    tracker = Tracker(ledger.place, tmp_path, launch.id, "http://me:sesame@127.0.0.1:9")
    tracker.start()
    assert "sesame" not in f"{tracker.close(2)} {tracker.ids()}"
    assert tracker.ids()["uri"] == "http://me:***@127.0.0.1:9"


def test_a_deleted_experiment_is_named_with_the_way_out(finished: Tracker, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    own = MlflowClient(uri)
    number = own.create_experiment("digits_spc")
    own.delete_experiment(number)
    ledger = Ledger(tmp_path / "ledger.db")
    tracker = Tracker(ledger.place, tmp_path, open_launch(ledger, tmp_path).id, uri)
    tracker.start()
    error = tracker.close(4).error
    assert error == (
        f"experiment 'digits_spc' is deleted; bring it back with `mlflow experiments restore -x {number}`, "
        "or give the study another name"
    )


KILLED = """
import os, signal, sys
from pathlib import Path
from platform.tracking import mlflow as tracking
calls = 0
log = tracking.MlflowRuns.log
def log_and_die(self, run, points=(), tags=None):
    global calls
    log(self, run, points, tags)
    calls += bool(points)
    if calls == 1:
        os.kill(os.getpid(), signal.SIGKILL)
tracking.MlflowRuns.log = log_and_die
tracker = tracking.Tracker(Path(sys.argv[1]), Path(sys.argv[1]).parent, 1)
tracker.start()
tracker.close(60)
"""


def test_killed_after_a_batch_nothing_is_there_twice(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    launch = open_launch(ledger, tmp_path)
    run_trial(ledger, launch, "key0")
    command = [sys.executable, "-c", KILLED, str(ledger.place)]
    died = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=60, check=False)
    assert died.returncode == -signal.SIGKILL
    tracker = Tracker(ledger.place, tmp_path, launch.id)
    tracker.start()
    assert not tracker.close(60)
    history = client(tracker).get_metric_history(runs_of(tracker)["key0"].info.run_id, "spc/loss")
    assert [point.step for point in history] == [1, 2, 3, 4]


def test_an_error_of_our_own_is_not_told_as_an_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(uri: str, storage: Path) -> None:
        raise KeyError("acc")

    monkeypatch.setattr("platform.tracking.mlflow.MlflowRuns", broken)
    ledger = Ledger(tmp_path / "ledger.db")
    tracker = Tracker(ledger.place, tmp_path, open_launch(ledger, tmp_path).id)
    tracker.start()
    said = str(tracker.close(1))
    assert "by an error of this program's: 'acc'" in said and "when MLflow is back" not in said
