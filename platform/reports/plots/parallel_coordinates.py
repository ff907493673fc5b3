"""Parallel coordinates: one line per configuration through the values of its parameters and then its results.

Axis letters: R configurations (rows), A vertical axes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from trainables.palette import GRAY

from ...ledger.formatting import format_number, format_value
from ..parameters import Parameter, shared_parameters
from ..summary import ConfigurationRow, Summary
from .axes import COLORS, LEAST_CONFIGURATIONS, TEXT_PT, TINY_PT, add_color_bar, new_figure
from .plot import PlotFigure, Section

SECTION = Section.SEARCH


@dataclass(frozen=True)
class _Axis:
    """One vertical axis. values: of every row; of a logarithmic parameter the logarithm. parameter: None, a metric."""

    name: str
    values: tuple[float, ...]
    parameter: Parameter | None = None

    def height(self, value: float) -> float:
        """From 0 at the lowest value to 1 at the highest."""
        low, high = min(self.values), max(self.values)
        return (value - low) / (high - low) if high > low else 0.5

    def labels(self) -> list[tuple[float, str]]:
        """(value, text): the options of a choice, or the lowest and the highest value."""
        low, high = min(self.values), max(self.values)
        if self.parameter is not None and self.parameter.options:
            positions = [(_value(self.parameter, option), format_value(option)) for option in self.parameter.options]
            return [(value, text) for value, text in positions if low <= value <= high]
        if self.parameter is not None and self.parameter.log:
            return [(value, format_value(math.exp(value))) for value in (low, high)]
        return [(value, format_number(value)) for value in (low, high)]


def applies(summary: Summary) -> bool:
    """Whether there are two parameters to connect, and enough configurations. A line cannot leave an axis out."""
    metric = summary.color_metric
    return len(shared_parameters(summary)) > 1 and len(summary.comparable(metric)) >= LEAST_CONFIGURATIONS


def draw(summary: Summary) -> Iterator[PlotFigure]:
    yield PlotFigure("parallel", "All settings as parallel coordinates", alt_text(summary), figure(summary))


def figure(summary: Summary) -> Figure:
    """Lines are colored by the accuracy (or the objective), the best one on top.

    A configuration with a pruned or collapsed seed is dashed and gray, if it has results.
    """
    metric = summary.color_metric
    rows = [row for row in summary.configurations if metric in row.metrics]
    axes_of_plot = _axes(summary, rows)
    drawn = new_figure(height_in=3.0, width_in=max(4.0, 0.85 * len(axes_of_plot) + 0.6))
    axes = drawn.subplots()
    height_RA = np.array([[axis.height(value) for value in axis.values] for axis in axes_of_plot]).T
    values = [row.metrics[metric].mean for row in rows]
    sign = summary.objective_of(metric).sign
    worst_first = sorted(range(len(rows)), key=lambda index: -sign * values[index])
    included = [index for index in worst_first if not rows[index].exclusion]
    lines = LineCollection(
        [np.column_stack([np.arange(height_RA.shape[1]), height_RA[index]]) for index in included],
        cmap=COLORS,
        norm=Normalize(min(values), max(values)),
        linewidths=1.4,
    )
    lines.set_array(np.array([values[index] for index in included]))
    axes.add_collection(lines)
    for index in worst_first:
        if rows[index].exclusion:
            axes.plot(height_RA[index], color=GRAY, linestyle="--", linewidth=1)
    _draw_axes(axes, axes_of_plot)
    add_color_bar(drawn, axes, lines, metric)
    return drawn


def alt_text(summary: Summary) -> str:
    """Which axes the lines run through."""
    symbols = ", ".join(parameter.symbol for parameter in shared_parameters(summary))
    results = " and ".join(summary.figure_metrics)
    colored = f"colored by {summary.color_metric}"
    return f"Parallel coordinates: one line per setting through {symbols} and then {results}, {colored}."


def _axes(summary: Summary, rows: Sequence[ConfigurationRow]) -> list[_Axis]:
    parameters = [
        _Axis(parameter.symbol, tuple(_value(parameter, row.params[parameter.name]) for row in rows), parameter)
        for parameter in shared_parameters(summary)
    ]
    metrics = [_Axis(name, tuple(row.metrics[name].mean for row in rows)) for name in summary.figure_metrics]
    return [*parameters, *metrics]


def _value(parameter: Parameter, value: object) -> float:
    position = parameter.position(value)
    return math.log(position) if parameter.log else position


def _draw_axes(axes: Axes, axes_of_plot: Sequence[_Axis]) -> None:
    """A vertical line for each parameter and metric, with its labels."""
    for place, axis in enumerate(axes_of_plot):
        axes.axvline(place, color="0.5", linewidth=0.8, zorder=0)
        for value, text in axis.labels():
            spot = (place, axis.height(value))
            axes.annotate(text, spot, (3, 0), textcoords="offset points", fontsize=TINY_PT, va="center")
    names = [axis.name.replace("/", "/\n") for axis in axes_of_plot]
    axes.set_xticks(range(len(names)), names, fontsize=TEXT_PT - 1)
    axes.set_yticks([])
    axes.set(xlim=(-0.1, len(names) - 1 + 0.45), ylim=(-0.06, 1.06))
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
