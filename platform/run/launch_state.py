"""What a launch is doing: trials start, report and end here, each change going into the ledger first."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from trainables.runner.messages import Collapsed, DeviceBroken, Done, EpochRecord, Failed, Report

from ..ledger.rows import FAILED, Launch
from ..search.early_stopping import EarlyStopping
from .trial_queue import TrialQueue


@dataclass
class LaunchState:
    """What a launch is doing, for those that run its trials and those that watch it.

    slots: trials that may run at once. changed: called after each change.
    last_epochs: key of a running trial -> its newest epoch. started_at: key -> when it first started, monotonic clock.
    seconds: "total", "prepare" and "trials", as far as they have come.
    prepared_at: when the last shared stage was done, monotonic clock; 0 if none was.
    num_devices_lost: slots whose GPU has failed.
    """

    launch: Launch
    trial_queue: TrialQueue
    slots: int
    changed: Callable[[], None] = lambda: None
    early_stopping: EarlyStopping | None = None
    last_epochs: dict[str, EpochRecord] = field(default_factory=dict)
    started_at: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    prepared_at: float = 0.0
    num_devices_lost: int = 0
    _times_lost: dict[str, int] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """ "done" or "failed", once everything has ended."""
        failed = self.trial_queue.devices_gone or any(trial.state == FAILED for trial in self.trial_queue.trials)
        return "failed" if failed else "done"

    def on_start(self, key: str) -> None:
        """A trial has started, for the first time or again."""
        self.started_at.setdefault(key, time.monotonic())
        self.trial_queue.on_start(key)
        self.changed()

    def on_report(self, key: str, report: Report) -> bool:
        """A running trial has sent a report.

        Returns:
            Whether its process must stop it here; it is then PRUNED.
        """
        self.trial_queue.on_epochs(key, report.epochs)
        if report.epochs:
            self.last_epochs[key] = report.epochs[-1]
        match report.outcome:
            case None:
                if self._prune(key, report.epochs):
                    return True
                self.changed()
            case Done() as done:
                self.on_done(key, done)
            case Failed(error):
                self.on_failed(key, error)
            case Collapsed() as collapsed:
                self.trial_queue.on_collapsed(key, collapsed, self._spent_s(key))
                self._on_end(key)
            case DeviceBroken(error):
                self._on_device_broken(key, error)
            case _:
                assert_never(report.outcome)
        return False

    def on_done(self, key: str, done: Done) -> None:
        """A trial is finished."""
        self.trial_queue.on_done(key, done)
        if self.trial_queue.trial(key).kind == "prepare":
            self.prepared_at = time.monotonic()
        self._on_end(key)

    def on_failed(self, key: str, error: str) -> None:
        """A trial has failed, and is not run again by this driver."""
        self.trial_queue.on_failed(key, error)
        self._on_end(key)

    def on_lost(self, key: str, reason: str, *, attempts: int) -> None:
        """The process of a trial has died.

        Args:
            attempts: failed attempts by Tune's count; of a trial that was only about to begin, Tune makes just one.
        """
        if attempts > self.trial_queue.study.retries:
            self.on_failed(key, f"process lost: {reason}")
        else:
            self._run_again(key, f"process lost: {reason}")

    def _prune(self, key: str, epochs: Sequence[EpochRecord]) -> bool:
        if self.early_stopping is None:
            return False
        trial = self.trial_queue.trial(key)
        reason = self.early_stopping.stop_reason(trial, self.trial_queue.trials, epochs)
        if not reason:
            return False
        last = self.last_epochs[key]
        metrics = {f"{last.slot}/{name}": value for name, value in last.metrics.items()}
        self.trial_queue.on_pruned(key, reason, metrics, self._spent_s(key))
        self._on_end(key)
        return True

    def _on_device_broken(self, key: str, error: str) -> None:
        self.num_devices_lost += 1
        self.trial_queue.devices_gone = self.num_devices_lost >= self.slots
        self._run_again(key, f"GPU failed: {error}")

    def _run_again(self, key: str, reason: str) -> None:
        """Give a lost trial back to the queue, or fail it if that has happened as often as it may."""
        self._times_lost[key] = self._times_lost.get(key, 0) + 1
        self.trial_queue.on_lost(key)
        if self._times_lost[key] > self.trial_queue.study.retries:
            self.on_failed(key, reason)
        else:
            self._on_end(key)

    def _on_end(self, key: str) -> None:
        self.last_epochs.pop(key, None)
        self.changed()

    def _spent_s(self, key: str) -> float:
        return time.monotonic() - self.started_at.get(key, time.monotonic())
