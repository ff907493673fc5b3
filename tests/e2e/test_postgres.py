"""Tracking on a real PostgreSQL server: what arrives, what an outage costs, and where the password is not."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from platform.ledger.ledger import Ledger
from platform.ledger.postgres import VARIABLE, server_of
from platform.ledger.rows import Configuration, Launch
from platform.ledger.storage import Storage
from platform.tracking.mlflow import Tracker
from typing import Any

import numpy as np
import pytest
import torch

from tests.chaos import history, views
from tests.chaos.driver import HELD
from tests.servers import postgres
from tests.servers.postgres import DIALECT, HOST, QUOTED, USER, Server
from trainables import event_log
from trainables.nets import backbones, models
from trainables.runner.messages import EpochRecord, StageRecord

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(postgres.missing()), reason=postgres.missing())]

RESOLVED = {
    "method": "spc",
    "seeds": [1],
    "search": {},
    "objective": {"metric": "spc/selection_loss", "mode": "min"},
    "trials": 2,
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres.running() as made:
        made.execute("CREATE DATABASE ledgers")
        yield made


def trial_spec(storage: Path, threshold: float) -> dict[str, Any]:
    return {
        "kind": "trial",
        "method": "spc",
        "pretext": "",
        "changes": {"spc.strong_threshold": threshold},
        "dataset": {"name": "digits"},
        "fingerprint": "f0",
        "seed": 1,
        "until": "",
        "storage": str(storage),
        "threads": 1,
    }


def open_launch(ledger: Ledger, study: str) -> Launch:
    """Two trials, key0 and key1, still to be run."""
    launch = ledger.open_launch(study, {}, RESOLVED, lookahead=2)
    for number, threshold in enumerate((0.9, 0.95)):
        ledger.add_configuration(launch.id, Configuration(number, "", {"spc.strong_threshold": threshold}))
        ledger.add_trials(
            launch.id, [(f"key{number}", trial_spec(ledger.place.parent, threshold))], configuration=number
        )
    return launch


def add_epochs(ledger: Ledger, launch: Launch, key: str, numbers: range) -> None:
    rows = [EpochRecord("spc", n, 60, {"loss": 1.0 / n, "acc": 0.01 * n}) for n in numbers]
    ledger.add_epochs(launch.id, key, rows)


def finish(ledger: Ledger, launch: Launch, key: str) -> None:
    stages = [StageRecord("spc", "spc", "a1", cached=False, seconds=1.0)]
    ledger.finish(launch.id, key, {"spc/loss": 0.001, "acc": 0.5}, stages, 1.0, {"host": "node9"})


def has_sent(ledger: Ledger, launch: Launch, key: str) -> bool:
    """Whether MLflow is known to have every epoch that the ledger has."""
    return not ledger.epochs(launch.id, key, after_id=ledger.export("mlflow", launch.id, key)[1])


def wait_for(condition: Callable[[], bool], patience_s: float = 60.0) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def runs_of(server: Server, study: str) -> dict[str, Any]:
    """Trial key (or "parent") -> run; no key twice."""
    from mlflow import MlflowClient

    client = MlflowClient(server.uri("tracking"))
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    by_key = {run.data.tags["clustersweep.key"]: run for run in found}
    assert len(by_key) == len(found), "a trial has two runs"
    return by_key


def steps(server: Server, run: Any, metric: str) -> list[int]:
    from mlflow import MlflowClient

    history = MlflowClient(server.uri("tracking")).get_metric_history(run.info.run_id, metric)
    return sorted(point.step for point in history)


def test_a_launch_is_one_parent_and_one_child_per_trial(server: Server, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    launch = open_launch(ledger, "plain")
    tracker = Tracker(ledger.place, tmp_path, launch.id, server.uri("tracking"))
    tracker.start()
    ledger.start(launch.id, "key0")
    add_epochs(ledger, launch, "key0", range(1, 6))
    finish(ledger, launch, "key0")
    ledger.start(launch.id, "key1")
    ledger.fail(launch.id, "key1", "ValueError: no")
    ledger.close_launch(launch.id, "failed")
    assert not tracker.close(60)
    runs = runs_of(server, "plain")
    assert {key: run.info.status for key, run in runs.items()} == {
        "parent": "FAILED",
        "key0": "FINISHED",
        "key1": "FAILED",
    }
    parent = runs["parent"].info.run_id
    assert [runs[key].data.tags["mlflow.parentRunId"] for key in ("key0", "key1")] == [parent, parent]
    # Five epochs, and the final value of the loss one step after them.
    assert steps(server, runs["key0"], "spc/loss") == [1, 2, 3, 4, 5, 6]
    assert runs["key0"].data.params["spc.strong_threshold"] == "0.9"


def test_a_server_killed_in_the_middle_loses_nothing_and_gets_nothing_twice(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    launch = open_launch(ledger, "killed")
    tracker = Tracker(ledger.place, tmp_path, launch.id, server.uri("tracking"))
    tracker.start()
    ledger.start(launch.id, "key0")
    for first in (1, 21, 41):
        add_epochs(ledger, launch, "key0", range(first, first + 10))
        tracker.nudge()
        wait_for(lambda: has_sent(ledger, launch, "key0"))
        add_epochs(ledger, launch, "key0", range(first + 10, first + 15))
        tracker.nudge()
        server.kill()
        add_epochs(ledger, launch, "key0", range(first + 15, first + 20))
        tracker.nudge()
        time.sleep(1)  # long enough to be tried and refused
        server.start()
    finish(ledger, launch, "key0")
    ledger.start(launch.id, "key1")
    finish(ledger, launch, "key1")
    ledger.close_launch(launch.id, "done")
    assert not tracker.close(60)
    runs = runs_of(server, "killed")
    assert {key: run.info.status for key, run in runs.items()} == dict.fromkeys(("parent", "key0", "key1"), "FINISHED")
    assert steps(server, runs["key0"], "spc/loss") == list(range(1, 62))
    assert steps(server, runs["key0"], "spc/acc") == list(range(1, 61))
    # The screen belongs to the live table.
    assert capfd.readouterr() == ("", "")


def test_a_server_that_is_down_at_the_start_is_named_in_time_and_caught_up_with(server: Server, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    launch = open_launch(ledger, "down")
    ledger.start(launch.id, "key0")
    add_epochs(ledger, launch, "key0", range(1, 4))
    finish(ledger, launch, "key0")
    server.kill()
    try:
        tracker = Tracker(ledger.place, tmp_path, launch.id, server.uri("tracking"))
        tracker.start()
        time.sleep(8)  # MLflow, left alone, would by now be asleep for longer than the driver waits
        unsent = tracker.close(3)
    finally:
        server.start()
    assert (unsent.trials, unsent.epochs) == (1, 3)
    assert "Connection refused" in str(unsent)
    later = Tracker(ledger.place, tmp_path, launch.id, server.uri("tracking"))
    later.start()
    assert not later.close(60)
    assert runs_of(server, "down")["key0"].info.status == "FINISHED"


def test_a_server_that_comes_up_late_gets_everything_without_a_new_start(server: Server, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    launch = open_launch(ledger, "late")
    ledger.start(launch.id, "key0")
    add_epochs(ledger, launch, "key0", range(1, 4))
    server.kill()
    try:
        tracker = Tracker(ledger.place, tmp_path, launch.id, server.uri("tracking"))
        tracker.start()
        time.sleep(2)
    finally:
        server.start()
    finish(ledger, launch, "key0")
    ledger.close_launch(launch.id, "done")
    assert not tracker.close(60)
    assert steps(server, runs_of(server, "late")["key0"], "spc/acc") == [1, 2, 3]


def test_the_password_is_shown_nowhere(server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    launch = open_launch(ledger, "secret")
    ledger.start(launch.id, "key0")
    refused = server.uri("tracking", QUOTED + "8")
    ledger.fail(launch.id, "key0", f"OperationalError: cannot reach {refused}")
    wrong = Tracker(ledger.place, tmp_path, launch.id, refused)
    wrong.start()
    told = str(wrong.close(5))
    assert "password authentication failed" in told
    tracker = Tracker(ledger.place, tmp_path, launch.id, server.uri("tracking"))
    tracker.start()
    assert not tracker.close(60)
    assert tracker.ids()["uri"] == f"{DIALECT}://{USER}:***@{HOST}:{server.port}/tracking"
    tags = [run.data.tags for run in runs_of(server, "secret").values()]
    seen = f"{told} {wrong.ids()} {tracker.ids()} {tags} {capfd.readouterr()}"
    assert "sesame" not in seen


def test_the_best_model_lies_in_the_storage_and_comes_back(server: Server, tmp_path: Path) -> None:
    import mlflow

    ledger = Ledger(tmp_path / "ledger.db")
    launch = open_launch(ledger, "model")
    ledger.start(launch.id, "key0")
    finish(ledger, launch, "key0")
    backbone = backbones.build("small", in_channels=1, image_size_px=8, seed=0)
    model = models.ClusterClassifier(backbone, torch.nn.Linear(backbone.width, 10), [0.5], [0.5])
    tracker = Tracker(ledger.place, tmp_path, launch.id, server.uri("tracking"))
    tracker.start()
    tracker.log_best_model("key0", lambda: model, np.zeros((1, 1, 8, 8), np.float32))
    assert not tracker.close(60)
    assert list((tmp_path / "artifacts" / "model").rglob("MLmodel"))
    mlflow.set_tracking_uri(server.uri("tracking"))
    loaded = mlflow.pytorch.load_model(f"runs:/{runs_of(server, 'model')['key0'].info.run_id}/model")
    images_BCHW = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(loaded(images_BCHW), model.eval()(images_BCHW))


def test_optuna_keeps_a_study_on_the_same_server(server: Server) -> None:
    import optuna

    # A database of its own: both libraries keep their schema's version in a table of the same name.
    server.execute("CREATE DATABASE optuna")
    study = optuna.create_study(study_name="spc", storage=server.uri("optuna"))
    study.tell(study.ask(), 0.5)
    assert optuna.load_study(study_name="spc", storage=server.uri("optuna")).best_value == 0.5


def test_a_whole_sweep_keeps_its_runs_there_and_its_password_to_itself(
    server: Server, tmp_path: Path, tiny_sweep: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    storage = tmp_path / "runs"
    reference = "tracking.uri=${ENV:CLUSTERSWEEP_TRACKING}"
    done = tiny_sweep(storage, "--trials", "1", "--set", reference, CLUSTERSWEEP_TRACKING=server.uri("tracking"))
    assert done.returncode == 0, done.stdout + done.stderr
    runs = runs_of(server, "spc")
    kinds = sorted(run.data.tags["clustersweep.kind"] for run in runs.values())
    assert kinds == ["launch", "prepare", "trial"]
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    (trial,) = (run for run in runs.values() if run.data.tags["clustersweep.kind"] == "trial")
    assert steps(server, trial, "spc/loss")[0] == 1
    assert not (storage / "mlflow.db").exists()
    assert "sesame" not in done.stdout + done.stderr
    assert f"{DIALECT}://{USER}:***@{HOST}:{server.port}/tracking" in done.stdout
    kept = [path for path in storage.rglob("*") if path.is_file() and b"sesame" in path.read_bytes()]
    assert kept == []
    shown = [str(run.data.tags) + str(run.data.params) for run in runs.values()]
    assert "sesame" not in "".join(shown)


def test_a_whole_sweep_keeps_its_ledger_and_optuna_s_study_there(
    server: Server, tmp_path: Path, tiny_sweep: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    import optuna

    storage, named = tmp_path / "runs", {VARIABLE: server.uri("ledgers")}
    first = tiny_sweep(storage, "--trials", "2", **named)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "2 trials done" in first.stdout
    assert [path.name for path in storage.glob("*.db")] == ["mlflow.db"]
    place = server_of(Storage(storage), named[VARIABLE])
    assert f"ledger   {place}; Optuna's studies in {place.schema}_optuna" in first.stderr
    assert len(optuna.load_study(study_name="spc", storage=place.optuna).trials) == 2
    again = tiny_sweep(storage, "--trials", "3", **named)
    assert again.returncode == 0, again.stdout + again.stderr
    (launch,) = Ledger(place).launches("spc")
    assert [trial.attempts for trial in Ledger(place).trials(launch.id, "trial")] == [1, 1, 1]
    report = [sys.executable, "-m", "platform.report", "spc", "--storage", str(storage)]
    shown = subprocess.run(report, cwd=ROOT, env=os.environ | named, capture_output=True, text=True, check=True)
    assert "3 trials done" in shown.stdout
    missing = subprocess.run(report, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (missing.returncode, "there is no ledger.db" in missing.stderr) == (2, True)
    kept = [path for path in storage.rglob("*") if path.is_file() and b"sesame" in path.read_bytes()]
    assert kept == []
    assert "sesame" not in first.stdout + first.stderr + again.stdout + again.stderr + shown.stdout + shown.stderr


def test_a_ledger_s_server_that_is_down_is_refused_before_anything_starts(
    tmp_path: Path, tiny_sweep: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    refused = tiny_sweep(tmp_path / "runs", "--trials", "1", **{VARIABLE: f"{DIALECT}://{USER}:{QUOTED}@{HOST}:9/none"})
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "cannot be used" in refused.stderr
    assert "Connection refused" in refused.stderr
    assert "sesame" not in refused.stdout + refused.stderr


ROOT = Path(__file__).resolve().parents[2]
SHARED, METRIC = "shared", "kmeans/mean_squared_distance"
SMALL_PAGE = f"""\
name: {SHARED}
method: kmeans
dataset: {{name: digits, train_limit: 120, eval_limit: 60}}
seeds: [0, 1]
fixed: {{pretext.augmentation: affine, pretext.epochs: 1, pretext.batch_size: 60}}
search: {{kmeans.iterations: {{int: [1, 100]}}}}
sampler: {{name: random, seed: 0}}
objective: {{metric: {METRIC}, mode: min}}
trials: 4
"""
NUM_DRIVERS = 8


def at_once(folder: Path, names: list[str], uri: str) -> list[tuple[int, str]]:
    """Drivers that begin at the same moment on one storage, each with its own diary; exit code and words of each.

    Ledger, Optuna's studies and MLflow are where the environment and ``uri`` say.
    """
    page = folder / "page.yaml"
    page.write_text(SMALL_PAGE)
    drivers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.driver", str(page), str(folder), "--name", name, "--uri", uri],
            cwd=ROOT,
            env=os.environ | {event_log.VARIABLE: str(folder / f"diary-{number}"), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number, name in enumerate(names)
    ]
    try:
        for each in drivers:
            assert each.stdout is not None and each.stdout.readline() == "ready\n"
        for each in drivers:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        said = [each.communicate(timeout=900)[0] for each in drivers]
    finally:
        for each in drivers:
            each.kill()
    return [(each.returncode, text) for each, text in zip(drivers, said, strict=True)]


@pytest.fixture(params=["file", "server"])
def tracking(request: pytest.FixtureRequest, server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database for MLflow's runs; with the ledger and Optuna's studies in the storage, and on the server too."""
    if request.param == "server":
        monkeypatch.setenv(VARIABLE, server.uri("ledgers"))
    name = f"tracking_{uuid.uuid4().hex[:8]}"
    server.execute(f"CREATE DATABASE {name}")
    return server.uri(name)


@pytest.mark.chaos
def test_eight_drivers_share_a_storage_and_its_stages_and_lose_nothing(tracking: str, tmp_path: Path) -> None:
    """Optuna and MLflow on SQLite, left to themselves, lost one write in eight; here each keeps its own study whole."""
    names = [f"study{number}" for number in range(NUM_DRIVERS)]
    done = at_once(tmp_path, names, tracking)
    assert [code for code, _ in done] == [0] * NUM_DRIVERS, done
    published: list[str] = []
    for number, name in enumerate(names):
        events = history.read(tmp_path / f"diary-{number}")
        ledger = views.of_ledger(tmp_path, name, METRIC)
        assert len(ledger.done) == 8
        assert history.lost(events, views.done_keys(tmp_path, name)) + history.repeated(events) == []
        others = [views.of_optuna(tmp_path, name), views.of_mlflow(tracking, name, METRIC)]
        assert history.disagreements([ledger, *others]) == []
        assert history.deviations(ledger, views.of_ledger(tmp_path, names[0], METRIC)) == []
        published += [each.key for each in events if each.event == history.STAGE]
    # All eight need the same two pretexts and eight clusterings; whoever comes first computes one, for all.
    assert len(published) == len(set(published)) == 10


@pytest.mark.chaos
def test_of_eight_drivers_that_want_one_study_one_gets_it(tracking: str, tmp_path: Path) -> None:
    """Ray's OptunaSearch loads a study of the same name without a word, so two drivers share it by accident."""
    done = at_once(tmp_path, [SHARED] * NUM_DRIVERS, tracking)
    codes = [code for code, _ in done]
    assert sorted(codes) == [0] + [HELD] * (NUM_DRIVERS - 1), done
    refused = [text for code, text in done if code == HELD]
    assert all("study 'shared' is being run by process" in text for text in refused)
    events = history.read(tmp_path / f"diary-{codes.index(0)}")
    ledger = views.of_ledger(tmp_path, SHARED, METRIC)
    assert len(ledger.done) == 8
    assert history.lost(events, views.done_keys(tmp_path, SHARED)) + history.repeated(events) == []
    assert history.disagreements([ledger, views.of_mlflow(tracking, SHARED, METRIC)]) == []
    assert [path for path in tmp_path.glob("diary-*")] == [tmp_path / f"diary-{codes.index(0)}"]
