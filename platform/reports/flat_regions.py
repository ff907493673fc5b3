"""Over which values of a parameter a result does not change by more than the seeds make it change.

The rule: settings are put in groups of like values (``swept.grouped``); a group's level is the mean of its settings'
means over seeds, so whatever else the search varied is averaged out as far as it was varied evenly. The flat region is
the widest unbroken range of groups around the best one whose levels lie within one pooled standard deviation over seeds
of the best level (pooled over all settings, by degrees of freedom). Settings of which a seed was pruned or collapsed
take no part: the seeds that survived would flatter them. Options that are words have no order, so any of them may be
among those that are as good. With one seed a setting has no deviation, and nothing is called flat.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ..ledger.formatting import format_number
from ..ledger.outcomes import status
from .parameters import Group, Swept, grouped, swept
from .summary import ACCURACY, ConfigurationRow, Summary
from .table import MISSING, Cell, Table, as_table

COLUMNS = ("parameter", "metric", "best at", "level there", "std over seeds", "flat region", "values")


@dataclass(frozen=True)
class Flat:
    """What one metric does along one parameter. best: index into groups. inside: indices of the flat region; std: the
    pooled one, None with one seed, and then ``inside`` is empty."""

    parameter: Swept
    metric: str
    groups: tuple[Group, ...]
    levels: tuple[float, ...]
    best: int
    inside: tuple[int, ...]
    std: float | None

    @property
    def everywhere(self) -> bool:
        return len(self.inside) == len(self.groups)

    @property
    def region(self) -> str:
        """ "0.9 to 0.98", "5", "code, hierarchical"; empty where nothing can be said."""
        if not self.inside:
            return ""
        labels = [self.groups[index].label for index in self.inside]
        if self.parameter.places or len(labels) == 1:
            return ", ".join(labels)
        return f"{labels[0].partition(' to ')[0]} to {labels[-1].rpartition(' to ')[2]}"

    @property
    def words(self) -> str:
        """The same as a sentence."""
        what, best = f"{self.metric} against {self.parameter.symbol}", self.groups[self.best].label
        if self.std is None:
            return f"{what}: best at {best}; one seed, so nothing can be called flat."
        within = f"within one standard deviation over seeds ({format_number(self.std)}) of the best, at {best}"
        if self.everywhere:
            return f"{what}: flat over everything that was tried, {within}."
        if len(self.inside) == 1:
            return f"{what}: no other value is {within}."
        return f"{what}: flat {'for' if self.parameter.places else 'from'} {self.region}, {within}."


def flat(summary: Summary, parameter: Swept, metric: str) -> Flat | None:
    """The flat region of one metric; None where fewer than two groups of settings have a whole result."""
    rows = [row for row in summary.configurations if metric in row.metrics and not outcome(row)]
    groups = grouped(rows, parameter)
    if len(groups) < 2:
        return None
    levels = [statistics.fmean(row.metrics[metric].mean for row in group.rows) for group in groups]
    sign = 1.0 if metric != ACCURACY and metric == summary.metric and summary.mode == "min" else -1.0
    best = min(range(len(groups)), key=lambda index: (sign * levels[index], index))
    std = pooled_std(rows, metric)
    inside = () if std is None else _inside(levels, best, std, ordered=not parameter.places)
    return Flat(parameter, metric, tuple(groups), tuple(levels), best, inside, std)


def table(summary: Summary) -> Table:
    """One row for each swept parameter and metric."""
    rows = []
    for parameter in swept(summary):
        for metric in shown_metrics(summary):
            found = flat(summary, parameter, metric)
            if found is None:
                continue
            std = Cell(MISSING) if found.std is None else Cell(format_number(found.std), found.std)
            level = found.levels[found.best]
            rows.append(
                (
                    Cell(f"{parameter.symbol} ({parameter.name})"),
                    Cell(metric),
                    Cell(found.groups[found.best].label),
                    Cell(format_number(level), level),
                    std,
                    Cell(found.region or MISSING),
                    Cell(f"{len(found.inside)} of {len(found.groups)}", len(found.inside)),
                )
            )
    note = (
        "Flat: the widest unbroken range around the best value whose levels lie within one standard deviation over "
        "seeds of the best level. A level is the mean over all settings with that value (or a group of like values); "
        "the deviation is pooled over all settings."
    )
    return as_table("Where results are flat", COLUMNS, rows, [note] if rows else [])


def pooled_std(rows: Sequence[ConfigurationRow], metric: str) -> float | None:
    """The standard deviation over seeds, pooled over settings; None where no setting has two."""
    spreads = [row.metrics[metric] for row in rows]
    freedom = sum(each.n - 1 for each in spreads)
    squares = math.fsum((each.n - 1) * each.std**2 for each in spreads if each.std is not None)
    return math.sqrt(squares / freedom) if freedom else None


def outcome(row: ConfigurationRow) -> str:
    """ "collapsed" or "pruned" where that happened to any seed of a setting; it has no place among the others then."""
    found = {status(trial) for trial in row.trials}
    return next((word for word in ("collapsed", "pruned") if word in found), "")


def shown_metrics(summary: Summary) -> list[str]:
    """The accuracy and the objective, as far as every setting with a result has them."""
    rows = [row for row in summary.configurations if row.metrics]
    return [
        metric
        for metric in dict.fromkeys((ACCURACY, summary.metric))
        if rows and all(metric in row.metrics for row in rows)
    ]


def _inside(levels: Sequence[float], best: int, std: float, *, ordered: bool) -> tuple[int, ...]:
    near = [abs(level - levels[best]) <= std for level in levels]
    if not ordered:
        return tuple(index for index, each in enumerate(near) if each)
    first = last = best
    while first > 0 and near[first - 1]:
        first -= 1
    while last + 1 < len(near) and near[last + 1]:
        last += 1
    return tuple(range(first, last + 1))
