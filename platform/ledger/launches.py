"""Which driver has a study: launches in the ledger, opened, kept by a heartbeat, lost and closed.

One process at a time has a study. A holder on this host is alive while its process is; one on another host, whose clock
need not be ours, while its heartbeat is seen to move.
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
from .postgres import LedgerServer, Server
from .rows import FAILED, PENDING, RUNNING, Launch, launch_of
from .schema import Connection, LedgerError, Tables
from .sqlite import LedgerFile

Place = Path | Server
"""Where a ledger is: a file, or a storage's schema on a server."""

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Connected = TypeVar("_Connected", bound="Launches")


class StudyLost(LedgerError):
    """This driver held the study, and another one has taken it: nothing more is written."""


class StudyHeld(RuntimeError):
    """Another living driver works on this study."""


class StudyChanged(RuntimeError):
    """The study's name is in the ledger with another meaning."""

    def __init__(self, name: str, known: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        super().__init__(f"study {name!r} is in the ledger with another meaning")
        self.known, self.given = known, given


def insisting(
    method: Callable[Concatenate[_Connected, _P], _T],
) -> Callable[Concatenate[_Connected, _P], _T]:
    """Do it again where the connection to a server was lost."""

    @functools.wraps(method)
    def insisted(self: _Connected, /, *args: _P.args, **named: _P.kwargs) -> _T:
        return self._tables.insist(lambda: method(self, *args, **named))

    return insisted


class Launches:
    """A connection to the ledger, as far as launches go; ``ledger.Ledger`` is the whole."""

    def __init__(self, place: Place | str, patience_s: float = 60.0) -> None:
        """Raises LedgerError: it is damaged, full, locked for too long, or its server cannot be reached."""
        self.place: Place = place if isinstance(place, Server) else Path(place)
        self._tables: Tables = (
            LedgerServer(self.place, patience_s)
            if isinstance(self.place, Server)
            else LedgerFile(self.place, patience_s)
        )
        self._held: int | None = None

    @property
    def _connection(self) -> Connection:
        return self._tables.connection

    def close(self) -> None:
        self._connection.close()

    def _writing(self) -> AbstractContextManager[None]:
        return self._tables.writing(self._refuse_if_lost)

    def _refuse_if_lost(self) -> None:
        """A driver that slept longer than its lease may have been replaced; it must not write over its successor."""
        if self._held is None:
            return
        mine = f"SELECT * FROM launches WHERE id = ?{self._tables.locked}"
        row = self._connection.execute(mine, (self._held,)).fetchone()
        if row is None or row["owner"] != text_of(process_lease.this_process()):
            raise StudyLost(_lost(row))

    @insisting
    def open_launch(  # noqa: PLR0913 - what makes a launch
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
        """Take a study: continue its newest launch, or begin a new one with ``fresh`` or for a new name.

        Trials that a dead driver left RUNNING, and FAILED ones, become PENDING again; PRUNED and COLLAPSED ones stay.
        ``same(known, given)``: whether the given meaning goes on with the known one.

        Raises:
            StudyHeld: a living driver has it. StudyChanged: the name stands for another meaning, and not ``fresh``.
            LedgerDamaged: the file is.
        """
        self._tables.refuse_damaged()
        self._held = None
        now, me = time.time(), process_lease.this_process()
        silent = self._watched(study)
        with self._writing():
            self._tables.take_turns(study)
            known = self._connection.execute("SELECT meaning FROM studies WHERE name = ?", (study,)).fetchone()
            row = self._connection.execute(
                "SELECT * FROM launches WHERE study = ? ORDER BY number DESC LIMIT 1", (study,)
            ).fetchone()
            if row is not None and row["owner"]:
                holder = json.loads(row["owner"])
                alive = (
                    process_lease.is_alive(holder)
                    if process_lease.is_here(holder)
                    else (row["owner"], row["heartbeat"]) != silent
                )
                if holder != me and alive:
                    raise StudyHeld(
                        f"study {study!r} is being run by process {holder['pid']} on {holder['host']}; "
                        f"wait for it, stop it, or give this run another name with --set name=..."
                    )
            given = json.loads(text_of(meaning))
            if known is not None and not fresh and not same(json.loads(known["meaning"]), given):
                raise StudyChanged(study, json.loads(known["meaning"]), given)
            self._connection.execute(
                "INSERT INTO studies VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET meaning = excluded.meaning",
                (study, text_of(meaning), now),
            )
            if row is None or fresh:
                number = 1 if row is None else row["number"] + 1
                cursor = self._connection.execute(
                    "INSERT INTO launches (study, number, resolved, lookahead, status, started, facts) "
                    "VALUES (?, ?, ?, ?, 'RUNNING', ?, ?) RETURNING id",
                    (study, number, text_of(resolved), lookahead, now, text_of(facts or {})),
                )
                launch = int(cursor.fetchone()["id"])
            else:
                launch = row["id"]
            self._connection.execute(
                "UPDATE launches SET status = 'RUNNING', ended = NULL, resolved = ?, owner = ?, heartbeat = ? "
                "WHERE id = ?",
                (text_of(resolved), text_of(me), now, launch),
            )
            self._connection.execute(
                "UPDATE trials SET state = ?, error = '' WHERE launch = ? AND state IN (?, ?)",
                (PENDING, launch, RUNNING, FAILED),
            )
        self._held = launch
        return self.launch(launch)

    def _watched(self, study: str) -> tuple[str, float] | None:
        """(owner, heartbeat) of a holder on another host that was watched for a lease and did not stir, or None."""

        def seen() -> tuple[str, float] | None:
            row = self._connection.execute(
                "SELECT owner, heartbeat FROM launches WHERE study = ? ORDER BY number DESC LIMIT 1", (study,)
            ).fetchone()
            return None if row is None or not row["owner"] else (row["owner"], row["heartbeat"])

        first = seen()
        if first is None or process_lease.is_here(json.loads(first[0])):
            return None
        return first if process_lease.is_silent(lambda: (seen() or ("", None))[1]) else None

    @insisting
    def heartbeat(self, launch: int) -> None:
        """Say that this process is alive and has the launch. Raises StudyLost: it has it no longer."""
        with self._writing():
            told = self._connection.execute(
                "UPDATE launches SET heartbeat = ? WHERE id = ? AND owner = ?",
                (time.time(), launch, text_of(process_lease.this_process())),
            )
            if not told.rowcount:
                row = self._connection.execute("SELECT * FROM launches WHERE id = ?", (launch,)).fetchone()
                raise StudyLost(_lost(row))

    @insisting
    def close_launch(self, launch: int, status: str) -> None:
        """Release the study. status: "done", "failed" (some trials failed) or "interrupted"."""
        with self._writing():
            self._connection.execute(
                "UPDATE launches SET status = ?, ended = ?, owner = NULL WHERE id = ?", (status, time.time(), launch)
            )
        self._held = None

    @insisting
    def launch(self, launch: int) -> Launch:
        row = self._connection.execute("SELECT * FROM launches WHERE id = ?", (launch,)).fetchone()
        if row is None:
            raise KeyError(f"no launch {launch} in {self.place}")
        return launch_of(row)

    @insisting
    def launches(self, study: str | None = None) -> list[Launch]:
        """All launches, or those of one study, oldest first."""
        which = "" if study is None else " WHERE study = ?"
        values = () if study is None else (study,)
        rows = self._connection.execute(f"SELECT * FROM launches{which} ORDER BY id", values)
        return [launch_of(row) for row in rows]


def _lost(row: Any) -> str:
    if row is None or not row["owner"]:
        return "this driver's launch is not its own any more; it stops, and what it finished is kept"
    taker = json.loads(row["owner"])
    return (
        f"study {row['study']!r} was taken over by process {taker['pid']} on {taker['host']} while this driver was "
        "silent; this one stops, and what it finished is kept"
    )


def text_of(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)
