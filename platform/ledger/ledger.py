"""The record of every launch, configuration, trial and epoch: a SQLite file, or a schema of a PostgreSQL server.

A trial's DONE and its metrics are written here before Optuna, MLflow or the screen get them. All of those can be
rebuilt from the ledger, and nothing is read back from them. Ray Tune's and Optuna's own records do not survive a
SIGKILL; this one does.

    studies    one row per study name: its meaning (a changed meaning is refused)
    launches   a study's runs from a clean slate; the same command continues one, --fresh begins another
    settings   the numbered configurations (or ablation rows) of a launch, in the order in which they were drawn
    trials     configuration x seed, keyed by content address: PENDING -> RUNNING -> DONE | FAILED | PRUNED | COLLAPSED
    epochs     every epoch of every trial
    exports    what the tracker has sent, and where to

One instance serves one thread.
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from trainables import event_log
from trainables.runner.messages import EpochRecord, StageRecord, TrialSpec, WorkerInfo

from ..study.errors import redacted
from .launches import Launches, Place, retried, text_of
from .postgres import VARIABLE, never_used, server_of
from .rows import DONE, ENDED, FAILED, PENDING, RUNNING, Configuration, EpochRow, Trial, configuration_of, trial_of
from .storage import Storage

LEDGER = "ledger.db"
"""The file's name in a storage folder."""


def place_of(storage: Storage, *, new: bool = True) -> Place:
    """Where the ledger of a storage is: on the server that CLUSTERSWEEP_DATABASE names, or else in its folder.

    Args:
        storage: the storage.
        new: whether the caller may create a ledger there.

    Raises:
        LookupError: there is none, and ``new`` is false.
        ValueError: the variable names no usable database.
    """
    uri = os.environ.get(VARIABLE, "")
    if uri:
        return server_of(storage, uri, new=new)
    if not new and not (storage.folder / LEDGER).exists():
        raise never_used(storage, LEDGER)
    return storage.folder / LEDGER


class Ledger(Launches):
    """A connection to the ledger; see the module's docstring."""

    @retried
    def add_configuration(self, launch_id: int, configuration: Configuration) -> None:
        """Enter a configuration; one with the same number stays as it is."""
        with self._transaction():
            self._connection.execute(
                "INSERT INTO settings VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (launch_id, configuration.number, configuration.variant, text_of(configuration.params)),
            )

    @retried
    def configurations(self, launch_id: int) -> list[Configuration]:
        """The configurations of a launch, by number."""
        rows = self._connection.execute("SELECT * FROM settings WHERE launch = ? ORDER BY number", (launch_id,))
        return [configuration_of(row) for row in rows]

    @retried
    def configuration(self, launch_id: int, number: int) -> Configuration:
        """The configuration with this number, which exists."""
        query = "SELECT * FROM settings WHERE launch = ? AND number = ?"
        return configuration_of(self._connection.execute(query, (launch_id, number)).fetchone())

    @retried
    def add_trials(
        self,
        launch_id: int,
        trial_specs: Sequence[tuple[str, TrialSpec]],
        *,
        configuration: int | None = None,
    ) -> None:
        """Enter trials as PENDING; those that are there already stay as they are.

        Args:
            launch_id: the launch.
            trial_specs: pairs of a trial's content address and its specification.
            configuration: the number of the trials' configuration; None: they prepare shared stages.
        """
        rows = [
            (launch_id, key, trial_spec["kind"], configuration, trial_spec["seed"], PENDING, text_of(trial_spec))
            for key, trial_spec in trial_specs
        ]
        with self._transaction():
            self._connection.executemany(
                "INSERT INTO trials (launch, key, kind, setting, seed, state, cell) VALUES (?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                rows,
            )

    @retried
    def start(self, launch_id: int, key: str) -> None:
        """RUNNING, with one more attempt; a DONE trial stays as it is."""
        with self._transaction():
            self._connection.execute(
                "UPDATE trials SET state = ?, attempts = attempts + 1, started = COALESCE(started, ?) "
                "WHERE launch = ? AND key = ? AND state != ?",
                (RUNNING, time.time(), launch_id, key, DONE),
            )

    @retried
    def finish(  # noqa: PLR0913 - the columns of one row
        self,
        launch_id: int,
        key: str,
        metrics: Mapping[str, float],
        stages: Sequence[StageRecord],
        seconds: float,
        worker: WorkerInfo | None = None,
    ) -> None:
        """DONE, for good: a second call for the same trial changes nothing.

        Args:
            launch_id: the launch.
            key: the trial.
            metrics: the final numbers; all finite.
            stages: what each stage came to, as ``rows.Trial`` has it.
            seconds: the duration of the trial.
            worker: host, device and versions.

        Raises:
            ValueError: a number is NaN or infinite; nothing is written.
        """
        columns = {
            "state": DONE,
            "error": "",
            "metrics": text_of(metrics),
            "stages": text_of([asdict(stage) for stage in stages]),
            "seconds": seconds,
            "worker": text_of(worker or {}),
        }
        if self._end(launch_id, key, columns, unless=(DONE,)):
            event_log.note(event_log.DONE, key)

    @retried
    def fail(self, launch_id: int, key: str, error: str) -> None:
        """FAILED, with the reason; a trial that is DONE or FAILED stays as it is."""
        self._end(launch_id, key, {"state": FAILED, "error": redacted(error)}, unless=(DONE, FAILED))

    @retried
    def stop(
        self, launch_id: int, key: str, state: str, reason: str, metrics: Mapping[str, float], seconds: float
    ) -> None:
        """PRUNED or COLLAPSED, with the metrics of the last epoch; a trial that has ended stays as it is."""
        columns = {"state": state, "error": redacted(reason), "metrics": text_of(metrics), "seconds": seconds}
        self._end(launch_id, key, columns, unless=ENDED)

    def _end(self, launch_id: int, key: str, columns: Mapping[str, Any], *, unless: Sequence[str]) -> bool:
        """Write the columns of a trial that ends now, with the launch's next sequence number.

        Returns:
            Whether the row was written: it is not if the trial's state is one of ``unless``.
        """
        assignments = ", ".join(f"{column} = ?" for column in columns)
        with self._transaction():
            updated = self._connection.execute(
                f"UPDATE trials SET {assignments}, ended = ?, "
                "sequence = (SELECT COALESCE(MAX(sequence), 0) + 1 FROM trials WHERE launch = ?) "
                f"WHERE launch = ? AND key = ? AND state NOT IN ({', '.join('?' * len(unless))})",
                (*columns.values(), time.time(), launch_id, launch_id, key, *unless),
            )
        return bool(updated.rowcount)

    @retried
    def trials(self, launch_id: int, kind: str | None = None) -> list[Trial]:
        """Trials of a launch, or those of one kind: "prepare" first, then by configuration and seed."""
        query = "SELECT * FROM trials WHERE launch = ?" + (" AND kind = ?" if kind else "")
        rows = self._connection.execute(
            query + " ORDER BY setting IS NOT NULL, setting, seed, key", (launch_id, kind) if kind else (launch_id,)
        )
        return [trial_of(row) for row in rows]

    @retried
    def trials_since(self, launch_id: int, sequence: int) -> list[Trial]:
        """Trials that ended after the one with this sequence number, in that order, then those that have not ended."""
        rows = self._connection.execute(
            "SELECT * FROM trials WHERE (launch = ? AND state IN (?, ?)) OR (launch = ? AND sequence > ?) "
            "ORDER BY sequence IS NULL, sequence, setting, seed, key",
            (launch_id, PENDING, RUNNING, launch_id, sequence),
        )
        return [trial_of(row) for row in rows]

    @retried
    def trial(self, launch_id: int, key: str) -> Trial | None:
        """The trial with this content address, or None."""
        query = "SELECT * FROM trials WHERE launch = ? AND key = ?"
        row = self._connection.execute(query, (launch_id, key)).fetchone()
        return None if row is None else trial_of(row)

    # Epochs and exports

    @retried
    def add_epochs(self, launch_id: int, key: str, epochs: Sequence[EpochRecord]) -> None:
        """Enter epochs of a trial; one repeated after a crash keeps its row."""
        now = time.time()
        rows = [(launch_id, key, each.slot, each.epoch, each.total, text_of(each.metrics), now) for each in epochs]
        with self._transaction():
            self._connection.executemany(
                "INSERT INTO epochs (launch, key, slot, epoch, total, metrics, time) VALUES (?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                rows,
            )

    @retried
    def epochs(self, launch_id: int, key: str | None = None, after_id: int = 0) -> list[EpochRow]:
        """Epochs of a launch, or of one trial, with ids above ``after_id``, in the order of arrival."""
        query = "SELECT * FROM epochs WHERE launch = ? AND id > ?" + (" AND key = ?" if key else "") + " ORDER BY id"
        values = (launch_id, after_id, key) if key else (launch_id, after_id)
        return [
            EpochRow(
                row["id"], row["key"], row["slot"], row["epoch"], row["total"], json.loads(row["metrics"]), row["time"]
            )
            for row in self._connection.execute(query, values)
        ]

    @retried
    def export(self, target: str, launch_id: int, key: str) -> tuple[str, int, bool]:
        """(run id, last epoch id sent, finished) of a trial at ``target`` ("mlflow"); ("", 0, False) if new."""
        row = self._connection.execute(
            "SELECT * FROM exports WHERE target = ? AND launch = ? AND key = ?", (target, launch_id, key)
        ).fetchone()
        return ("", 0, False) if row is None else (row["run_id"], row["last_epoch_id"], bool(row["finished"]))

    @retried
    def note_export(
        self, target: str, launch_id: int, key: str, run_id: str, last_epoch_id: int, finished: bool = False
    ) -> None:
        """Record what ``target`` has of a trial; see ``export``."""
        with self._transaction():
            self._connection.execute(
                "INSERT INTO exports VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (target, launch, key) DO UPDATE SET "
                "run_id = excluded.run_id, last_epoch_id = excluded.last_epoch_id, finished = excluded.finished",
                (target, launch_id, key, run_id, last_epoch_id, int(finished)),
            )
