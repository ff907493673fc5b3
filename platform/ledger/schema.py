"""What the ledger asks of wherever its tables are, which tables those are, and what can be wrong there in words.

In a file (``ledger_file``) or on a server (``ledger_server``); both keep what was written once they said so.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

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
"""counter: how the place declares a number that it counts up by itself."""

LAST_MADE = "trials_by_end"
"""Where this is, everything is."""


class LedgerError(RuntimeError):
    """The ledger cannot be read or written as it must be. Its text is for the user; what was acknowledged is kept."""


class LedgerBusy(LedgerError):
    """Another process keeps the ledger locked, or its server cannot be reached."""


class LedgerFull(LedgerError):
    """There is no room left for the ledger."""


class LedgerDamaged(LedgerError):
    """The ledger's file is not what was written."""


class Answer(Protocol):
    """Rows by column name, and how many were changed."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """Takes SQL with ``?`` for values."""

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Answer: ...

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]], /) -> object: ...

    def close(self) -> None: ...


class Tables(Protocol):
    """A place of tables, for one thread. Raises LedgerError and what is made of it."""

    @property
    def connection(self) -> Connection: ...

    @property
    def locked(self) -> str:
        """What a SELECT ends with that keeps others from changing its rows before the transaction ends."""
        ...

    def writing(self, may_write: Callable[[], None] = lambda: None) -> AbstractContextManager[None]:
        """One transaction; it begins with ``may_write``, which raises where nothing may be written."""
        ...

    def insist(self, call: Callable[[], _T]) -> _T:
        """Make a call that asks or writes, and again if its connection was lost; done twice it must change nothing."""
        ...

    def take_turns(self, name: str) -> None:
        """Within a transaction: wait for whoever else does something under the same name."""
        ...

    def refuse_damaged(self) -> None: ...
