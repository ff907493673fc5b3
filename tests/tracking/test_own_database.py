"""A storage's own mlflow.db: whatever is in its place, the next launch has all of its runs, once."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from platform.ledger.ledger import Ledger
from platform.tracking import own_database
from platform.tracking.mlflow import MlflowRuns
from platform.tracking.sync import TrackerSync

import pytest

from trainables.runner.messages import EpochRecord

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow

RESOLVED = {"method": "spc", "objective": {"metric": "spc/selection_loss", "mode": "min"}, "trials": 1}
SPEC = {
    "kind": "trial",
    "method": "spc",
    "pretext": "",
    "changes": {},
    "dataset": {"name": "digits"},
    "fingerprint": "f0",
    "seed": 0,
    "until": "",
    "storage": "/nowhere",
    "threads": 1,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables and nothing in them: making it takes seconds."""
    path = tmp_path_factory.mktemp("made") / "mlflow.db"
    own_database.create(path)
    return path


def text(path: Path) -> None:
    path.write_bytes(b"this is no database" * 300)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere/mlflow.db")


def damaged_pages(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[2048 : len(content) // 2] = b"\xa5" * (len(content) // 2 - 2048)
    path.write_bytes(bytes(content))


def killed_in_a_migration(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE _alembic_tmp_experiments (id INTEGER)")


def killed_before_the_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM alembic_version")


def killed_before_the_last_tables(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE logged_models")


def killed_at_the_first_table(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE experiments (id INTEGER)")


HARMS = (
    text,
    folder,
    dangling_link,
    damaged_pages,
    killed_in_a_migration,
    killed_before_the_version,
    killed_before_the_last_tables,
    killed_at_the_first_table,
)


def instead(made: Path) -> Callable[[Path], None]:
    """In the place of ``create``: a copy of what it makes."""
    return lambda path: shutil.copy(made, path)  # type: ignore[return-value]


@pytest.mark.parametrize("harm", HARMS)
def test_a_database_that_cannot_be_used_is_set_aside_and_made_anew(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path], None]
) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(made, path)
    harm(path)
    monkeypatch.setattr(own_database, "create", instead(made))
    with pytest.warns(UserWarning, match=r"mlflow\.db cannot be used .*: it was set aside as mlflow\.db\.damaged-"):
        assert own_database.ensure(path)
    assert own_database.why_unusable(path) == ""
    assert len([each for each in tmp_path.iterdir() if ".damaged-" in each.name]) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not own_database.ensure(path)


@pytest.mark.parametrize("harm", [lambda path: None, empty, lambda path: path.unlink()])
def test_a_database_that_can_be_used_or_is_not_there_is_no_damaged_one(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path], None]
) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(made, path)
    harm(path)
    monkeypatch.setattr(own_database, "create", instead(made))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not own_database.ensure(path)
    assert own_database.why_unusable(path) == ""


def test_a_database_that_another_process_locks_is_not_damaged(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(made, path)
    own_database._PATIENCE_S, patience_s = 0.1, own_database._PATIENCE_S
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            assert own_database.why_unusable(path) == ""
    finally:
        own_database._PATIENCE_S = patience_s


KILLED = """
import os, signal, sys, types
from pathlib import Path

def half(uri, artifacts):
    Path(uri.removeprefix("sqlite:///")).write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)

for name in ("mlflow", "mlflow.store", "mlflow.store.tracking", "mlflow.store.tracking.sqlalchemy_store"):
    sys.modules[name] = types.SimpleNamespace(SqlAlchemyStore=half, __path__=[])
from platform.tracking import own_database
own_database.ensure(Path(sys.argv[1]))
"""


def test_a_process_killed_while_the_tables_are_made_leaves_no_database(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mlflow.db"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not path.exists() and (tmp_path / ".mlflow.db.new").exists()
    monkeypatch.setattr(own_database, "create", instead(made))
    assert not own_database.ensure(path) and path.exists()


def finished_launch(ledger: Ledger, study: str) -> int:
    launch = ledger.open_launch(study, {}, RESOLVED, lookahead=1, facts={})
    ledger.add_trials(launch.id, [("key0", SPEC)])
    ledger.start(launch.id, "key0")
    ledger.add_epochs(launch.id, "key0", [EpochRecord("spc", n, 3, {"loss": 1.0 / n}) for n in (1, 2, 3)])
    ledger.finish(launch.id, "key0", {"spc/loss": 0.25}, [], 1.0, {})
    ledger.close_launch(launch.id, "done")
    return launch.id


def test_files_of_runs_follow_a_storage_that_is_moved(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_database, "create", instead(made))
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    ledger = Ledger(before / "ledger.db")
    launch = finished_launch(ledger, "digits")
    runs = MlflowRuns(f"sqlite:///{before / 'mlflow.db'}", before)
    sync = TrackerSync(ledger, launch, runs)
    sync.send()
    runs.report(sync.parent, [before / "ledger.db"], "note", {})
    ledger.close()
    shutil.copytree(before, after)
    moved = MlflowRuns(f"sqlite:///{after / 'mlflow.db'}", after)
    ledger = Ledger(after / "ledger.db")
    again = TrackerSync(ledger, launch, moved)
    again.send()
    ledger.close()
    assert again.parent == sync.parent and moved.note == ""
    uri = moved._client.get_run(again.parent).info.artifact_uri
    assert uri.startswith((after / "artifacts" / "digits").as_uri())
    assert [each.path for each in moved._client.list_artifacts(again.parent)] == ["ledger.db"]
    assert runs._client.get_run(sync.parent).info.artifact_uri.startswith(before.as_uri())


def test_a_place_of_files_outside_the_storage_is_said(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_database, "create", instead(made))
    runs = MlflowRuns(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)
    runs._client.create_experiment("digits", artifact_location="file:///elsewhere/files")
    ledger = Ledger(tmp_path / "ledger.db")
    TrackerSync(ledger, finished_launch(ledger, "digits"), runs)._open()
    ledger.close()
    assert runs.note.startswith("MLflow keeps the files of this study in file:///elsewhere/files, which is not in the")
    assert os.path.lexists(tmp_path / "mlflow.db")
