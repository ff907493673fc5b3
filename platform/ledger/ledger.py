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

import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from trainables import event_log

from ..study.errors import redacted
from .launches import Launches, Place, insisting, text_of
from .postgres import VARIABLE, missing, server_of
from .rows import DONE, ENDED, FAILED, PENDING, RUNNING, Configuration, EpochRow, Trial, setting_of, trial_of
from .storage import Storage

LEDGER = "ledger.db"
"""The file's name in a storage folder."""


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


class Ledger(Launches):
    """A connection to the ledger; see the module's docstring."""

    @insisting
    def add_setting(self, launch: int, configuration: Configuration) -> None:
        with self._writing():
            self._connection.execute(
                "INSERT INTO settings VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (launch, configuration.number, configuration.variant, text_of(configuration.params)),
            )

    @insisting
    def configurations(self, launch: int) -> list[Configuration]:
        rows = self._connection.execute("SELECT * FROM settings WHERE launch = ? ORDER BY number", (launch,))
        return [setting_of(row) for row in rows]

    @insisting
    def configuration(self, launch: int, number: int) -> Configuration:
        found = "SELECT * FROM settings WHERE launch = ? AND number = ?"
        return setting_of(self._connection.execute(found, (launch, number)).fetchone())

    @insisting
    def add_trials(
        self, launch: int, cells: Sequence[tuple[str, Mapping[str, Any]]], *, configuration: int | None = None
    ) -> None:
        """Enter (key, cell) pairs as PENDING; those already there stay as they are."""
        rows = [
            (launch, key, trial_spec["kind"], configuration, trial_spec["seed"], PENDING, text_of(trial_spec))
            for key, trial_spec in cells
        ]
        with self._writing():
            self._connection.executemany(
                "INSERT INTO trials (launch, key, kind, setting, seed, state, cell) VALUES (?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                rows,
            )

    @insisting
    def start(self, launch: int, key: str) -> None:
        with self._writing():
            self._connection.execute(
                "UPDATE trials SET state = ?, attempts = attempts + 1, started = COALESCE(started, ?) "
                "WHERE launch = ? AND key = ? AND state != ?",
                (RUNNING, time.time(), launch, key, DONE),
            )

    @insisting
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
                    text_of(metrics),
                    text_of(list(stages)),
                    seconds,
                    text_of(worker or {}),
                    time.time(),
                    launch,
                    launch,
                    key,
                    DONE,
                ),
            )
        if told.rowcount:
            event_log.note(event_log.DONE, key)

    @insisting
    def fail(self, launch: int, key: str, error: str) -> None:
        with self._writing():
            self._connection.execute(
                f"UPDATE trials SET state = ?, error = ?, ended = ?, sequence = {_NEXT} "
                "WHERE launch = ? AND key = ? AND state NOT IN (?, ?)",
                (FAILED, redacted(error), time.time(), launch, launch, key, DONE, FAILED),
            )

    @insisting
    def stop(
        self, launch: int, key: str, state: str, reason: str, metrics: Mapping[str, float], seconds: float
    ) -> None:
        """PRUNED or COLLAPSED, with the metrics of the last epoch; what has ended already stays as it is."""
        values = (state, redacted(reason), text_of(metrics), seconds, time.time(), launch, launch, key, *ENDED)
        with self._writing():
            self._connection.execute(
                f"UPDATE trials SET state = ?, error = ?, metrics = ?, seconds = ?, ended = ?, sequence = {_NEXT} "
                "WHERE launch = ? AND key = ? AND state NOT IN (?, ?, ?, ?)",
                values,
            )

    @insisting
    def trials(self, launch: int, kind: str | None = None) -> list[Trial]:
        """Trials of a launch, prepare cells first, then by setting and seed."""
        query = "SELECT * FROM trials WHERE launch = ?" + (" AND kind = ?" if kind else "")
        rows = self._connection.execute(
            query + " ORDER BY setting IS NOT NULL, setting, seed, key", (launch, kind) if kind else (launch,)
        )
        return [trial_of(row) for row in rows]

    @insisting
    def trials_since(self, launch: int, sequence: int) -> list[Trial]:
        """Those that have not ended, and those that ended after the trial of a sequence, in the order of ending."""
        rows = self._connection.execute(
            "SELECT * FROM trials WHERE (launch = ? AND state IN (?, ?)) OR (launch = ? AND sequence > ?) "
            "ORDER BY sequence IS NULL, sequence, setting, seed, key",
            (launch, PENDING, RUNNING, launch, sequence),
        )
        return [trial_of(row) for row in rows]

    @insisting
    def trial(self, launch: int, key: str) -> Trial | None:
        row = self._connection.execute("SELECT * FROM trials WHERE launch = ? AND key = ?", (launch, key)).fetchone()
        return None if row is None else trial_of(row)

    # Epochs and exports

    @insisting
    def add_epochs(self, launch: int, key: str, epochs: Sequence[Mapping[str, Any]]) -> None:
        """Rows of {slot, epoch, total, metrics}. An epoch repeated after a crash keeps its first row."""
        now = time.time()
        rows = [(launch, key, row["slot"], row["epoch"], row["total"], text_of(row["metrics"]), now) for row in epochs]
        with self._writing():
            self._connection.executemany(
                "INSERT INTO epochs (launch, key, slot, epoch, total, metrics, time) VALUES (?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                rows,
            )

    @insisting
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

    @insisting
    def export(self, target: str, launch: int, key: str) -> tuple[str, int, bool]:
        """(run id, last epoch id sent, finished) of a trial at ``target`` ("mlflow"); ("", 0, False) if new."""
        row = self._connection.execute(
            "SELECT * FROM exports WHERE target = ? AND launch = ? AND key = ?", (target, launch, key)
        ).fetchone()
        return ("", 0, False) if row is None else (row["run_id"], row["last_epoch_id"], bool(row["finished"]))

    @insisting
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
