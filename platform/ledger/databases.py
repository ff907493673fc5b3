"""Databases that other libraries own: whether one can be used at all, and what a SQLite file of theirs needs.

Neither MLflow nor Optuna sets any of it. Several processes that open a fresh file at once can spoil it for good, and
without the write-ahead log a reader stops the writer. ``synchronous=NORMAL`` may lose the last writes when the power
goes, and never the file; the ledger has them. So the files get all of it here: write-ahead log,
patience, and one creator at a time.
"""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy

from ..study.errors import redacted

PATIENCE_S = 30

_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")

_CREATING = 7_253_127
"""Of the lock under which tables are created on a PostgreSQL server."""

_tuned: set[Path] = set()


def is_database(uri: str) -> bool:
    """Whether a tracking URI is a database's and not a server's."""
    return uri.partition(":")[0].partition("+")[0].casefold() in _DATABASES


def refuse_without_driver(uri: str, named_by: str = "tracking.uri") -> None:
    """Find out now what every attempt to write would fail at.

    Raises:
        ValueError: ``uri`` is a database's, and is malformed or needs a Python module that is not installed.
    """
    if not is_database(uri):
        return
    place = f"{named_by}: {redacted(uri)}"
    try:
        sqlalchemy.make_url(uri).get_dialect().import_dbapi()
    except ModuleNotFoundError as missing:
        raise ValueError(
            f"{place} needs the Python module {missing.name}, which is not installed. Install it, or name another "
            "one in the URI, as in postgresql+psycopg2://..."
        ) from missing
    except (sqlalchemy.exc.ArgumentError, ValueError) as fault:  # an unknown driver, a port that is no number
        raise ValueError(f"{place} is no URI of a database ({redacted(str(fault))}).") from fault


def reach(uri: str) -> None:
    """Open a connection to a database server and close it again, so that a server that is down is found at once.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: it cannot be reached, or refuses the user or the password.
    """
    if is_database(uri) and not uri.startswith("sqlite"):
        sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool).connect().close()


@contextmanager
def prepared(uri: str) -> Iterator[None]:
    """Hold this around the first use of a database by a library that goes through SQLAlchemy.

    uri: of SQLAlchemy; any that is neither a SQLite file nor PostgreSQL's passes unchanged.
    """
    if uri.startswith("postgresql"):
        engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)
        with engine.connect() as held:
            # Who creates the same tables at once gets in each other's way. The lock ends with the connection.
            held.execute(sqlalchemy.text(f"SELECT pg_advisory_lock({_CREATING})"))
            yield
        return
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
