"""A storage's MLflow database, ``<storage>/mlflow.db``: made whole or not at all, and set aside when it is damaged.

Everything that a sweep put into it is in the ledger too, so a file that cannot be used costs nothing but the notes that
people wrote into it.
"""

import os
import sqlite3
import warnings
from contextlib import closing
from pathlib import Path

from ..ledger.databases import creation_lock, file_lock, files_of, set_aside

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PATIENCE_S = 30.0


def ensure(path: Path) -> bool:
    """Make the database where there is none that MLflow can use; one process at a time does it.

    Returns:
        Whether there was another one, which was set aside: what earlier launches put there is not in the new one.
    """
    with file_lock(path):
        why = why_unusable(path)
        if why:
            name = set_aside(path)
            sentence = f"{path} cannot be used ({why}): it was set aside as {name} and is made anew from the ledger"
            warnings.warn(sentence, stacklevel=2)
        if not path.exists() or path.stat().st_size == 0:
            create(path)
    return bool(why)


def why_unusable(path: Path) -> str:
    """Why MLflow cannot use a file, as far as SQLite can say; empty where there is none, or where it can.

    A file whose tables were never finished, as those of a process that was killed at it, is of no use: every later
    attempt to finish them fails.
    """
    if not os.path.lexists(path):
        return ""
    if not path.is_file():
        return "it is no file"
    try:
        with closing(sqlite3.connect(path, timeout=_PATIENCE_S)) as connection:
            (message,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if message != "ok":
                return str(message).splitlines()[-1]
            names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not names:
                return ""
            half_made = [name for name in names if name.startswith("_alembic_tmp_")]
            versions = _rows(connection, names, "alembic_version")
            if _rows(connection, names, "runs") == 0 and (half_made or versions == 0 or "logged_models" not in names):
                return "its tables were never finished"
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in _DAMAGED:
            return str(error)
    return ""


def create(path: Path) -> None:
    """Make the file with all of MLflow's tables beside its place, and give it its name when it is complete."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    fresh = path.with_name(f".{path.name}.new")
    for left in files_of(fresh):
        left.unlink(missing_ok=True)  # of a process that was killed at it
    uri = f"sqlite:///{fresh}"
    # A write-ahead log here as well: without it each of MLflow's many steps waits for the disk.
    with creation_lock(uri):
        SqlAlchemyStore(uri, (path.parent / "artifacts").as_uri()).engine.dispose()
    fresh.with_name(f".{fresh.name}.lock").unlink(missing_ok=True)
    fresh.rename(path)


def follow_move(path: Path, artifacts: Path) -> None:
    """Correct the places of files in a database whose storage was moved or copied.

    Args:
        artifacts: the folder of this storage in which each experiment has its own.
    """
    with closing(sqlite3.connect(path, timeout=_PATIENCE_S)) as connection, connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        columns = (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
        )
        for name, before in connection.execute("SELECT name, artifact_location FROM experiments").fetchall():
            now = (artifacts / name).as_uri()
            # Only a place that this program chose; one that somebody gave the experiment is his.
            if before == now or not str(before).startswith("file:") or not str(before).endswith(_end(now)):
                continue
            for table, column in columns:
                if table in tables:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                        f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                        (now, len(before) + 1, before, len(before) + 1, f"{before}/"),
                    )


def place_elsewhere(location: str, artifacts: Path) -> str:
    """A sentence where an experiment of the storage's own database keeps its files outside the storage; else empty."""
    if not location or location.startswith(artifacts.as_uri()):
        return ""
    return f"MLflow keeps the files of this study in {location}, which is not in the storage: copy both, or neither."


def _end(uri: str) -> str:
    """``/artifacts/<experiment>``: what a place has in common before and after a move."""
    return "/" + "/".join(uri.rsplit("/", 2)[1:])


def _rows(connection: sqlite3.Connection, names: set[str], table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) if table in names else 0
