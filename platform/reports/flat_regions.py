"""Over which values of a parameter a result does not change by more than the seeds make it change.

The rule: configurations are put in groups of like values (``parameters.grouped``); a group's level is the mean of its
configurations' means over seeds, so whatever else the search varied is averaged out as far as it was varied evenly. The
flat region is the widest unbroken range of groups around the best one whose levels lie within one pooled standard
deviation over seeds of the best level (pooled over all configurations, by degrees of freedom). Configurations with a
pruned or collapsed seed take no part: the seeds that survived would flatter them. Categories have no order, so any of
them may be among those that are as good. With one seed a configuration has no deviation, and nothing is called flat.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ..ledger.formatting import format_number
from .parameters import Group, Parameter, grouped, searched_parameters
from .summary import ConfigurationRow, Summary
from .table import MISSING, Cell, Table, as_table

COLUMNS = ("parameter", "metric", "best at", "level there", "std over seeds", "flat region", "values")


@dataclass(frozen=True)
class FlatRegion:
    """One metric along one parameter. best: index of the best group. members: indices of the groups in the region.

    std: the pooled standard deviation over seeds; None with one seed, and then there are no members.
    """

    parameter: Parameter
    metric: str
    groups: tuple[Group, ...]
    levels: tuple[float, ...]
    best: int
    members: tuple[int, ...]
    std: float | None

    @property
    def covers_all(self) -> bool:
        return len(self.members) == len(self.groups)

    @property
    def label(self) -> str:
        """ "0.9 to 0.98", "5", "code, hierarchical"; empty where nothing can be said."""
        if not self.members:
            return ""
        labels = [self.groups[index].label for index in self.members]
        if self.parameter.categories or len(labels) == 1:
            return ", ".join(labels)
        return f"{labels[0].partition(' to ')[0]} to {labels[-1].rpartition(' to ')[2]}"

    @property
    def sentence(self) -> str:
        """The region in words, for a caption."""
        curve, best = f"{self.metric} against {self.parameter.symbol}", self.groups[self.best].label
        if self.std is None:
            return f"{curve}: best at {best}; one seed, so nothing can be called flat."
        within = f"within one standard deviation over seeds ({format_number(self.std)}) of the best, at {best}"
        if self.covers_all:
            return f"{curve}: flat over everything that was tried, {within}."
        if len(self.members) == 1:
            return f"{curve}: no other value is {within}."
        return f"{curve}: flat {'for' if self.parameter.categories else 'from'} {self.label}, {within}."


def flat_region(summary: Summary, parameter: Parameter, metric: str) -> FlatRegion | None:
    """The flat region of one metric; None with fewer than two groups of comparable configurations."""
    rows = summary.comparable(metric)
    groups = grouped(rows, parameter)
    if len(groups) < 2:
        return None
    levels = [statistics.fmean(row.metrics[metric].mean for row in group.rows) for group in groups]
    sign = summary.objective_of(metric).sign
    best = min(range(len(groups)), key=lambda index: (sign * levels[index], index))
    std = pooled_std(rows, metric)
    members = () if std is None else _members(levels, best, std, ordered=not parameter.categories)
    return FlatRegion(parameter, metric, tuple(groups), tuple(levels), best, members, std)


def table(summary: Summary) -> Table:
    """One row for each searched parameter and metric."""
    rows = []
    for parameter in searched_parameters(summary):
        for metric in summary.figure_metrics:
            region = flat_region(summary, parameter, metric)
            if region is not None:
                rows.append(_row(region))
    note = (
        "Flat: the widest unbroken range around the best value whose levels lie within one standard deviation over "
        "seeds of the best level. A level is the mean over all settings with that value (or a group of like values); "
        "the deviation is pooled over all settings."
    )
    return as_table("Where results are flat", COLUMNS, rows, [note] if rows else [])


def _row(region: FlatRegion) -> tuple[Cell, ...]:
    level = region.levels[region.best]
    return (
        Cell(f"{region.parameter.symbol} ({region.parameter.name})"),
        Cell(region.metric),
        Cell(region.groups[region.best].label),
        Cell(format_number(level), level),
        Cell(MISSING) if region.std is None else Cell(format_number(region.std), region.std),
        Cell(region.label or MISSING),
        Cell(f"{len(region.members)} of {len(region.groups)}", len(region.members)),
    )


def pooled_std(rows: Sequence[ConfigurationRow], metric: str) -> float | None:
    """The standard deviation over seeds, pooled over configurations; None where no configuration has two seeds."""
    spreads = [row.metrics[metric] for row in rows]
    freedom = sum(spread.n - 1 for spread in spreads)
    squares = math.fsum((spread.n - 1) * spread.std**2 for spread in spreads if spread.std is not None)
    return math.sqrt(squares / freedom) if freedom else None


def _members(levels: Sequence[float], best: int, std: float, *, ordered: bool) -> tuple[int, ...]:
    near = [abs(level - levels[best]) <= std for level in levels]
    if not ordered:
        return tuple(index for index, is_near in enumerate(near) if is_near)
    first = last = best
    while first > 0 and near[first - 1]:
        first -= 1
    while last + 1 < len(near) and near[last + 1]:
        last += 1
    return tuple(range(first, last + 1))
