"""Several objectives: the configurations that no other dominates, and their table."""

from ..ledger.formatting import format_spread
from .ranking import fronts
from .summary import ConfigurationRow, Summary
from .table import MISSING, Cell, Table, as_table


def front(summary: Summary) -> list[ConfigurationRow]:
    """The first Pareto front, in the order of the ranking; empty for one objective."""
    if len(summary.objectives) < 2:
        return []
    first = next(iter(fronts(summary.ranking, summary.objectives)), [])
    numbers = {row.number for row in first}
    return [row for row in summary.ranking if row.number in numbers]


def table(summary: Summary) -> Table:
    """The front with every objective, and the accuracy where there is one."""
    names = [objective.metric for objective in summary.objectives]
    accuracy = summary.accuracy
    shown = [*names, *([accuracy] if any(accuracy in row.metrics for row in summary.configurations) else [])]
    heads = [f"{objective.metric} ({objective.mode})" for objective in summary.objectives]
    columns = ("setting", *heads, *shown[len(names) :], "seeds")
    rows = []
    for row in front(summary):
        spreads = [row.metrics.get(name) for name in shown]
        values = [
            Cell(MISSING) if spread is None else Cell(format_spread(spread.mean, spread.std, spread.n), spread.mean)
            for spread in spreads
        ]
        rows.append((Cell(row.label), *values, Cell(f"{row.done} of {row.wanted}", row.done)))
    return as_table("Pareto front", columns, rows)
