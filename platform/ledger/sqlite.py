"""The ledger's tables in a SQLite file, for the processes of one host.

The file has a write-ahead log and ``synchronous=FULL``, so a power cut loses no commit. A transaction begins with
``BEGIN IMMEDIATE``, so concurrent writers wait for each other.
"""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from .schema import LedgerBusy, LedgerDamaged, LedgerFull, LedgerTables

_T = TypeVar("_T")
_ROOM_BYTES = 1 << 20
"""With less, a failed write is put down to the want of room."""


class SqliteTables(LedgerTables):
    """The tables in a file."""

    driver_error = sqlite3.Error
    # A deferred transaction that reads and then writes fails at once under contention, whatever the timeout.
    begin = "BEGIN IMMEDIATE"

    def __init__(self, path: Path, patience_s: float) -> None:
        """Open the file; create it and its tables if they do not exist.

        Args:
            path: the file; its folder exists.
            patience_s: how long a write waits for another process's transaction, in seconds.

        Raises:
            LedgerError: the file is damaged, full, or locked for longer than ``patience_s``.
        """
        self._path, self._patience_s = path, patience_s
        self.connection = sqlite3.connect(path, timeout=patience_s, isolation_level=None)
        self.connection.row_factory = sqlite3.Row
        self.retry(self._open)

    def _open(self) -> None:
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=FULL")
        with self.transaction():
            self.create(counter="INTEGER PRIMARY KEY")

    def retry(self, call: Callable[[], _T]) -> _T:
        """Make the call once; SQLite itself waits for a lock.

        Raises:
            LedgerBusy, LedgerFull, LedgerDamaged: by SQLite's message.
            sqlite3.DatabaseError: any other error of SQLite's.
        """
        try:
            return call()
        except sqlite3.DatabaseError as error:
            message = str(error)
            if "locked" in message:
                text = f"{self._path} is locked by another process for more than {self._patience_s:g} s"
                raise LedgerBusy(f"{text}; stop that process, or wait for it and start again") from error
            text = f"{self._path} cannot be written ({message})"
            if "full" in message or ("disk I/O" in message and self._has_no_room()):
                raise LedgerFull(f"{text}; make room and start again, what was finished is kept") from error
            if "disk I/O" in message or "unable to open" in message:
                beside = f"{self._path.name}-wal, -shm or -journal"
                raise LedgerDamaged(
                    f"{text}, though the disk has room. Look at the disk; move away what is no file in its place, and "
                    f"a {beside} that belongs to another copy of it, and start again"
                ) from error
            if "malformed" in message or "not a database" in message:
                raise self._damaged(message) from error
            raise

    def _has_no_room(self) -> bool:
        disk = shutil.disk_usage(self._path.parent)
        return disk.free < _ROOM_BYTES

    def check_integrity(self) -> None:
        (message,) = self.connection.execute("PRAGMA quick_check(1)").fetchone()
        if message != "ok":
            raise self._damaged(message)

    def _damaged(self, message: str) -> LedgerDamaged:
        return LedgerDamaged(
            f"{self._path} is damaged ({message.splitlines()[-1]}). Put back a copy of it, or move it and its -wal "
            "file away and start again: stage results are kept beside it, so finished trials are found again without "
            "being computed"
        )
