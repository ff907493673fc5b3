"""SQLite files that other libraries own: write-ahead log, patience, and one creator at a time.

Neither MLflow nor Optuna sets any of it. Several processes that open a fresh file at once can spoil it for good, and
without the write-ahead log a reader stops the writer. ``synchronous=NORMAL`` may lose the last writes when the power
goes, and never the file; the ledger has them.
"""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy

PATIENCE_S = 30

_tuned: set[Path] = set()


@contextmanager
def prepared(uri: str) -> Iterator[None]:
    """Hold this around the first use of a database by a library that goes through SQLAlchemy.

    uri: of SQLAlchemy; any that is no SQLite file passes unchanged.
    """
    url = sqlalchemy.make_url(uri) if uri.startswith("sqlite") else None
    if url is None or not url.database:
        yield
        return
    path = Path(url.database).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    _tuned.add(path)
    if not sqlalchemy.event.contains(sqlalchemy.Engine, "connect", _tune):
        sqlalchemy.event.listen(sqlalchemy.Engine, "connect", _tune)
    with open(path.with_name(f".{path.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # The mode stays with the file.
        connection = sqlite3.connect(path, timeout=PATIENCE_S)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
        yield


def _tune(connection: Any, record: Any) -> None:
    if not isinstance(connection, sqlite3.Connection):
        return
    opened = connection.execute("PRAGMA database_list").fetchone()[2]
    if opened and Path(opened).resolve() in _tuned:
        connection.execute(f"PRAGMA busy_timeout={PATIENCE_S * 1000}")
        connection.execute("PRAGMA synchronous=NORMAL")
