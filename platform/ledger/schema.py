"""The ledger's tables, the transaction that writes to them, and the errors of both.

The tables are in a SQLite file (``sqlite.py``) or on a PostgreSQL server (``postgres.py``). Both read the same SQL, so
every statement is written once, with ``?`` for a value. It is written by hand: the same ledger in SQLAlchemy Core has
as many lines, and building and rendering its expressions makes the transaction that ends a trial four times as long.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, Protocol, TypeVar

from .deferred_signals import deferred

_T = TypeVar("_T")

SCHEMA = """
CREATE TABLE IF NOT EXISTS studies (
    name TEXT PRIMARY KEY, meaning TEXT NOT NULL, created DOUBLE PRECISION NOT NULL
);
CREATE TABLE IF NOT EXISTS launches (
    id {counter}, study TEXT NOT NULL, number BIGINT NOT NULL, resolved TEXT NOT NULL,
    lookahead BIGINT NOT NULL, status TEXT NOT NULL, started DOUBLE PRECISION NOT NULL, ended DOUBLE PRECISION,
    facts TEXT NOT NULL, owner TEXT, heartbeat DOUBLE PRECISION, UNIQUE (study, number)
);
CREATE TABLE IF NOT EXISTS settings (
    launch BIGINT NOT NULL, number BIGINT NOT NULL, variant TEXT NOT NULL, params TEXT NOT NULL,
    PRIMARY KEY (launch, number)
);
CREATE TABLE IF NOT EXISTS trials (
    launch BIGINT NOT NULL, key TEXT NOT NULL, kind TEXT NOT NULL, setting BIGINT, seed BIGINT NOT NULL,
    state TEXT NOT NULL, cell TEXT NOT NULL, attempts BIGINT NOT NULL DEFAULT 0, worker TEXT NOT NULL DEFAULT '{{}}',
    metrics TEXT NOT NULL DEFAULT '{{}}', stages TEXT NOT NULL DEFAULT '[]', error TEXT NOT NULL DEFAULT '',
    started DOUBLE PRECISION, ended DOUBLE PRECISION, seconds DOUBLE PRECISION, sequence BIGINT,
    PRIMARY KEY (launch, key)
);
CREATE TABLE IF NOT EXISTS epochs (
    id {counter}, launch BIGINT NOT NULL, key TEXT NOT NULL, slot TEXT NOT NULL, epoch BIGINT NOT NULL,
    total BIGINT NOT NULL, metrics TEXT NOT NULL, time DOUBLE PRECISION NOT NULL, UNIQUE (launch, key, slot, epoch)
);
CREATE TABLE IF NOT EXISTS exports (
    target TEXT NOT NULL, launch BIGINT NOT NULL, key TEXT NOT NULL, run_id TEXT NOT NULL DEFAULT '',
    last_epoch_id BIGINT NOT NULL DEFAULT 0, finished BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (target, launch, key)
);
CREATE INDEX IF NOT EXISTS trials_by_setting ON trials (launch, setting);
CREATE INDEX IF NOT EXISTS trials_by_state ON trials (launch, state);
CREATE INDEX IF NOT EXISTS trials_by_end ON trials (launch, sequence)
"""
"""``{counter}`` stands for the type of an id that the database counts up by itself.

``settings`` holds configurations, ``trials.setting`` a configuration's number and ``trials.cell`` a trial's
specification: ledgers written before the classes were renamed are still read.
"""

LAST_CREATED = "trials_by_end"
"""The last thing that ``SCHEMA`` creates: if it exists, everything exists."""


class LedgerError(RuntimeError):
    """The ledger cannot be read or written. The text is for the user; every acknowledged write is kept."""


class LedgerBusy(LedgerError):
    """Another process keeps the ledger locked, or its server cannot be reached."""


class LedgerFull(LedgerError):
    """There is no room left for the ledger."""


class LedgerDamaged(LedgerError):
    """The ledger's file does not hold what was written to it."""


class Cursor(Protocol):
    """The result of a statement: its rows by column name, and how many rows it changed."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A connection that takes SQL with ``?`` for values, and begins no transaction by itself."""

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Cursor: ...

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]], /) -> object: ...

    def close(self) -> None: ...


class LedgerTables(ABC):
    """One connection to the ledger's tables, for one thread."""

    connection: Connection
    driver_error: type[Exception]
    """The base of the errors that ``connection`` raises."""

    begin: ClassVar[str] = "BEGIN"
    for_update: ClassVar[str] = ""
    """The end of a SELECT that locks its rows until the transaction ends."""

    @contextmanager
    def transaction(self, check: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Commit all that the block writes, or nothing of it if the block raises. A signal waits for its end.

        Args:
            check: called first, within the transaction; it raises if nothing may be written.
        """
        with deferred():
            self.connection.execute(self.begin)
            try:
                check()
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                with suppress(self.driver_error):  # a full disk or a lost connection has ended the transaction already
                    self.connection.execute("ROLLBACK")
                raise

    def create(self, counter: str) -> None:
        """Create the tables that do not exist yet; within a transaction. counter: see ``SCHEMA``."""
        for statement in SCHEMA.format(counter=counter).split(";"):
            self.connection.execute(statement)

    @abstractmethod
    def retry(self, call: Callable[[], _T]) -> _T:
        """Make a call that reads or writes, and again if the connection was lost meanwhile.

        Args:
            call: changes nothing more when it is made a second time.

        Raises:
            LedgerError: the database failed; the error names it without its password.
        """

    def lock_name(self, name: str) -> None:  # noqa: B027 - a transaction on a SQLite file locks all of it
        """Within a transaction: wait until no other transaction holds the lock of this name, and hold it."""

    def check_integrity(self) -> None:  # noqa: B027 - a server checks its own files
        """Raises LedgerDamaged: the file does not hold what was written to it."""
