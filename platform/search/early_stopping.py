"""Which running trials are not worth finishing: exact rules over the objective's values per epoch.

A rule looks at one trial (a setting with a seed) and at the trials of the *same seed*: they share the stages before the
search, so their values differ by the settings alone. Epochs are counted in the objective's stage. The last epoch is
never judged, since nothing would be saved. The curves come from the ledger, so a restarted launch decides by what the
first one knew; Ray Tune's own schedulers keep theirs in memory, and its HyperBand pauses trials into checkpoints that
reused function trainables do not have.

    asha       Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, in its stopping form:
               at the rungs grace, grace*eta, grace*eta^2, ... a trial goes on if it is among the best n // eta (at
               least one) of the n trials that have been at this rung, itself included. Ties go on.
    hyperband  the same in brackets (Li et al., JMLR 2018): setting i is in bracket i modulo their number, bracket s
               begins at grace*eta^s, and trials are compared within their bracket.
    median     Golovin et al., "Google Vizier", KDD 2017: from the grace epoch on, a trial stops whose best value is
               worse than the median of the others' means up to the same epoch, of which there must be ``min_trials``.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..ledger.ledger import Ledger
from ..ledger.rows import Launch, Trial
from ..study.file_schema import Asha, Hyperband, Median, Objective
from ..study.study import Study

Curve = Mapping[int, float]
"""Epoch -> value."""


@dataclass(frozen=True)
class Progress:
    """A running trial in the objective's stage. setting: its number; total: epochs that the stage will have."""

    configuration: int
    curve: Curve
    total: int


def rungs(rule: Asha | Hyperband, bracket: int, total: int) -> list[int]:
    """The epochs below ``total`` at which a trial of a bracket is judged, ascending."""
    found, epoch = [], rule.grace_epochs * rule.reduction_factor**bracket
    while epoch < total:
        found.append(epoch)
        epoch *= rule.reduction_factor
    return found


def brackets(rule: Asha | Hyperband, total: int) -> int:
    """How many brackets there are: one for asha, one per rung for hyperband, at least one."""
    return max(1, len(rungs(rule, 0, total))) if isinstance(rule, Hyperband) else 1


def is_judged(rule: Asha | Hyperband | Median, configuration: int, epoch: int, total: int) -> bool:
    """Whether a trial of a setting can be stopped after ``epoch`` of ``total``."""
    if isinstance(rule, Median):
        return rule.grace_epochs <= epoch < total
    return epoch in rungs(rule, configuration % brackets(rule, total), total)


def verdict(
    rule: Asha | Hyperband | Median, own: Progress, others: Sequence[Progress], epoch: int, maximize: bool
) -> str:
    """Why a trial stops after ``epoch``; empty if it goes on.

    Args:
        others: the trials of the same seed, ``own`` left out.
    """
    if epoch not in own.curve or not is_judged(rule, own.configuration, epoch, own.total):
        return ""
    if isinstance(rule, Median):
        return _below_median(rule, own.curve, [other.curve for other in others], epoch, maximize)
    bracket = own.configuration % brackets(rule, own.total)
    peers = [other for other in others if other.configuration % brackets(rule, other.total) == bracket]
    values = [other.curve[epoch] for other in peers if epoch in other.curve]
    better = sum(_is_better(value, own.curve[epoch], maximize) for value in values)
    kept = max(1, (len(values) + 1) // rule.reduction_factor)
    if better < kept:
        return ""
    return f"{own.curve[epoch]:.6g} is not among the best {kept} of {len(values) + 1}"


def _below_median(rule: Median, own: Curve, others: Iterable[Curve], epoch: int, maximize: bool) -> str:
    means = [statistics.fmean(_until(curve, epoch)) for curve in others if epoch in curve]
    if len(means) < rule.min_trials:
        return ""
    best, median = (max if maximize else min)(_until(own, epoch)), statistics.median(means)
    if not _is_better(median, best, maximize):
        return ""
    return f"the best value {best:.6g} is worse than {median:.6g}, the median of {len(means)} trials"


def _until(curve: Curve, epoch: int) -> list[float]:
    return [value for number, value in curve.items() if number <= epoch]


def _is_better(one: float, other: float, maximize: bool) -> bool:
    return one > other if maximize else one < other


def judged_objective(study: Study) -> Objective:
    """The objective that stops trials."""
    return study.objective


def judged_slot(study: Study) -> str:
    """The stage whose epochs are judged; empty without a scheduler."""
    return judged_objective(study).metric.partition("/")[0] if study.scheduler else ""


def intermediate(curves: Sequence[Curve]) -> dict[int, float]:
    """Epoch -> mean over the seeds of one setting, for the epochs that every one of them has reached."""
    shared = set.intersection(*(set(curve) for curve in curves)) if curves else set()
    return {epoch: statistics.fmean(curve[epoch] for curve in curves) for epoch in sorted(shared)}


class EarlyStopping:
    """The curves of a launch, and the study's rule over them."""

    def __init__(self, study: Study, ledger: Ledger, launch: Launch) -> None:
        self._rule = study.scheduler.rule if study.scheduler else None
        self._name = study.scheduler.name if study.scheduler else ""
        objective = judged_objective(study)
        self._slot, _, self._metric = objective.metric.partition("/")
        self._maximize = objective.mode == "max"
        self._curves: dict[str, dict[int, float]] = {}
        self._totals: dict[str, int] = {}
        if self._rule is not None:
            for row in ledger.epochs(launch.id):
                self.notes(
                    row.key, [{"slot": row.slot, "epoch": row.epoch, "total": row.total, "metrics": row.metrics}]
                )

    def notes(self, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep what a trial reported; an epoch that is repeated keeps its first value, as in the ledger."""
        for row in rows:
            if row["slot"] == self._slot and self._metric in row["metrics"]:
                self._curves.setdefault(key, {}).setdefault(row["epoch"], float(row["metrics"][self._metric]))
                self._totals[key] = row["total"]

    def judges(self, trial: Trial, trials: Sequence[Trial], rows: Sequence[Mapping[str, Any]]) -> str:
        """Why ``trial`` stops after the epochs that it now reported, the first reason that holds; empty if it goes on.

        Args:
            trials: all of the launch.
        """
        if self._rule is None or trial.kind != "trial":
            return ""
        self.notes(trial.key, rows)
        if trial.key not in self._curves:
            return ""
        own = self._progress(trial)
        judged = [row for row in rows if row["slot"] == self._slot]
        judged = [row for row in judged if is_judged(self._rule, own.configuration, row["epoch"], own.total)]
        if not judged:
            return ""  # most epochs are none of the rule's, and there may be ten thousand others
        others = [
            self._progress(other)
            for other in trials
            if other.key in self._curves and other.key != trial.key and other.seed == trial.seed
        ]
        for row in judged:
            reason = verdict(self._rule, own, others, row["epoch"], self._maximize)
            if reason:
                return f"{self._name} after epoch {row['epoch']} of {self._slot}: {self._metric}: {reason}"
        return ""

    def _progress(self, trial: Trial) -> Progress:
        return Progress(trial.configuration or 0, self._curves[trial.key], self._totals[trial.key])
