"""The truth: one SQLite file, or schema of a PostgreSQL server, that knows every launch, setting, trial and epoch.

A trial's DONE and its metrics are written here before Optuna, MLflow or the screen hear of them; all of those can be
rebuilt from it, and nothing is read back from them. Stock parts do not hold after a SIGKILL; this does.

    studies    one row per study name: what it means (a changed meaning is refused)
    launches   a study's runs from a clean slate; continued by the same command, replaced by --fresh
    settings   the numbered parameter settings (or ablation rows) of a launch, in the order they were drawn
    trials     setting x seed, keyed by content address: PENDING -> RUNNING -> DONE | FAILED | PRUNED | COLLAPSED
    epochs     every epoch of every trial
    exports    what the tracker has already sent where

One instance serves one thread.
"""

import functools
import json
import operator
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from trainables import diary

from ..study.faults import redacted
from . import owner
from .ledger_file import LedgerFile
from .ledger_server import VARIABLE, LedgerServer, Server, missing, server_of
from .ledger_tables import Connection, LedgerError, Tables
from .rows import (
    DONE,
    ENDED,
    FAILED,
    PENDING,
    RUNNING,
    EpochRow,
    Launch,
    Setting,
    Trial,
    launch_of,
    setting_of,
    trial_of,
)
from .storage import Storage

LEDGER = "ledger.db"
"""The file's name in a storage folder."""

Place = Path | Server
"""Where a ledger is: a file, or a storage's schema on a server."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


class StudyLost(LedgerError):
    """This driver held the study, and another one has taken it: nothing more is written."""


class StudyHeld(RuntimeError):
    """Another living driver works on this study."""


class StudyChanged(RuntimeError):
    """The study's name is in the ledger with another meaning."""

    def __init__(self, name: str, known: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        super().__init__(f"study {name!r} is in the ledger with another meaning")
        self.known, self.given = known, given


def place_of(storage: Storage, *, new: bool = True) -> Place:
    """Where the ledger of a storage is: on the server that CLUSTERSWEEP_DATABASE names, or else in its folder.

    new: whether one may be made there.

    Raises:
        LookupError: there is none, and ``new`` is false. ValueError: the variable names no database. Sentences.
    """
    uri = os.environ.get(VARIABLE, "")
    if uri:
        return server_of(storage, uri, new=new)
    if not new and not (storage.folder / LEDGER).exists():
        raise missing(storage, LEDGER)
    return storage.folder / LEDGER


def _insisting(
    method: Callable[Concatenate["Ledger", _P], _T],
) -> Callable[Concatenate["Ledger", _P], _T]:
    """Do it again where the connection to a server was lost."""

    @functools.wraps(method)
    def insisted(self: "Ledger", /, *args: _P.args, **named: _P.kwargs) -> _T:
        return self._tables.insist(lambda: method(self, *args, **named))

    return insisted


class Ledger:
    """A connection to the ledger; see the module's docstring."""

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
        if row is None or row["owner"] != _text(owner.this_process()):
            raise StudyLost(_lost(row))

    # Launches

    @_insisting
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
        now, me = time.time(), owner.this_process()
        silent = self._watched(study)
        with self._writing():
            self._tables.take_turns(study)
            known = self._connection.execute("SELECT meaning FROM studies WHERE name = ?", (study,)).fetchone()
            row = self._connection.execute(
                "SELECT * FROM launches WHERE study = ? ORDER BY number DESC LIMIT 1", (study,)
            ).fetchone()
            if row is not None and row["owner"]:
                holder = json.loads(row["owner"])
                alive = owner.is_alive(holder) if owner.is_here(holder) else (row["owner"], row["heartbeat"]) != silent
                if holder != me and alive:
                    raise StudyHeld(
                        f"study {study!r} is being run by process {holder['pid']} on {holder['host']}; "
                        f"wait for it, stop it, or give this run another name with --set name=..."
                    )
            given = json.loads(_text(meaning))
            if known is not None and not fresh and not same(json.loads(known["meaning"]), given):
                raise StudyChanged(study, json.loads(known["meaning"]), given)
            self._connection.execute(
                "INSERT INTO studies VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET meaning = excluded.meaning",
                (study, _text(meaning), now),
            )
            if row is None or fresh:
                number = 1 if row is None else row["number"] + 1
                cursor = self._connection.execute(
                    "INSERT INTO launches (study, number, resolved, lookahead, status, started, facts) "
                    "VALUES (?, ?, ?, ?, 'RUNNING', ?, ?) RETURNING id",
                    (study, number, _text(resolved), lookahead, now, _text(facts or {})),
                )
                launch = int(cursor.fetchone()["id"])
            else:
                launch = row["id"]
            self._connection.execute(
                "UPDATE launches SET status = 'RUNNING', ended = NULL, resolved = ?, owner = ?, heartbeat = ? "
                "WHERE id = ?",
                (_text(resolved), _text(me), now, launch),
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
        if first is None or owner.is_here(json.loads(first[0])):
            return None
        return first if owner.is_silent(lambda: (seen() or ("", None))[1]) else None

    @_insisting
    def heartbeat(self, launch: int) -> None:
        """Say that this process is alive and has the launch. Raises StudyLost: it has it no longer."""
        with self._writing():
            told = self._connection.execute(
                "UPDATE launches SET heartbeat = ? WHERE id = ? AND owner = ?",
                (time.time(), launch, _text(owner.this_process())),
            )
            if not told.rowcount:
                row = self._connection.execute("SELECT * FROM launches WHERE id = ?", (launch,)).fetchone()
                raise StudyLost(_lost(row))

    @_insisting
    def close_launch(self, launch: int, status: str) -> None:
        """Release the study. status: "done", "failed" (some trials failed) or "interrupted"."""
        with self._writing():
            self._connection.execute(
                "UPDATE launches SET status = ?, ended = ?, owner = NULL WHERE id = ?", (status, time.time(), launch)
            )
        self._held = None

    @_insisting
    def launch(self, launch: int) -> Launch:
        row = self._connection.execute("SELECT * FROM launches WHERE id = ?", (launch,)).fetchone()
        if row is None:
            raise KeyError(f"no launch {launch} in {self.place}")
        return launch_of(row)

    @_insisting
    def launches(self, study: str | None = None) -> list[Launch]:
        """All launches, or those of one study, oldest first."""
        which = "" if study is None else " WHERE study = ?"
        values = () if study is None else (study,)
        rows = self._connection.execute(f"SELECT * FROM launches{which} ORDER BY id", values)
        return [launch_of(row) for row in rows]

    # Settings and trials

    @_insisting
    def add_setting(self, launch: int, setting: Setting) -> None:
        with self._writing():
            self._connection.execute(
                "INSERT INTO settings VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (launch, setting.number, setting.variant, _text(setting.params)),
            )

    @_insisting
    def settings(self, launch: int) -> list[Setting]:
        rows = self._connection.execute("SELECT * FROM settings WHERE launch = ? ORDER BY number", (launch,))
        return [setting_of(row) for row in rows]

    @_insisting
    def setting(self, launch: int, number: int) -> Setting:
        found = "SELECT * FROM settings WHERE launch = ? AND number = ?"
        return setting_of(self._connection.execute(found, (launch, number)).fetchone())

    @_insisting
    def add_trials(
        self, launch: int, cells: Sequence[tuple[str, Mapping[str, Any]]], *, setting: int | None = None
    ) -> None:
        """Enter (key, cell) pairs as PENDING; those already there stay as they are."""
        rows = [(launch, key, cell["kind"], setting, cell["seed"], PENDING, _text(cell)) for key, cell in cells]
        with self._writing():
            self._connection.executemany(
                "INSERT INTO trials (launch, key, kind, setting, seed, state, cell) VALUES (?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                rows,
            )

    @_insisting
    def start(self, launch: int, key: str) -> None:
        with self._writing():
            self._connection.execute(
                "UPDATE trials SET state = ?, attempts = attempts + 1, started = COALESCE(started, ?) "
                "WHERE launch = ? AND key = ? AND state != ?",
                (RUNNING, time.time(), launch, key, DONE),
            )

    @_insisting
    def finish(  # noqa: PLR0913 - the columns of one row
        self,
        launch: int,
        key: str,
        metrics: Mapping[str, float],
        stages: Sequence[Mapping[str, Any]],
        seconds: float,
        worker: Mapping[str, Any] | None = None,
    ) -> None:
        """DONE, once and for all: a second call for the same trial changes nothing."""
        with self._writing():
            told = self._connection.execute(
                f"UPDATE trials SET state = ?, error = '', metrics = ?, stages = ?, seconds = ?, worker = ?, "
                f"ended = ?, sequence = {_NEXT} WHERE launch = ? AND key = ? AND state != ?",
                (
                    DONE,
                    _text(metrics),
                    _text(list(stages)),
                    seconds,
                    _text(worker or {}),
                    time.time(),
                    launch,
                    launch,
                    key,
                    DONE,
                ),
            )
        if told.rowcount:
            diary.note(diary.DONE, key)

    @_insisting
    def fail(self, launch: int, key: str, error: str) -> None:
        with self._writing():
            self._connection.execute(
                f"UPDATE trials SET state = ?, error = ?, ended = ?, sequence = {_NEXT} "
                "WHERE launch = ? AND key = ? AND state NOT IN (?, ?)",
                (FAILED, redacted(error), time.time(), launch, launch, key, DONE, FAILED),
            )

    @_insisting
    def stop(
        self, launch: int, key: str, state: str, reason: str, metrics: Mapping[str, float], seconds: float
    ) -> None:
        """PRUNED or COLLAPSED, with the metrics of the last epoch; what has ended already stays as it is."""
        values = (state, redacted(reason), _text(metrics), seconds, time.time(), launch, launch, key, *ENDED)
        with self._writing():
            self._connection.execute(
                f"UPDATE trials SET state = ?, error = ?, metrics = ?, seconds = ?, ended = ?, sequence = {_NEXT} "
                "WHERE launch = ? AND key = ? AND state NOT IN (?, ?, ?, ?)",
                values,
            )

    @_insisting
    def trials(self, launch: int, kind: str | None = None) -> list[Trial]:
        """Trials of a launch, prepare cells first, then by setting and seed."""
        query = "SELECT * FROM trials WHERE launch = ?" + (" AND kind = ?" if kind else "")
        rows = self._connection.execute(
            query + " ORDER BY setting IS NOT NULL, setting, seed, key", (launch, kind) if kind else (launch,)
        )
        return [trial_of(row) for row in rows]

    @_insisting
    def trials_since(self, launch: int, sequence: int) -> list[Trial]:
        """Those that have not ended, and those that ended after the trial of a sequence, in the order of ending."""
        rows = self._connection.execute(
            "SELECT * FROM trials WHERE (launch = ? AND state IN (?, ?)) OR (launch = ? AND sequence > ?) "
            "ORDER BY sequence IS NULL, sequence, setting, seed, key",
            (launch, PENDING, RUNNING, launch, sequence),
        )
        return [trial_of(row) for row in rows]

    @_insisting
    def trial(self, launch: int, key: str) -> Trial | None:
        row = self._connection.execute("SELECT * FROM trials WHERE launch = ? AND key = ?", (launch, key)).fetchone()
        return None if row is None else trial_of(row)

    # Epochs and exports

    @_insisting
    def add_epochs(self, launch: int, key: str, epochs: Sequence[Mapping[str, Any]]) -> None:
        """Rows of {slot, epoch, total, metrics}. An epoch repeated after a crash keeps its first row."""
        now = time.time()
        rows = [(launch, key, row["slot"], row["epoch"], row["total"], _text(row["metrics"]), now) for row in epochs]
        with self._writing():
            self._connection.executemany(
                "INSERT INTO epochs (launch, key, slot, epoch, total, metrics, time) VALUES (?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                rows,
            )

    @_insisting
    def epochs(self, launch: int, key: str | None = None, after_id: int = 0) -> list[EpochRow]:
        """Epochs of a launch, or of one trial, with ids above ``after_id``, in the order of arrival."""
        query = "SELECT * FROM epochs WHERE launch = ? AND id > ?" + (" AND key = ?" if key else "") + " ORDER BY id"
        values = (launch, after_id, key) if key else (launch, after_id)
        return [
            EpochRow(
                row["id"], row["key"], row["slot"], row["epoch"], row["total"], json.loads(row["metrics"]), row["time"]
            )
            for row in self._connection.execute(query, values)
        ]

    @_insisting
    def export(self, target: str, launch: int, key: str) -> tuple[str, int, bool]:
        """(run id, last epoch id sent, finished) of a trial at ``target`` ("mlflow"); ("", 0, False) if new."""
        row = self._connection.execute(
            "SELECT * FROM exports WHERE target = ? AND launch = ? AND key = ?", (target, launch, key)
        ).fetchone()
        return ("", 0, False) if row is None else (row["run_id"], row["last_epoch_id"], bool(row["finished"]))

    @_insisting
    def note_export(
        self, target: str, launch: int, key: str, run_id: str, last_epoch_id: int, finished: bool = False
    ) -> None:
        with self._writing():
            self._connection.execute(
                "INSERT INTO exports VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (target, launch, key) DO UPDATE SET "
                "run_id = excluded.run_id, last_epoch_id = excluded.last_epoch_id, finished = excluded.finished",
                (target, launch, key, run_id, last_epoch_id, int(finished)),
            )


_NEXT = "(SELECT COALESCE(MAX(sequence), 0) + 1 FROM trials WHERE launch = ?)"


def _lost(row: Any) -> str:
    if row is None or not row["owner"]:
        return "this driver's launch is not its own any more; it stops, and what it finished is kept"
    taker = json.loads(row["owner"])
    return (
        f"study {row['study']!r} was taken over by process {taker['pid']} on {taker['host']} while this driver was "
        "silent; this one stops, and what it finished is kept"
    )


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)
