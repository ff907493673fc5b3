"""The truth: one SQLite file that knows every launch, setting, trial and epoch.

A trial's DONE and its metrics are written here before Optuna, MLflow or the screen hear of them; all of those can be
rebuilt from this file, and nothing is read back from them. Stock parts do not hold after a SIGKILL; this does:
write-ahead log, ``synchronous=FULL``, ``BEGIN IMMEDIATE`` so that concurrent writers queue up instead of failing.

    studies    one row per study name: what it means (a changed meaning is refused)
    launches   a study's runs from a clean slate; continued by the same command, replaced by --fresh
    settings   the numbered parameter settings (or ablation rows) of a launch, in the order they were drawn
    trials     setting x seed, keyed by content address: PENDING -> RUNNING -> DONE | FAILED | PRUNED | COLLAPSED
    epochs     every epoch of every trial
    exports    what the tracker has already sent where

One instance serves one thread.
"""

import json
import operator
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..study.faults import redacted
from .rows import DONE, ENDED, FAILED, PENDING, RUNNING, EpochRow, Launch, Setting, Trial

LEDGER = "ledger.db"
"""The file's name in a storage folder."""

LEASE_S = 30.0
"""A holder on another host whose heartbeat is older than this has lost its study."""

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
"""


class LedgerBusy(RuntimeError):
    """Another process keeps the ledger locked."""


class StudyHeld(RuntimeError):
    """Another living driver works on this study."""


class StudyChanged(RuntimeError):
    """The study's name is in the ledger with another meaning."""

    def __init__(self, name: str, known: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        super().__init__(f"study {name!r} is in the ledger with another meaning")
        self.known, self.given = known, given


def this_process() -> dict[str, Any]:
    """Host, pid and the kernel's start time of this process: pids are reused, the pair is not."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid())}


def _born(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _alive(owner: Mapping[str, Any], heartbeat: float) -> bool:
    if owner["host"] == socket.gethostname():
        try:
            os.kill(owner["pid"], 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return bool(_born(owner["pid"]) == owner["born"])
    return bool(time.time() - heartbeat < LEASE_S)


class Ledger:
    """A connection to the ledger file; see the module's docstring."""

    def __init__(self, path: str | Path, patience_s: float = 60.0) -> None:
        self.path, self._patience_s = Path(path), patience_s
        self._connection = sqlite3.connect(self.path, timeout=patience_s, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        with self._patient():
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
        with self._writing():
            for statement in _SCHEMA.split(";"):
                self._connection.execute(statement)

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        # IMMEDIATE: a deferred transaction that reads and then writes fails at once under contention, timeout or not.
        with self._patient():
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def _patient(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                text = f"{self.path} is locked by another process for more than {self._patience_s:g} s"
                raise LedgerBusy(f"{text}; stop that process, or wait for it and start again") from error
            raise

    # Launches

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
        """
        now, me = time.time(), this_process()
        with self._writing():
            known = self._connection.execute("SELECT meaning FROM studies WHERE name = ?", (study,)).fetchone()
            row = self._connection.execute(
                "SELECT * FROM launches WHERE study = ? ORDER BY number DESC LIMIT 1", (study,)
            ).fetchone()
            if row is not None and row["owner"]:
                owner = json.loads(row["owner"])
                if owner != me and _alive(owner, row["heartbeat"]):
                    raise StudyHeld(
                        f"study {study!r} is being run by process {owner['pid']} on {owner['host']}; "
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
                    "VALUES (?, ?, ?, ?, 'RUNNING', ?, ?)",
                    (study, number, _text(resolved), lookahead, now, _text(facts or {})),
                )
                launch = int(cursor.lastrowid or 0)
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
        return self.launch(launch)

    def heartbeat(self, launch: int) -> None:
        with self._writing():
            self._connection.execute("UPDATE launches SET heartbeat = ? WHERE id = ?", (time.time(), launch))

    def close_launch(self, launch: int, status: str) -> None:
        """Release the study. status: "done", "failed" (some trials failed) or "interrupted"."""
        with self._writing():
            self._connection.execute(
                "UPDATE launches SET status = ?, ended = ?, owner = NULL WHERE id = ?", (status, time.time(), launch)
            )

    def launch(self, launch: int) -> Launch:
        row = self._connection.execute("SELECT * FROM launches WHERE id = ?", (launch,)).fetchone()
        if row is None:
            raise KeyError(f"no launch {launch} in {self.path}")
        return _launch(row)

    def launches(self, study: str | None = None) -> list[Launch]:
        """All launches, or those of one study, oldest first."""
        query, values = "SELECT * FROM launches", ()
        if study is not None:
            query, values = query + " WHERE study = ?", (study,)  # type: ignore[assignment]
        return [_launch(row) for row in self._connection.execute(query + " ORDER BY id", values)]

    # Settings and trials

    def add_setting(self, launch: int, setting: Setting) -> None:
        with self._writing():
            self._connection.execute(
                "INSERT INTO settings VALUES (?, ?, ?, ?)",
                (launch, setting.number, setting.variant, _text(setting.params)),
            )

    def settings(self, launch: int) -> list[Setting]:
        rows = self._connection.execute("SELECT * FROM settings WHERE launch = ? ORDER BY number", (launch,))
        return [Setting(row["number"], row["variant"], json.loads(row["params"])) for row in rows]

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

    def start(self, launch: int, key: str) -> None:
        with self._writing():
            self._connection.execute(
                "UPDATE trials SET state = ?, attempts = attempts + 1, started = COALESCE(started, ?) "
                "WHERE launch = ? AND key = ? AND state != ?",
                (RUNNING, time.time(), launch, key, DONE),
            )

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
            self._connection.execute(
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

    def fail(self, launch: int, key: str, error: str) -> None:
        with self._writing():
            self._connection.execute(
                f"UPDATE trials SET state = ?, error = ?, ended = ?, sequence = {_NEXT} "
                "WHERE launch = ? AND key = ? AND state NOT IN (?, ?)",
                (FAILED, redacted(error), time.time(), launch, launch, key, DONE, FAILED),
            )

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

    def trials(self, launch: int, kind: str | None = None) -> list[Trial]:
        """Trials of a launch, prepare cells first, then by setting and seed."""
        query = "SELECT * FROM trials WHERE launch = ?" + (" AND kind = ?" if kind else "")
        rows = self._connection.execute(
            query + " ORDER BY setting IS NOT NULL, setting, seed, key", (launch, kind) if kind else (launch,)
        )
        return [_trial(row) for row in rows]

    def trial(self, launch: int, key: str) -> Trial | None:
        row = self._connection.execute("SELECT * FROM trials WHERE launch = ? AND key = ?", (launch, key)).fetchone()
        return None if row is None else _trial(row)

    # Epochs and exports

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

    def export(self, target: str, launch: int, key: str) -> tuple[str, int, bool]:
        """(run id, last epoch id sent, finished) of a trial at ``target`` ("mlflow"); ("", 0, False) if new."""
        row = self._connection.execute(
            "SELECT * FROM exports WHERE target = ? AND launch = ? AND key = ?", (target, launch, key)
        ).fetchone()
        return ("", 0, False) if row is None else (row["run_id"], row["last_epoch_id"], bool(row["finished"]))

    def note_export(
        self, target: str, launch: int, key: str, run_id: str, last_epoch_id: int, finished: bool = False
    ) -> None:
        with self._writing():
            self._connection.execute(
                "INSERT INTO exports VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET run_id = excluded.run_id, "
                "last_epoch_id = excluded.last_epoch_id, finished = excluded.finished",
                (target, launch, key, run_id, last_epoch_id, int(finished)),
            )


_NEXT = "(SELECT COALESCE(MAX(sequence), 0) + 1 FROM trials WHERE launch = ?)"


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)


def _launch(row: sqlite3.Row) -> Launch:
    return Launch(
        row["id"],
        row["study"],
        row["number"],
        json.loads(row["resolved"]),
        row["lookahead"],
        row["status"],
        row["started"],
        row["ended"],
        json.loads(row["facts"]),
    )


def _trial(row: sqlite3.Row) -> Trial:
    return Trial(
        row["key"],
        row["kind"],
        row["setting"],
        row["seed"],
        row["state"],
        json.loads(row["cell"]),
        row["attempts"],
        json.loads(row["worker"]),
        json.loads(row["metrics"]),
        json.loads(row["stages"]),
        row["error"],
        row["started"],
        row["ended"],
        row["seconds"],
        row["sequence"],
    )
