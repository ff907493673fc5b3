"""The ledger's file: its tables, its transactions, and what can be wrong with it in words for the user.

Write-ahead log, ``synchronous=FULL``, and ``BEGIN IMMEDIATE``, so that concurrent writers queue up instead of failing.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS studies (
    name TEXT PRIMARY KEY, meaning TEXT NOT NULL, created REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS launches (
    id INTEGER PRIMARY KEY, study TEXT NOT NULL, number INTEGER NOT NULL, resolved TEXT NOT NULL,
    lookahead INTEGER NOT NULL, status TEXT NOT NULL, started REAL NOT NULL, ended REAL, facts TEXT NOT NULL,
    owner TEXT, heartbeat REAL, UNIQUE (study, number)
);
CREATE TABLE IF NOT EXISTS settings (
    launch INTEGER NOT NULL, number INTEGER NOT NULL, variant TEXT NOT NULL, params TEXT NOT NULL,
    PRIMARY KEY (launch, number)
);
CREATE TABLE IF NOT EXISTS trials (
    launch INTEGER NOT NULL, key TEXT NOT NULL, kind TEXT NOT NULL, setting INTEGER, seed INTEGER NOT NULL,
    state TEXT NOT NULL, cell TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, worker TEXT NOT NULL DEFAULT '{}',
    metrics TEXT NOT NULL DEFAULT '{}', stages TEXT NOT NULL DEFAULT '[]', error TEXT NOT NULL DEFAULT '',
    started REAL, ended REAL, seconds REAL, sequence INTEGER,
    PRIMARY KEY (launch, key)
);
CREATE TABLE IF NOT EXISTS epochs (
    id INTEGER PRIMARY KEY, launch INTEGER NOT NULL, key TEXT NOT NULL, slot TEXT NOT NULL, epoch INTEGER NOT NULL,
    total INTEGER NOT NULL, metrics TEXT NOT NULL, time REAL NOT NULL, UNIQUE (launch, key, slot, epoch)
);
CREATE TABLE IF NOT EXISTS exports (
    target TEXT NOT NULL, launch INTEGER NOT NULL, key TEXT NOT NULL, run_id TEXT NOT NULL DEFAULT '',
    last_epoch_id INTEGER NOT NULL DEFAULT 0, finished INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (target, launch, key)
);
CREATE INDEX IF NOT EXISTS trials_by_setting ON trials (launch, setting);
CREATE INDEX IF NOT EXISTS trials_by_state ON trials (launch, state);
CREATE INDEX IF NOT EXISTS trials_by_end ON trials (launch, sequence);
"""


class LedgerError(RuntimeError):
    """The ledger cannot be read or written as it must be. Its text is for the user; what was acknowledged is kept."""


class LedgerBusy(LedgerError):
    """Another process keeps the ledger locked."""


class LedgerFull(LedgerError):
    """There is no room left for the ledger."""


class LedgerDamaged(LedgerError):
    """The ledger's file is not what was written."""


class LedgerFile:
    """One connection, for one thread. patience_s: how long a write waits for another process's.

    Raises:
        LedgerDamaged, LedgerBusy, LedgerFull: here, within ``writing`` and from ``refuse_damaged``.
    """

    def __init__(self, path: Path, patience_s: float) -> None:
        self.path, self._patience_s = path, patience_s
        self.connection = sqlite3.connect(path, timeout=patience_s, isolation_level=None)
        self.connection.row_factory = sqlite3.Row
        with self._explained():
            self.connection.execute("PRAGMA journal_mode=WAL")
            self.connection.execute("PRAGMA synchronous=FULL")
        with self.writing():
            for statement in _SCHEMA.split(";"):
                self.connection.execute(statement)

    @contextmanager
    def writing(self, may_write: Callable[[], None] = lambda: None) -> Iterator[None]:
        """One transaction; it begins with ``may_write``, which raises where nothing may be written."""
        with self._explained():
            # IMMEDIATE: a deferred transaction that reads and then writes fails at once under contention, timeout or
            # not.
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                may_write()
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:  # a full disk may have ended it
                    self.connection.execute("ROLLBACK")
                raise

    def refuse_damaged(self) -> None:
        with self._explained():
            (said,) = self.connection.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise self._damaged(said)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            said = str(error)
            if "locked" in said:
                text = f"{self.path} is locked by another process for more than {self._patience_s:g} s"
                raise LedgerBusy(f"{text}; stop that process, or wait for it and start again") from error
            if "full" in said or "disk I/O" in said:
                text = f"{self.path} cannot be written ({said})"
                raise LedgerFull(f"{text}; make room and start again, what was finished is kept") from error
            if "malformed" in said or "not a database" in said:
                raise self._damaged(said) from error
            raise

    def _damaged(self, said: str) -> LedgerDamaged:
        return LedgerDamaged(
            f"{self.path} is damaged ({said.splitlines()[-1]}). Put back a copy of it, or move it and its -wal file "
            "away and start again: stage results are kept beside it, so finished trials are found again without being "
            "computed"
        )
