"""A signal that comes within a transaction: nothing stays open, and it is raised all the same."""

import os
import signal
import sqlite3
import threading
from pathlib import Path
from platform.ledger.deferred_signals import deferred, deliver
from platform.ledger.ledger import Ledger
from platform.ledger.rows import DONE, RUNNING
from platform.run.launch import Interrupted, signals
from typing import Any

import pytest

from tests.ledger.ledgers import entered, of, opened


class _Signalled:
    """SQLite's connection; a SIGTERM comes when the statement with this number has been carried out."""

    def __init__(self, connection: sqlite3.Connection, statement: int) -> None:
        self._connection, self._left = connection, statement

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        cursor = self._connection.execute(*arguments)
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


STATEMENTS = 4
"""BEGIN, the check of the owner, one that writes, COMMIT: what ``finish`` asks of the database."""


@pytest.mark.parametrize("statement", range(1, STATEMENTS + 1))
def test_a_signal_after_any_statement_leaves_no_transaction_open(tmp_path: Path, statement: int) -> None:
    ledger, other = Ledger(tmp_path / "ledger.db"), Ledger(tmp_path / "ledger.db", patience_s=0.2)
    launch = opened(ledger)
    entered(ledger, launch, "a", "b")
    ledger.start(launch, "a")
    connection: Any = ledger._connection  # noqa: SLF001 - the signal comes between its statements
    ledger._tables.connection = _Signalled(connection, statement)  # type: ignore[assignment]  # noqa: SLF001
    with pytest.raises(Interrupted), signals():
        ledger.finish(launch, "a", {"acc": 0.5}, [], 1.0)
    assert not connection.in_transaction
    assert of(other, launch).state == DONE
    other.heartbeat(launch)
    ledger.start(launch, "b")
    assert of(other, launch, "b").state == RUNNING


def test_a_signal_waits_for_the_outermost_block() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), deferred():
        with deferred():
            deliver(KeyboardInterrupt())
            steps.append("inner")
        steps.append("outer")
    assert steps == ["inner", "outer"]
    with deferred():
        pass  # it was raised once


def test_a_signal_outside_of_a_block_is_raised_at_once() -> None:
    with pytest.raises(KeyboardInterrupt):
        deliver(KeyboardInterrupt())


def test_a_block_of_another_thread_defers_nothing_of_the_main_thread() -> None:
    entered_block, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with deferred():
            entered_block.set()
            leave.wait()

    other = threading.Thread(target=hold)
    other.start()
    entered_block.wait()
    try:
        with pytest.raises(KeyboardInterrupt):
            deliver(KeyboardInterrupt())
    finally:
        leave.set()
        other.join()
