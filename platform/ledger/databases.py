"""Databases that MLflow and Optuna own: whether one can be used, and the settings that its SQLite file needs.

Neither library makes the settings. Without them, several processes that open a new file at once can damage it for
good, and a reader stops the writer. So a file gets a write-ahead log, a timeout, and one creator at a time.
``synchronous=NORMAL`` may lose the last writes in a power cut but never the file, and the ledger has those writes.
"""

import fcntl
import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy

from ..study.errors import redacted

PATIENCE_S = 30
"""How long a connection waits for another process's lock on a SQLite file, in seconds."""

_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")

_CREATION_LOCK = 7_253_127
"""The advisory lock under which tables are created on a PostgreSQL server."""

_configured_files: set[Path] = set()


def is_database(uri: str) -> bool:
    """Whether a tracking URI is a database's and not a tracking server's."""
    return uri.partition(":")[0].partition("+")[0].casefold() in _DATABASES


def check_driver(uri: str, named_by: str = "tracking.uri") -> None:
    """Refuse a database whose Python module is missing; what is no database's URI passes.

    Args:
        uri: a tracking URI or SQLAlchemy's URI of a database.
        named_by: the setting that holds it, for the error.

    Raises:
        ValueError: ``uri`` is a database's, and is malformed or needs a Python module that is not installed.
    """
    if not is_database(uri):
        return
    place = f"{named_by}: {redacted(uri)}"
    try:
        sqlalchemy.make_url(uri).get_dialect().import_dbapi()
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{place} needs the Python module {error.name}, which is not installed. Install it, or name another "
            "one in the URI, as in postgresql+psycopg2://..."
        ) from error
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:  # an unknown module, a port that is no number
        raise ValueError(f"{place} is no URI of a database ({redacted(str(error))}).") from error


def check_connection(uri: str) -> None:
    """Connect to a database server once, so that a server that is down is noticed at once.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: it cannot be reached, or refuses the user or the password.
    """
    if is_database(uri) and not uri.startswith("sqlite"):
        sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool).connect().close()


def files_of(path: Path) -> list[Path]:
    """A SQLite file and those that SQLite keeps beside it, whether they are there or not."""
    return [path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))]


def set_aside(path: Path) -> str:
    """Rename a SQLite file, or whatever is in its place, with the files that belong to it.

    Returns:
        Its new name: ``<name>.damaged-`` and some digits.
    """
    mark = f"damaged-{uuid.uuid4().hex[:8]}"
    for each in files_of(path):
        if os.path.lexists(each):
            each.rename(each.with_name(f"{each.name}.{mark}"))
    return f"{path.name}.{mark}"


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the right to make or replace the SQLite file at ``path``; its folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def creation_lock(uri: str) -> Iterator[None]:
    """Hold this around the first use of a database by a library that goes through SQLAlchemy.

    Only one process at a time holds the lock of one database. A SQLite file also gets the settings that the module's
    docstring names, for every later connection of this process.

    Args:
        uri: SQLAlchemy's; one that is neither a SQLite file's nor PostgreSQL's needs no lock.
    """
    if uri.startswith("postgresql"):
        engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:  # the lock ends with the connection
            connection.execute(sqlalchemy.text(f"SELECT pg_advisory_lock({_CREATION_LOCK})"))
            yield
        return
    url = sqlalchemy.make_url(uri) if uri.startswith("sqlite") else None
    if url is None or not url.database:
        yield
        return
    path = Path(url.database).resolve()
    _configured_files.add(path)
    if not sqlalchemy.event.contains(sqlalchemy.Engine, "connect", _configure):
        sqlalchemy.event.listen(sqlalchemy.Engine, "connect", _configure)
    with file_lock(path):
        # The journal mode stays with the file.
        file_connection = sqlite3.connect(path, timeout=PATIENCE_S)
        file_connection.execute("PRAGMA journal_mode=WAL")
        file_connection.close()
        yield


def _configure(connection: object, record: object) -> None:
    """SQLAlchemy's hook on every new connection of the process; it leaves other databases alone."""
    if not isinstance(connection, sqlite3.Connection):
        return
    file = connection.execute("PRAGMA database_list").fetchone()[2]
    if file and Path(file).resolve() in _configured_files:
        connection.execute(f"PRAGMA busy_timeout={PATIENCE_S * 1000}")
        connection.execute("PRAGMA synchronous=NORMAL")
