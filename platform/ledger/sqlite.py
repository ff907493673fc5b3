"""The ledger's tables in a SQLite file, for the processes of one host.

Write-ahead log, ``synchronous=FULL``, and ``BEGIN IMMEDIATE``, so that concurrent writers queue up instead of failing.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from .schema import SCHEMA, LedgerBusy, LedgerDamaged, LedgerFull

_T = TypeVar("_T")


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
            for statement in SCHEMA.format(counter="INTEGER PRIMARY KEY").split(";"):
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

    locked = ""  # a transaction has the whole file

    def take_turns(self, name: str) -> None:
        """Nothing: a transaction has the whole file."""

    def insist(self, call: Callable[[], _T]) -> _T:
        return call()

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
