"""Which driver has a study: launches in the ledger are opened, kept by a heartbeat, lost and closed.

One process at a time has a study. Its driver on this host is alive while the process is; a driver on another host,
whose clock may differ from ours, is alive while its heartbeat changes.
"""

import functools
import json
import operator
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from . import process_lease
from .postgres import PostgresTables, Server
from .rows import FAILED, PENDING, RUNNING, Launch, launch_of
from .schema import Connection, LedgerError, LedgerTables
from .sqlite import SqliteTables

Place = Path | Server
"""Where a ledger is: a file, or a storage's schema on a server."""

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Connected = TypeVar("_Connected", bound="Launches")

_NEWEST = "SELECT * FROM launches WHERE study = ? ORDER BY number DESC LIMIT 1"


class StudyLost(LedgerError):
    """This driver had the study, and another driver has taken it: nothing more is written."""


class StudyHeld(RuntimeError):
    """Another living driver works on this study."""


class StudyChanged(RuntimeError):
    """The study's name stands for another meaning in the ledger.

    Attributes:
        known: the meaning in the ledger.
        given: the meaning of the study file.
    """

    def __init__(self, name: str, known: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        super().__init__(f"study {name!r} is in the ledger with another meaning")
        self.known, self.given = known, given


def retried(method: Callable[Concatenate[_Connected, _P], _T]) -> Callable[Concatenate[_Connected, _P], _T]:
    """Call the method again if the connection was lost, and raise the database's errors as LedgerError."""

    @functools.wraps(method)
    def retrying(self: _Connected, /, *args: _P.args, **named: _P.kwargs) -> _T:
        return self._tables.retry(lambda: method(self, *args, **named))

    return retrying


class Launches:
    """The launches of a ledger, through one connection; ``ledger.Ledger`` adds trials and epochs."""

    def __init__(self, place: Place | str, patience_s: float = 60.0) -> None:
        """Connect to the ledger; create it if it does not exist.

        Args:
            place: a file or a server's schema.
            patience_s: how long a call waits for another process's lock, or for a server that went away, in seconds.

        Raises:
            LedgerError: it is damaged, full, locked for too long, or its server cannot be reached.
        """
        self.place: Place = place if isinstance(place, Server) else Path(place)
        self._tables: LedgerTables = (
            PostgresTables(self.place, patience_s)
            if isinstance(self.place, Server)
            else SqliteTables(self.place, patience_s)
        )
        self._owned_launch: int | None = None

    @property
    def _connection(self) -> Connection:
        return self._tables.connection

    def close(self) -> None:
        self._connection.close()

    def _transaction(self) -> AbstractContextManager[None]:
        return self._tables.transaction(self._check_ownership)

    def _check_ownership(self) -> None:
        """A driver that slept for longer than its lease must not write over its successor. Raises StudyLost."""
        if self._owned_launch is None:
            return
        query = f"SELECT * FROM launches WHERE id = ?{self._tables.for_update}"
        row = self._connection.execute(query, (self._owned_launch,)).fetchone()
        if row is None or row["owner"] != text_of(process_lease.this_process()):
            raise StudyLost(_lost(row))

    @retried
    def open_launch(  # noqa: PLR0913 - the columns of a launch
        self,
        study: str,
        meaning: Mapping[str, Any],
        resolved: Mapping[str, Any],
        *,
        lookahead: int,
        fresh: bool = False,
        facts: Mapping[str, Any] | None = None,
        same: Callable[[Mapping[str, Any], Mapping[str, Any]], bool] = operator.eq,
    ) -> Launch:
        """Take a study: continue its newest launch, or begin a new one.

        Trials that a dead driver left RUNNING, and FAILED ones, become PENDING again; PRUNED and COLLAPSED ones stay.

        Args:
            study: its name.
            meaning: what the name stands for; JSON values.
            resolved: the study with every default; JSON values.
            lookahead: configurations that are drawn ahead of the results; kept by a launch that is continued.
            fresh: begin a new launch, also with another meaning.
            facts: what else is known of a new launch.
            same: whether a study with the meaning in the ledger (first) may be continued with the given one (second).

        Returns:
            The launch, which this process owns until it closes it.

        Raises:
            StudyHeld: a living driver has the study.
            StudyChanged: ``same`` is false, and so is ``fresh``.
            LedgerDamaged: the ledger's file is damaged.
        """
        self._tables.check_integrity()
        self._owned_launch = None
        silent_lease = self._silent_lease(study)
        with self._transaction():
            self._tables.lock_name(study)
            newest = self._connection.execute(_NEWEST, (study,)).fetchone()
            _refuse_if_held(newest, silent_lease)
            self._enter_study(study, meaning, None if fresh else same)
            if newest is None or fresh:
                number = 1 if newest is None else newest["number"] + 1
                launch_id = self._insert_launch(study, number, lookahead, facts or {})
            else:
                launch_id = newest["id"]
            self._connection.execute(
                "UPDATE launches SET status = 'RUNNING', ended = NULL, resolved = ?, owner = ?, heartbeat = ? "
                "WHERE id = ?",
                (text_of(resolved), text_of(process_lease.this_process()), time.time(), launch_id),
            )
            self._connection.execute(
                "UPDATE trials SET state = ?, error = '' WHERE launch = ? AND state IN (?, ?)",
                (PENDING, launch_id, RUNNING, FAILED),
            )
        self._owned_launch = launch_id
        return self.launch(launch_id)

    def _enter_study(
        self,
        study: str,
        meaning: Mapping[str, Any],
        same: Callable[[Mapping[str, Any], Mapping[str, Any]], bool] | None,
    ) -> None:
        """Write what the name stands for. Raises StudyChanged: it stands for something else, as ``same`` says."""
        row = self._connection.execute("SELECT meaning FROM studies WHERE name = ?", (study,)).fetchone()
        text = text_of(meaning)
        if row is not None and same is not None:
            known, given = json.loads(row["meaning"]), json.loads(text)
            if not same(known, given):
                raise StudyChanged(study, known, given)
        self._connection.execute(
            "INSERT INTO studies VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET meaning = excluded.meaning",
            (study, text, time.time()),
        )

    def _insert_launch(self, study: str, number: int, lookahead: int, facts: Mapping[str, Any]) -> int:
        row = self._connection.execute(
            "INSERT INTO launches (study, number, resolved, lookahead, status, started, facts) "
            "VALUES (?, ?, '{}', ?, 'RUNNING', ?, ?) RETURNING id",
            (study, number, lookahead, time.time(), text_of(facts)),
        ).fetchone()
        return int(row["id"])

    def _silent_lease(self, study: str) -> tuple[str, float] | None:
        """(owner, heartbeat) of a driver on another host whose heartbeat did not change for a lease, or None."""

        def lease() -> tuple[str, float] | None:
            row = self._connection.execute(_NEWEST, (study,)).fetchone()
            return None if row is None or not row["owner"] else (row["owner"], row["heartbeat"])

        first = lease()
        if first is None or process_lease.is_here(json.loads(first[0])):
            return None
        return first if process_lease.is_silent(lambda: (lease() or ("", None))[1]) else None

    @retried
    def heartbeat(self, launch_id: int) -> None:
        """Renew this process's lease of the launch. Raises StudyLost: another driver has it."""
        with self._transaction():
            updated = self._connection.execute(
                "UPDATE launches SET heartbeat = ? WHERE id = ? AND owner = ?",
                (time.time(), launch_id, text_of(process_lease.this_process())),
            )
            if not updated.rowcount:
                row = self._connection.execute("SELECT * FROM launches WHERE id = ?", (launch_id,)).fetchone()
                raise StudyLost(_lost(row))

    @retried
    def close_launch(self, launch_id: int, status: str) -> None:
        """Release the study. status: "done", "failed" (some trials failed) or "interrupted"."""
        with self._transaction():
            self._connection.execute(
                "UPDATE launches SET status = ?, ended = ?, owner = NULL WHERE id = ?",
                (status, time.time(), launch_id),
            )
        self._owned_launch = None

    @retried
    def launch(self, launch_id: int) -> Launch:
        """The launch with this id. Raises KeyError: there is none."""
        row = self._connection.execute("SELECT * FROM launches WHERE id = ?", (launch_id,)).fetchone()
        if row is None:
            raise KeyError(f"no launch {launch_id} in {self.place}")
        return launch_of(row)

    @retried
    def launches(self, study: str | None = None) -> list[Launch]:
        """All launches, or those of one study, oldest first."""
        condition = "" if study is None else " WHERE study = ?"
        values = () if study is None else (study,)
        rows = self._connection.execute(f"SELECT * FROM launches{condition} ORDER BY id", values)
        return [launch_of(row) for row in rows]


def _refuse_if_held(row: Any, silent_lease: tuple[str, float] | None) -> None:
    """Raises StudyHeld: another living driver owns the launch in this row. row: None if there is no launch."""
    if row is None or not row["owner"]:
        return
    owner = json.loads(row["owner"])
    alive = (
        process_lease.is_alive(owner)
        if process_lease.is_here(owner)
        else (row["owner"], row["heartbeat"]) != silent_lease
    )
    if alive and owner != process_lease.this_process():
        raise StudyHeld(
            f"study {row['study']!r} is being run by process {owner['pid']} on {owner['host']}; "
            f"wait for it, stop it, or give this run another name with --set name=..."
        )


def _lost(row: Any) -> str:
    if row is None or not row["owner"]:
        return "this driver's launch is not its own any more; it stops, and what it finished is kept"
    successor = json.loads(row["owner"])
    return (
        f"study {row['study']!r} was taken over by process {successor['pid']} on {successor['host']} while this "
        "driver was silent; this one stops, and what it finished is kept"
    )


def text_of(value: Any) -> str:
    """JSON with sorted keys. Raises ValueError: a number is NaN or infinite."""
    return json.dumps(value, sort_keys=True, allow_nan=False)
