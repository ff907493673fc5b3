"""What a configuration's seeds came to, and which configuration is best: said here alone.

The sampler, the live table, Optuna's copy and the reports all ask here, so none of them learns from or shows what
another refuses. A configuration of which a seed was pruned or has collapsed has no objective: the mean of the seeds
that survived would flatter it. A seed that failed, has not ended or lacks the metric is left out of the mean.
Standard deviations divide by n - 1 and always carry their n.
"""

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from trainables.runner.messages import EpochRecord

from ..study.resolved_types import Mode, Resolved, objectives_of
from .outcomes import counts_as_result, status
from .rows import DONE, PRUNED, EpochRow, Trial

Curve = Mapping[int, float]
"""Epoch -> value."""


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (ddof 1; None for one value) of n values."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Objective:
    """A metric ("<slot>/<name>") that configurations are compared by, and which end of its values is good."""

    metric: str
    mode: Mode

    @property
    def sign(self) -> float:
        """Times a value gives a cost, of which less is better."""
        return 1.0 if self.mode == "min" else -1.0

    def is_better(self, one: float, other: float) -> bool:
        """Whether one value is better than another; equal ones are not."""
        return self.sign * one < self.sign * other

    def best(self, values: Iterable[float]) -> float:
        """The best of at least one value."""
        return min(values, key=lambda value: self.sign * value)


def study_objectives(resolved: Resolved) -> tuple[Objective, ...]:
    """The objectives of a study, of which the first one ranks."""
    return tuple(Objective(each["metric"], each["mode"]) for each in objectives_of(resolved))


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation of at least one value."""
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def results(trials: Iterable[Trial], metric: str) -> list[Trial]:
    """The trials whose value of a metric counts: done, not collapsed, and with the metric."""
    return [trial for trial in trials if metric in trial.metrics and counts_as_result(trial)]


def has_stopped_seed(trials: Iterable[Trial]) -> bool:
    """Whether a seed of a configuration was pruned or has collapsed, by its state or by its final metrics."""
    return any(status(trial) in ("pruned", "collapsed") for trial in trials)


def objective_spread(trials: Sequence[Trial], metric: str) -> Spread | None:
    """What the trials of one configuration came to; None if a seed was stopped, or if none has the metric."""
    if has_stopped_seed(trials):
        return None
    values = [trial.metrics[metric] for trial in results(trials, metric)]
    return spread(values) if values else None


def objective_means(trials: Sequence[Trial], objectives: Sequence[Objective]) -> tuple[float, ...] | None:
    """Each objective's mean over the seeds of one configuration; None if one of them has none."""
    spreads = [objective_spread(trials, each.metric) for each in objectives]
    means = [each.mean for each in spreads if each is not None]
    return tuple(means) if len(means) == len(objectives) else None


def curve(epochs: Iterable[EpochRow | EpochRecord], metric: str) -> dict[int, float]:
    """Epoch -> value of a metric ("<slot>/<name>") of one trial; an epoch that is repeated keeps its first value."""
    slot, _, name = metric.partition("/")
    values: dict[int, float] = {}
    for each in epochs:
        if each.slot == slot and name in each.metrics:
            values.setdefault(each.epoch, float(each.metrics[name]))
    return values


def mean_curve(curves: Sequence[Curve]) -> dict[int, float]:
    """Epoch -> mean over the curves, for the epochs that every one of them has; empty without a curve."""
    shared = set.intersection(*(set(each) for each in curves)) if curves else set()
    return {epoch: statistics.fmean(each[epoch] for each in curves) for epoch in sorted(shared)}


def pruned_curve(
    trials: Sequence[Trial], metric: str, epochs_of: Callable[[str], Iterable[EpochRow]]
) -> dict[int, float]:
    """How far a configuration came of which a seed was pruned, for a sampler that learns from such ones.

    Args:
        trials: of one configuration.
        epochs_of: a trial's key -> its epochs.

    Returns:
        Epoch -> mean of the objective over the pruned and the finished seeds; empty if no seed was pruned.
    """
    if all(trial.state != PRUNED for trial in trials):
        return {}
    compared = [trial for trial in trials if trial.state == PRUNED or counts_as_result(trial)]
    return mean_curve([curve(epochs_of(trial.key), metric) for trial in compared])


@dataclass(frozen=True)
class BestConfiguration:
    """The number of a configuration, and its objective."""

    number: int
    objective: Spread


class TrialTotals:
    """Sums over the trials that have ended, trial by trial: a look at ten thousand costs what a look at ten does.

    A trial that is given again, with another end, takes its own place.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._trials: dict[str, Trial] = {}
        self._seeds: dict[int, dict[str, Trial]] = {}
        self._spreads: dict[int, Spread] = {}
        self._best: BestConfiguration | None = None
        self._is_stale = False
        self.states: Counter[tuple[str, str]] = Counter()
        """How many, by kind ("trial", "prepare") and state."""
        self.stages: Counter[str] = Counter()
        """How many stages the finished ones needed, "cached" or "computed"."""
        self.done_s = 0.0
        """Seconds of the trials that are done and took any, ``num_timed`` of them."""
        self.num_timed = 0

    def add(self, trial: Trial) -> bool:
        """Take a trial that has ended. Returns whether it is here for the first time."""
        before = self._trials.get(trial.key)
        if before is not None:
            self._count(before, -1)
        self._trials[trial.key] = trial
        self._count(trial, 1)
        if trial.configuration is not None:
            self._seeds.setdefault(trial.configuration, {})[trial.key] = trial
            self._update(trial.configuration)
        return before is None

    def num(self, kind: str, *states: str) -> int:
        """How many trials of a kind are in one of the states."""
        return sum(self.states[kind, state] for state in states)

    @property
    def best(self) -> BestConfiguration | None:
        """The best configuration so far, the first of equal ones; None before there is one."""
        if self._is_stale:
            self._is_stale, self._best = False, None
            costs = {number: self._objective.sign * each.mean for number, each in self._spreads.items()}
            if costs:
                number = min(costs, key=lambda number: (costs[number], number))
                self._best = BestConfiguration(number, self._spreads[number])
        return self._best

    def _count(self, trial: Trial, times: int) -> None:
        self.states[trial.kind, trial.state] += times
        for stage in trial.stages:
            self.stages["cached" if stage.cached else "computed"] += times
        if trial.kind == "trial" and trial.state == DONE and trial.seconds:
            self.done_s += times * trial.seconds
            self.num_timed += times

    def _update(self, configuration: int) -> None:
        self._is_stale = True
        objective = objective_spread(list(self._seeds[configuration].values()), self._objective.metric)
        if objective is None:
            self._spreads.pop(configuration, None)
        else:
            self._spreads[configuration] = objective
