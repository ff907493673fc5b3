"""The ledger's tables on a PostgreSQL server, for drivers on several hosts.

Each storage has a schema of its own there, so that studies of the same name in two storages never meet. A server that
goes away is waited for; what was being written is written again when it is back.
"""

import hashlib
import importlib
import importlib.util
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy

from ..study.faults import redacted
from .ledger_tables import LAST_MADE, SCHEMA, Answer, LedgerBusy, LedgerError, LedgerFull
from .storage import Storage

VARIABLE = "CLUSTERSWEEP_DATABASE"
"""Names the database: ``postgresql://user:password@host:port/database``. Unset: the ledger is a file in the storage."""

_T = TypeVar("_T")
_ID = "storage.id"
_DIALECTS = ("postgresql", "postgresql+psycopg2")
_PAUSE_S = 0.5
_ALIVE = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
"""So that a server whose host died is given up within a minute."""


@dataclass(frozen=True)
class Server:
    """Where one storage's ledger is. uri: with the password; never shown. schema: of the tables."""

    uri: str
    schema: str

    def __str__(self) -> str:
        return f"{redacted(self.uri)} (schema {self.schema})"

    @property
    def optuna(self) -> str:
        """The URI under which Optuna has its copy of the studies, in a schema beside."""
        url = sqlalchemy.make_url(self.uri).set(drivername="postgresql+psycopg2")
        own = url.update_query_dict({"options": f"-csearch_path={self.schema}_optuna"})
        return own.render_as_string(hide_password=False)


def server_of(storage: Storage, uri: str, *, new: bool = True) -> Server:
    """Where a storage's ledger is on the server at ``uri``. new: give a folder that has none yet an identity.

    Raises:
        ValueError: ``uri`` is none of PostgreSQL's, or its Python module is not installed; a sentence.
        LookupError: the folder has no identity, and ``new`` is false; a sentence.
    """
    try:
        name = sqlalchemy.make_url(uri).drivername
    except (sqlalchemy.exc.ArgumentError, ValueError) as fault:
        said = redacted(str(fault))
        raise ValueError(f"{VARIABLE}: {said}. Write postgresql://user:password@host/database.") from None
    if name not in _DIALECTS:
        raise ValueError(
            f"{VARIABLE}: {redacted(uri)} is no PostgreSQL database. Write postgresql://user:password@host/database, "
            "or unset it to keep the ledger in the storage."
        )
    if importlib.util.find_spec("psycopg2") is None:
        raise ValueError(f"{VARIABLE} needs the Python module psycopg2: pip install -e '.[team]'.")
    return Server(uri, f"clustersweep_{_identity(storage, new)}")


def missing(storage: Storage, file: str) -> LookupError:
    """What to raise where nothing has run yet."""
    return LookupError(
        f"--storage {storage.folder}: there is no {file}. Run a study there first, or name another folder."
    )


def _identity(storage: Storage, new: bool) -> str:
    """Twelve hex digits, the same on every host: of the URI, or from a file in the folder."""
    if storage.uri:
        return hashlib.sha256(storage.uri.encode()).hexdigest()[:12]
    file = storage.folder / _ID
    if new:
        fresh = file.with_name(f".{_ID}-{uuid.uuid4().hex[:8]}")
        fresh.write_text(uuid.uuid4().hex[:12])
        with suppress(FileExistsError):
            os.link(fresh, file)  # whole at once, and whoever is first
        fresh.unlink()
    if not file.exists():
        raise missing(storage, _ID)
    known = file.read_text().strip()
    if not re.fullmatch("[0-9a-f]{12}", known):
        raise ValueError(f"{file} is not what was written: twelve hex digits. Put it back from a copy of the storage.")
    return known


class LedgerServer:
    """One connection, for one thread. patience_s: how long a server that is away is waited for.

    Raises:
        LedgerBusy, LedgerFull: here, within ``writing`` and from ``insist``.
        LedgerError: it cannot be used at all; here.
    """

    locked = " FOR UPDATE"

    def __init__(self, place: Server, patience_s: float) -> None:
        self._place, self._patience_s = place, patience_s
        self.connection = _Connection(place)
        self.insist(self._create)

    def _create(self) -> None:
        last = f"{self._place.schema}.{LAST_MADE}"
        (known,) = self.connection.execute("SELECT to_regclass(?)", (last,)).fetchone()
        if known is not None:
            return  # whoever only writes needs no right to create
        with self.writing():
            self.take_turns("tables")  # two that create the same at once get in each other's way
            self.connection.execute(f"CREATE SCHEMA IF NOT EXISTS {self._place.schema}")
            self.connection.execute(f"CREATE SCHEMA IF NOT EXISTS {self._place.schema}_optuna")
            counter = "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"
            for statement in SCHEMA.format(counter=counter).split(";"):
                self.connection.execute(statement)

    @contextmanager
    def writing(self, may_write: Callable[[], None] = lambda: None) -> Iterator[None]:
        self.connection.execute("BEGIN")
        try:
            may_write()
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            with suppress(self.connection.errors.Error):
                self.connection.execute("ROLLBACK")
            raise

    def take_turns(self, name: str) -> None:
        self.connection.execute("SELECT pg_advisory_xact_lock(hashtext(?))", (f"{self._place.schema} {name}",))

    def insist(self, call: Callable[[], _T]) -> _T:
        errors, until = self.connection.errors, time.monotonic() + self._patience_s
        while True:
            try:
                return call()
            except (errors.OperationalError, errors.InterfaceError) as error:
                if isinstance(error, errors.errors.DiskFull):
                    text = f"the database {self._place} has no room left"
                    raise LedgerFull(f"{text}; make room and start again, what was finished is kept") from error
                if time.monotonic() >= until or not self.connection.was_ever_open:
                    said = " ".join(redacted(str(error)).split())
                    raise LedgerBusy(
                        f"the database {self._place} cannot be used ({said}); see to it and start again, what was "
                        "finished is kept"
                    ) from error
                self.connection.close()
                time.sleep(_PAUSE_S)
            except errors.DatabaseError as error:
                said = " ".join(redacted(str(error)).split())
                raise LedgerError(f"the database {self._place} refuses: {said}") from error

    def refuse_damaged(self) -> None:
        """Nothing: a server checks its own files."""


class _Connection:
    """A connection that is opened when it is needed, and anew after ``close``; in SQLite's way of speaking."""

    def __init__(self, place: Server) -> None:
        self.errors: Any = importlib.import_module("psycopg2")
        self.was_ever_open = False
        self._rows = importlib.import_module("psycopg2.extras").DictCursor
        self._place = place
        self._open: Any = None

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Answer:
        cursor = self._cursor()
        cursor.execute(statement.replace("?", "%s"), tuple(map(_kept, values)))
        return cursor  # type: ignore[no-any-return]

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> object:
        cursor = self._cursor()
        return cursor.executemany(statement.replace("?", "%s"), [tuple(map(_kept, row)) for row in rows])

    def close(self) -> None:
        if self._open is not None:
            with suppress(self.errors.Error):
                self._open.close()
        self._open = None

    def _cursor(self) -> Any:
        if self._open is None:
            url = sqlalchemy.make_url(self._place.uri)
            given = url.translate_connect_args(username="user", database="dbname") | dict(url.query)
            made = self.errors.connect(**_ALIVE, application_name="clustersweep", **given)
            made.autocommit = True  # transactions are begun and ended in words
            with made.cursor() as cursor:
                cursor.execute(f"SET search_path TO {self._place.schema}")
            self._open, self.was_ever_open = made, True
        return self._open.cursor(cursor_factory=self._rows)


def _kept(value: Any) -> Any:
    """PostgreSQL's text has no NUL."""
    return value.replace("\0", "") if isinstance(value, str) else value
