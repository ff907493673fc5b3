"""Several objectives: the settings that no other beats in all of them, as a table and a plot."""

from matplotlib.figure import Figure

from trainables.palette import BLUE, ORANGE

from ..ledger.formatting import format_number, format_spread
from .summary import ACCURACY, ConfigurationRow, Summary, fronts
from .table import Cell, Table, as_table

_SIZE_IN, _DOTS_PER_IN, _TEXT_PT = (4.0, 3.2), 180, 9


def front(summary: Summary) -> list[ConfigurationRow]:
    """The first Pareto front, in the order of the ranking; empty for one objective."""
    if len(summary.objectives) < 2:
        return []
    first = next(iter(fronts(summary.ranking, summary.objectives)), [])
    numbers = {row.number for row in first}
    return [row for row in summary.ranking if row.number in numbers]


def table(summary: Summary) -> Table:
    """The front with every objective, and the accuracy where there is one."""
    names = [metric for metric, _ in summary.objectives]
    shown = [*names, *([ACCURACY] if any(ACCURACY in row.metrics for row in summary.configurations) else [])]
    heads = [f"{metric} ({mode})" for metric, mode in summary.objectives]
    columns = ("setting", *heads, *shown[len(names) :], "seeds")
    rows = []
    for row in front(summary):
        found = [row.metrics.get(name) for name in shown]
        values = [
            Cell("–") if one is None else Cell(format_spread(one.mean, one.std, one.n), one.mean) for one in found
        ]
        rows.append((Cell(row.label), *values, Cell(f"{row.done} of {row.wanted}", row.done)))
    return as_table("Pareto front", columns, rows)


def figure(summary: Summary) -> Figure:
    """Every setting in the plane of the first two objectives, the front ringed and joined."""
    (first, first_mode), (second, second_mode) = summary.objectives[:2]
    drawn = Figure(figsize=_SIZE_IN, dpi=_DOTS_PER_IN, layout="constrained")
    axes = drawn.subplots()
    points = [row for row in summary.configurations if first in row.metrics and second in row.metrics]
    axes.plot(*_places(points, first, second), "o", color=BLUE, markersize=5, label="setting")
    best = sorted(front(summary), key=lambda row: row.metrics[first].mean)
    axes.plot(
        *_places(best, first, second), "o-", color=ORANGE, fillstyle="none", markersize=11, label="no setting beats it"
    )
    axes.set_xlabel(f"{first} ({first_mode})", fontsize=_TEXT_PT)
    axes.set_ylabel(f"{second} ({second_mode})", fontsize=_TEXT_PT)
    axes.tick_params(labelsize=_TEXT_PT - 1)
    axes.grid(alpha=0.3)
    drawn.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=_TEXT_PT - 1)
    return drawn


def alt_text(summary: Summary) -> str:
    """What the figure shows, in words and numbers."""
    (first, _), (second, _) = summary.objectives[:2]
    spots = ", ".join(
        f"({format_number(row.metrics[first].mean)}, {format_number(row.metrics[second].mean)})"
        for row in front(summary)
    )
    return f"{second} against {first}, one point per setting; the Pareto front is {spots}."


def _places(rows: list[ConfigurationRow], first: str, second: str) -> tuple[list[float], list[float]]:
    return [row.metrics[first].mean for row in rows], [row.metrics[second].mean for row in rows]
