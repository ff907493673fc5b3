"""Which running trials are not worth finishing: exact rules over the objective's values per epoch.

A rule looks at one trial (a configuration with a seed) and at the trials of the *same seed*: they share the stages
before the search, so their values differ by the configurations alone. Epochs are counted in the objective's stage. No
trial is stopped at its last epoch, since nothing would be saved. The curves come from the ledger, so a restarted launch
decides by what the first one knew; Ray Tune's own schedulers keep theirs in memory, and its HyperBand pauses trials
into checkpoints that reused function trainables do not have.

    asha       Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, in its stopping form:
               at the rungs grace, grace*eta, grace*eta^2, ... a trial goes on if it is among the best n // eta (at
               least one) of the n trials that have been at this rung, itself included. Ties go on.
    hyperband  the same in brackets (Li et al., JMLR 2018): configuration i is in bracket i modulo their number,
               bracket s begins at grace*eta^s, and trials are compared within their bracket.
    median     Golovin et al., "Google Vizier", KDD 2017: from the grace epoch on, a trial stops whose best value is
               worse than the median of the others' means up to the same epoch, of which there must be ``min_trials``.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trainables.runner.messages import EpochRecord

from ..ledger.aggregate import Curve, Objective, curve
from ..ledger.ledger import Ledger
from ..ledger.rows import EpochRow, Launch, Trial
from ..study.file_schema import Asha, Hyperband, Median
from ..study.study import Study


@dataclass(frozen=True)
class Progress:
    """A running trial in the objective's stage. configuration: its number; total: epochs that the stage will have."""

    configuration: int
    curve: Curve
    total: int


def rungs(rule: Asha | Hyperband, bracket: int, total: int) -> list[int]:
    """The epochs below ``total`` at which a trial of a bracket may stop, ascending."""
    epochs, epoch = [], rule.grace_epochs * rule.reduction_factor**bracket
    while epoch < total:
        epochs.append(epoch)
        epoch *= rule.reduction_factor
    return epochs


def brackets(rule: Asha | Hyperband, total: int) -> int:
    """Number of brackets: one for asha, one per rung for hyperband, at least one."""
    return max(1, len(rungs(rule, 0, total))) if isinstance(rule, Hyperband) else 1


def may_stop(rule: Asha | Hyperband | Median, configuration: int, epoch: int, total: int) -> bool:
    """Whether a trial of a configuration may be stopped after ``epoch`` of ``total``."""
    if isinstance(rule, Median):
        return rule.grace_epochs <= epoch < total
    return epoch in rungs(rule, configuration % brackets(rule, total), total)


def stop_reason(
    rule: Asha | Hyperband | Median, trial: Progress, others: Sequence[Progress], epoch: int, objective: Objective
) -> str:
    """Why a trial stops after ``epoch``; "" if it goes on.

    Args:
        others: the other trials of the same seed.
    """
    if epoch not in trial.curve or not may_stop(rule, trial.configuration, epoch, trial.total):
        return ""
    if isinstance(rule, Median):
        return _median_reason(rule, trial.curve, [other.curve for other in others], epoch, objective)
    bracket = trial.configuration % brackets(rule, trial.total)
    peers = [other for other in others if other.configuration % brackets(rule, other.total) == bracket]
    values = [other.curve[epoch] for other in peers if epoch in other.curve]
    num_better = sum(objective.is_better(value, trial.curve[epoch]) for value in values)
    num_kept = max(1, (len(values) + 1) // rule.reduction_factor)
    if num_better < num_kept:
        return ""
    return f"{trial.curve[epoch]:.6g} is not among the best {num_kept} of {len(values) + 1}"


def _median_reason(rule: Median, values: Curve, others: Iterable[Curve], epoch: int, objective: Objective) -> str:
    means = [statistics.fmean(_until(other, epoch)) for other in others if epoch in other]
    if len(means) < rule.min_trials:
        return ""
    best, median = objective.best(_until(values, epoch)), statistics.median(means)
    if not objective.is_better(median, best):
        return ""
    return f"the best value {best:.6g} is worse than {median:.6g}, the median of {len(means)} trials"


def _until(values: Curve, epoch: int) -> list[float]:
    return [value for number, value in values.items() if number <= epoch]


def watched_slot(study: Study) -> str:
    """The stage whose epochs may stop a trial; "" without a scheduler."""
    return study.objective.metric.partition("/")[0] if study.scheduler else ""


class EarlyStopping:
    """The curves of a launch, and the study's rule over them."""

    def __init__(self, study: Study, ledger: Ledger, launch: Launch) -> None:
        self._rule = study.scheduler.rule if study.scheduler else None
        self._name = study.scheduler.name if study.scheduler else ""
        self._objective = Objective(study.objective.metric, study.objective.mode)
        self._slot, _, self._metric = study.objective.metric.partition("/")
        self._curves: dict[str, dict[int, float]] = {}
        self._totals: dict[str, int] = {}
        if self._rule is not None:
            for row in ledger.epochs(launch.id):
                self.add(row.key, [row])

    def add(self, key: str, epochs: Sequence[EpochRecord | EpochRow]) -> None:
        """Keep what a trial reported; an epoch that is repeated keeps its first value, as in the ledger."""
        values = curve(epochs, self._objective.metric)
        if not values:
            return
        known = self._curves.setdefault(key, {})
        for epoch, value in values.items():
            known.setdefault(epoch, value)
        self._totals[key] = next(each.total for each in epochs if each.slot == self._slot)

    def stop_reason(self, trial: Trial, trials: Sequence[Trial], epochs: Sequence[EpochRecord]) -> str:
        """Why ``trial`` stops after the epochs it has just reported, the first reason that holds; "" if it goes on.

        Args:
            trials: all of the launch.
        """
        if self._rule is None or trial.kind != "trial":
            return ""
        self.add(trial.key, epochs)
        if trial.key not in self._curves:
            return ""
        progress = self._progress(trial)
        reported = [each.epoch for each in epochs if each.slot == self._slot]
        compared = [epoch for epoch in reported if may_stop(self._rule, progress.configuration, epoch, progress.total)]
        if not compared:
            return ""  # at most epochs no trial may stop, and there may be ten thousand others
        others = [
            self._progress(other)
            for other in trials
            if other.key in self._curves and other.key != trial.key and other.seed == trial.seed
        ]
        for epoch in compared:
            reason = stop_reason(self._rule, progress, others, epoch, self._objective)
            if reason:
                return f"{self._name} after epoch {epoch} of {self._slot}: {self._metric}: {reason}"
        return ""

    def _progress(self, trial: Trial) -> Progress:
        return Progress(trial.configuration or 0, self._curves[trial.key], self._totals[trial.key])
