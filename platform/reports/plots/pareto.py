"""Several objectives: every configuration in the plane of the first two, the Pareto front ringed and joined."""

from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.figure import Figure

from trainables.palette import BLUE, ORANGE

from ...ledger.formatting import format_number
from .. import pareto
from ..summary import ConfigurationRow, Summary
from .axes import SMALL_PT, TEXT_PT, add_legend, new_figure
from .plot import PlotFigure, Section

SECTION = Section.SENSITIVITY


def applies(summary: Summary) -> bool:
    """Whether there are several objectives and any configuration has them."""
    return bool(pareto.front(summary))


def draw(summary: Summary) -> Iterator[PlotFigure]:
    yield PlotFigure("pareto", "Pareto front", alt_text(summary), figure(summary))


def figure(summary: Summary) -> Figure:
    first, second = summary.objectives[:2]
    drawn = new_figure(height_in=3.2)
    axes = drawn.subplots()
    rows = [row for row in summary.configurations if first.metric in row.metrics and second.metric in row.metrics]
    axes.plot(*_means(rows, first.metric, second.metric), "o", color=BLUE, markersize=5, label="setting")
    front = sorted(pareto.front(summary), key=lambda row: row.metrics[first.metric].mean)
    ring: dict[str, Any] = {"color": ORANGE, "fillstyle": "none", "markersize": 11}
    axes.plot(*_means(front, first.metric, second.metric), "o-", label="no setting beats it", **ring)
    axes.set_xlabel(f"{first.metric} ({first.mode})", fontsize=TEXT_PT)
    axes.set_ylabel(f"{second.metric} ({second.mode})", fontsize=TEXT_PT)
    axes.tick_params(labelsize=SMALL_PT)
    axes.grid(alpha=0.3)
    add_legend(drawn, axes, SMALL_PT)
    return drawn


def alt_text(summary: Summary) -> str:
    """The points of the front, in words and numbers."""
    first, second = (objective.metric for objective in summary.objectives[:2])
    points = ", ".join(
        f"({format_number(row.metrics[first].mean)}, {format_number(row.metrics[second].mean)})"
        for row in pareto.front(summary)
    )
    return f"{second} against {first}, one point per setting; the Pareto front is {points}."


def _means(rows: Sequence[ConfigurationRow], first: str, second: str) -> tuple[list[float], list[float]]:
    return [row.metrics[first].mean for row in rows], [row.metrics[second].mean for row in rows]
