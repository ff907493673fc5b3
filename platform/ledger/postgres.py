"""The ledger's tables on a PostgreSQL server, for drivers on several hosts.

Each storage has a schema of its own, so studies of the same name in two storages stay apart. A driver waits for a
server that goes away, and writes again what it was writing.
"""

import hashlib
import importlib
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy

from ..study.errors import redacted
from .databases import check_driver
from .schema import LAST_CREATED, Cursor, LedgerBusy, LedgerError, LedgerFull, LedgerTables
from .storage import Storage

VARIABLE = "CLUSTERSWEEP_DATABASE"
"""Names the database: ``postgresql://user:password@host:port/database``. Unset: the ledger is a file in the storage."""

_T = TypeVar("_T")
_IDENTITY_FILE = "storage.id"
_DIALECT = "postgresql+psycopg2"
_PAUSE_S = 0.5
_KEEPALIVE = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
"""Seconds, seconds, seconds and tries: a server whose host died is given up within a minute."""


@dataclass(frozen=True)
class Server:
    """Where the ledger of one storage is.

    Attributes:
        uri: SQLAlchemy's URI of the database, with the password; ``str`` hides it.
        schema: the schema that holds the tables.
    """

    uri: str
    schema: str

    def __str__(self) -> str:
        return f"{redacted(self.uri)} (schema {self.schema})"

    @property
    def optuna_schema(self) -> str:
        return f"{self.schema}_optuna"

    @property
    def optuna(self) -> str:
        """The URI of Optuna's copy of the studies, which is in a schema beside the ledger's."""
        url = sqlalchemy.make_url(self.uri).update_query_dict({"options": f"-csearch_path={self.optuna_schema}"})
        return url.render_as_string(hide_password=False)


def server_of(storage: Storage, uri: str, *, new: bool = True) -> Server:
    """Where the ledger of a storage is on a server.

    Args:
        storage: its identity, in a file in its folder or hashed from its URI, names the schema.
        uri: the database's.
        new: create the identity if the storage has none.

    Raises:
        ValueError: ``uri`` is no PostgreSQL database's, its Python module is not installed, or the identity is spoiled.
        LookupError: the storage has no identity, and ``new`` is false.
    """
    dialect, colon, rest = uri.partition(":")
    if dialect not in ("postgresql", _DIALECT) or not colon:
        raise ValueError(
            f"{VARIABLE}: {redacted(uri)} is no PostgreSQL database. Write postgresql://user:password@host/database, "
            "or unset it to keep the ledger in the storage."
        )
    uri = f"{_DIALECT}:{rest}"  # the module that "postgresql" alone stands for changes with SQLAlchemy
    check_driver(uri, VARIABLE)
    return Server(uri, f"clustersweep_{_identity(storage, new)}")


def never_used(storage: Storage, file: str) -> LookupError:
    """The error for a storage in which no study has run; ``file`` is what such a storage lacks."""
    return LookupError(
        f"--storage {storage.folder}: there is no {file}. Run a study there first, or name another folder."
    )


def _identity(storage: Storage, new: bool) -> str:
    """Twelve hex digits, the same on every host: hashed from the storage's URI, or read from a file in its folder."""
    if storage.uri:
        return hashlib.sha256(storage.uri.encode()).hexdigest()[:12]
    file = storage.folder / _IDENTITY_FILE
    if new:
        draft = file.with_name(f".{_IDENTITY_FILE}-{uuid.uuid4().hex[:8]}")
        draft.write_text(uuid.uuid4().hex[:12])
        with suppress(FileExistsError):
            os.link(draft, file)  # the file appears whole, and the first of several drivers decides
        draft.unlink()
    if not file.exists():
        raise never_used(storage, _IDENTITY_FILE)
    identity = file.read_text().strip()
    if not re.fullmatch("[0-9a-f]{12}", identity):
        raise ValueError(f"{file} is not what was written: twelve hex digits. Put it back from a copy of the storage.")
    return identity


class PostgresTables(LedgerTables):
    """The tables on a server."""

    connection: "_ServerConnection"
    for_update = " FOR UPDATE"

    def __init__(self, server: Server, patience_s: float) -> None:
        """Connect; create the schema and the tables if they do not exist.

        Args:
            server: the database and the schema.
            patience_s: how long a call waits for a server that went away, in seconds.

        Raises:
            LedgerError: the server cannot be reached or refuses; at once, without waiting.
        """
        self._server, self._patience_s = server, patience_s
        self.connection = _ServerConnection(server)
        self.driver_error = self.connection.driver.Error
        self.retry(self._create)

    def _create(self) -> None:
        last = f"{self._server.schema}.{LAST_CREATED}"
        (existing,) = self.connection.execute("SELECT to_regclass(?)", (last,)).fetchone()
        if existing is not None:
            return  # an account that only writes needs no right to create
        with self.transaction():
            self.lock_name("tables")  # two transactions that create the same table at once fail
            for schema in (self._server.schema, self._server.optuna_schema):
                self.connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            self.create(counter="BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY")

    def lock_name(self, name: str) -> None:
        self.connection.execute("SELECT pg_advisory_xact_lock(hashtext(?))", (f"{self._server.schema} {name}",))

    def retry(self, call: Callable[[], _T]) -> _T:
        """Make the call, and again with a new connection while the server is away, for at most ``patience_s``.

        Raises:
            LedgerBusy: the server stayed away, or could never be reached.
            LedgerFull: the server has no room left.
            LedgerError: the server refuses the call.
        """
        driver, deadline = self.connection.driver, time.monotonic() + self._patience_s
        while True:
            try:
                return call()
            except (driver.OperationalError, driver.InterfaceError) as error:
                if isinstance(error, driver.errors.DiskFull):
                    text = f"the database {self._server} has no room left"
                    raise LedgerFull(f"{text}; make room and start again, what was finished is kept") from error
                if time.monotonic() >= deadline or not self.connection.was_ever_open:
                    raise LedgerBusy(
                        f"the database {self._server} cannot be used ({_message(error)}); see to it and start again, "
                        "what was finished is kept"
                    ) from error
                self.connection.close()
                time.sleep(_PAUSE_S)
            except driver.DatabaseError as error:
                raise LedgerError(f"the database {self._server} refuses: {_message(error)}") from error


def _message(error: Exception) -> str:
    return " ".join(redacted(str(error)).split())


class _ServerConnection:
    """psycopg2's connection with sqlite3's interface; it opens on use, and again after ``close``."""

    def __init__(self, server: Server) -> None:
        self.driver: Any = importlib.import_module("psycopg2")
        self.was_ever_open = False
        self._row_type = importlib.import_module("psycopg2.extras").DictCursor
        self._server = server
        self._connection: Any = None

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Cursor:
        cursor = self._cursor()
        cursor.execute(statement.replace("?", "%s"), tuple(map(_without_nul, values)))
        return cursor  # type: ignore[no-any-return]

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> object:
        cursor = self._cursor()
        return cursor.executemany(statement.replace("?", "%s"), [tuple(map(_without_nul, row)) for row in rows])

    def close(self) -> None:
        if self._connection is not None:
            with suppress(self.driver.Error):
                self._connection.close()
        self._connection = None

    def _cursor(self) -> Any:
        if self._connection is None:
            url = sqlalchemy.make_url(self._server.uri)
            options = url.translate_connect_args(username="user", database="dbname") | dict(url.query)
            connection = self.driver.connect(**_KEEPALIVE, application_name="clustersweep", **options)
            connection.autocommit = True  # LedgerTables begins and ends the transactions
            with connection.cursor() as cursor:
                cursor.execute(f"SET search_path TO {self._server.schema}")
            self._connection, self.was_ever_open = connection, True
        return self._connection.cursor(cursor_factory=self._row_type)


def _without_nul(value: Any) -> Any:
    """PostgreSQL's TEXT holds no NUL character."""
    return value.replace("\0", "") if isinstance(value, str) else value
