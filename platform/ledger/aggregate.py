"""What of a launch has ended, added up trial by trial: a look at ten thousand of them costs what a look at ten does."""

import statistics
from collections import Counter
from dataclasses import dataclass

from .outcomes import counts_as_result
from .rows import COLLAPSED, DONE, PRUNED, Trial


@dataclass(frozen=True)
class Leader:
    """The best setting: mean and deviation (None for one seed) of the objective over its ``n`` finished seeds."""

    configuration: int
    mean: float
    std: float | None
    n: int


class TrialTotals:
    """Sums over the trials that have ended. A trial given again, with another end, takes its own place.

    metric, mode: the objective's. A setting of which a seed was stopped has no mean: that of the others would flatter.
    """

    def __init__(self, metric: str, mode: str) -> None:
        self._metric, self._sign = metric, -1.0 if mode == "max" else 1.0
        self._trials: dict[str, Trial] = {}
        self._seeds: dict[int, dict[str, Trial]] = {}
        self._means: dict[int, float] = {}
        self._leader: Leader | None = None
        self._is_old = False
        self.states: Counter[tuple[str, str]] = Counter()
        """How many, by kind ("trial", "prepare") and state."""
        self.stages: Counter[str] = Counter()
        """How many stages the finished ones needed, "cached" or "computed"."""
        self.done_s = 0.0
        """Seconds of the trials that are done and took any, ``num_timed`` of them."""
        self.num_timed = 0

    def add(self, trial: Trial) -> bool:
        """Take a trial that has ended; whether it is here for the first time."""
        before = self._trials.get(trial.key)
        if before is not None:
            self._count(before, -1)
        self._trials[trial.key] = trial
        self._count(trial, 1)
        if trial.configuration is not None:
            self._seeds.setdefault(trial.configuration, {})[trial.key] = trial
            self._weigh(trial.configuration)
        return before is None

    def num(self, kind: str, *states: str) -> int:
        return sum(self.states[kind, state] for state in states)

    @property
    def leader(self) -> Leader | None:
        """The best setting so far, the first of equal ones; None before there is one."""
        if self._is_old:
            self._is_old, self._leader = False, None
            if self._means:
                best = min(self._means, key=lambda number: (self._sign * self._means[number], number))
                values = self._values(best)
                std = statistics.stdev(values) if len(values) > 1 else None
                self._leader = Leader(best, self._means[best], std, len(values))
        return self._leader

    def _count(self, trial: Trial, times: int) -> None:
        self.states[trial.kind, trial.state] += times
        for stage in trial.stages:
            self.stages["cached" if stage["cached"] else "computed"] += times
        if trial.kind == "trial" and trial.state == DONE and trial.seconds:
            self.done_s += times * trial.seconds
            self.num_timed += times

    def _weigh(self, configuration: int) -> None:
        self._is_old = True
        values = self._values(configuration)
        if values and all(trial.state not in (PRUNED, COLLAPSED) for trial in self._seeds[configuration].values()):
            self._means[configuration] = statistics.fmean(values)
        else:
            self._means.pop(configuration, None)

    def _values(self, configuration: int) -> list[float]:
        counted = [trial for trial in self._seeds[configuration].values() if counts_as_result(trial)]
        return [trial.metrics[self._metric] for trial in counted if self._metric in trial.metrics]
