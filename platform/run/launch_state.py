"""What a launch is doing: cells start, report and end here, each change going into the ledger first."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trainables import cuda_errors

from ..ledger.rows import FAILED, Launch
from ..search.early_stopping import EarlyStopping
from .trial_queue import TrialQueue


@dataclass
class LaunchState:
    """What a launch is doing, for whoever watches. ``seconds``: total, prepare and trials, as far as they have come.
    ``prepared_s``: when the last shared stage was done, on the monotonic clock; 0 if none was. ``lanes_lost``: of the
    slots, those whose GPU has failed."""

    launch: Launch
    trial_queue: TrialQueue
    slots: int
    changed: Callable[[], None] = lambda: None
    epochs: dict[str, dict[str, Any]] = field(default_factory=dict)
    since: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    judge: EarlyStopping | None = None
    prepared_s: float = 0.0
    lanes_lost: int = 0
    _returned: dict[str, int] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """ "done" or "failed", once everything has ended."""
        failed = self.trial_queue.devices_gone or any(trial.state == FAILED for trial in self.trial_queue.trials)
        return "failed" if failed else "done"

    # What the runners call. Each writes to the ledger first.

    def starts(self, key: str) -> None:
        self.since.setdefault(key, time.monotonic())
        self.trial_queue.started(key)
        self.changed()

    def hears(self, key: str, parcel: dict[str, Any]) -> None:
        """A parcel of epochs from a running cell, with its outcome if it was the last."""
        self.trial_queue.epochs(key, parcel["epochs"])
        if parcel["epochs"]:
            self.epochs[key] = parcel["epochs"][-1]
        outcome = parcel["outcome"]
        if outcome is not None:
            if outcome["status"] == "done":
                self.trial_queue.done(key, outcome)
                if self.trial_queue.trial(key).kind == "prepare":
                    self.prepared_s = time.monotonic()
            elif outcome["status"] == "collapsed":
                self.trial_queue.collapsed(key, outcome["error"], outcome["metrics"], self._spent_s(key))
            elif outcome["status"] == cuda_errors.BROKEN:
                self._breaks(key, outcome["error"])
            else:
                self.trial_queue.failed(key, outcome["error"])
            self.epochs.pop(key, None)
        self.changed()

    def judges(self, key: str, rows: list[dict[str, Any]]) -> bool:
        """Whether a running cell that has just been heard stops here; it is then PRUNED."""
        reason = self.judge.judges(self.trial_queue.trial(key), self.trial_queue.trials, rows) if self.judge else ""
        if reason:
            last = self.epochs.pop(key)
            metrics = {f"{last['slot']}/{name}": value for name, value in last["metrics"].items()}
            self.trial_queue.pruned(key, reason, metrics, self._spent_s(key))
            self.changed()
        return bool(reason)

    def _spent_s(self, key: str) -> float:
        return time.monotonic() - self.since.get(key, time.monotonic())

    def loses(self, key: str, reason: str, *, tried: int) -> None:
        """A cell whose process died. tried: how often Tune did; where it was about to begin, Tune gives up at once."""
        if tried > self.trial_queue.study.retries:
            self.ends(key, f"process lost: {reason}")
        else:
            self._returns(key, f"process lost: {reason}")

    def _breaks(self, key: str, reason: str) -> None:
        """A cell whose GPU has failed."""
        self.lanes_lost += 1
        self.trial_queue.devices_gone = self.lanes_lost >= self.slots
        self._returns(key, f"GPU failed: {reason}")

    def _returns(self, key: str, reason: str) -> None:
        """Run it again, unless it has been tried as often as it may be."""
        self._returned[key] = self._returned.get(key, 0) + 1
        self.trial_queue.returned(key)
        if self._returned[key] > self.trial_queue.study.retries:
            self.ends(key, reason)

    def ends(self, key: str, reason: str) -> None:
        """A cell that fails without a word of its own."""
        self.trial_queue.failed(key, reason)
        self.epochs.pop(key, None)
        self.changed()
