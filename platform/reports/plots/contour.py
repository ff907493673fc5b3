"""Two parameters at a time: a map of the mean result over the values of both.

Axis letters: Y values of the parameter that goes up, X values of the one that goes across.
"""

import itertools
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...ledger.formatting import format_number
from ..parameters import Group, Parameter, grouped, searched_parameters
from ..summary import Summary
from .axes import COLORS, LEAST_CONFIGURATIONS, TEXT_PT, TINY_PT, add_color_bar, new_figure
from .plot import PlotFigure, Section

SECTION = Section.SEARCH

_MOST_PAIRS = 6
"""As many as four parameters have."""


@dataclass(frozen=True)
class _Map:
    """mean_YX: float64, NaN without a configuration. count_YX: how many configurations each mean is of."""

    metric: str
    columns: Sequence[Group]
    lines: Sequence[Group]
    mean_YX: np.ndarray
    count_YX: np.ndarray


def applies(summary: Summary) -> bool:
    """Whether two parameters took at least two values each, in enough configurations."""
    return bool(pairs(summary))


def draw(summary: Summary) -> Iterator[PlotFigure]:
    for across, up in pairs(summary):
        title = f"{across.symbol} and {up.symbol} together"
        alt, drawn = alt_text(summary, across, up), figure(summary, across, up)
        yield PlotFigure(f"pair_{across.name}_{up.name}", title, alt, drawn)


def pairs(summary: Summary) -> list[tuple[Parameter, Parameter]]:
    """The parameters of each map, (across, up); none with too few configurations."""
    rows = summary.comparable(summary.color_metric)
    if len(rows) < LEAST_CONFIGURATIONS:
        return []
    varied = [parameter for parameter in searched_parameters(summary) if len(grouped(rows, parameter)) > 1]
    return list(itertools.combinations(varied, 2))[:_MOST_PAIRS]


def figure(summary: Summary, across: Parameter, up: Parameter) -> Figure:
    """The mean in each field, with the number of configurations if there are several. White: no configuration."""
    means = _means(summary, across, up)
    drawn = new_figure(height_in=3.2)
    axes = drawn.subplots()
    image = axes.imshow(means.mean_YX, cmap=COLORS, origin="lower", aspect="auto", interpolation="nearest")
    _write_means(axes, means)
    axes.set_xticks(range(len(means.columns)), [_in_two_lines(group.label) for group in means.columns])
    axes.set_yticks(range(len(means.lines)), [_in_two_lines(group.label) for group in means.lines])
    axes.set_xlabel(f"{across.symbol} ({across.name})", fontsize=TEXT_PT)
    axes.set_ylabel(f"{up.symbol} ({up.name})", fontsize=TEXT_PT)
    axes.tick_params(labelsize=TINY_PT)
    add_color_bar(drawn, axes, image, f"mean {means.metric}")
    return drawn


def alt_text(summary: Summary, across: Parameter, up: Parameter) -> str:
    """The range of the means, and where the best one is."""
    means = _means(summary, across, up)
    sign = summary.objective_of(means.metric).sign
    y, x = np.unravel_index(np.nanargmin(sign * means.mean_YX), means.mean_YX.shape)
    return (
        f"Mean {means.metric} by {across.symbol} and {up.symbol}, from "
        f"{format_number(float(np.nanmin(means.mean_YX)))} to {format_number(float(np.nanmax(means.mean_YX)))}; best "
        f"where {across.symbol} is {means.columns[int(x)].label} and {up.symbol} is {means.lines[int(y)].label}."
    )


def _means(summary: Summary, across: Parameter, up: Parameter) -> _Map:
    metric = summary.color_metric
    rows = summary.comparable(metric)
    columns, lines = grouped(rows, across), grouped(rows, up)
    mean_YX = np.full((len(lines), len(columns)), math.nan)
    count_YX = np.zeros(mean_YX.shape, dtype=np.int64)
    for y, line in enumerate(lines):
        numbers = {row.number for row in line.rows}
        for x, column in enumerate(columns):
            values = [row.metrics[metric].mean for row in column.rows if row.number in numbers]
            count_YX[y, x] = len(values)
            if values:
                mean_YX[y, x] = statistics.fmean(values)
    return _Map(metric, columns, lines, mean_YX, count_YX)


def _write_means(axes: Axes, means: _Map) -> None:
    middle = float(np.nanmin(means.mean_YX) + np.nanmax(means.mean_YX)) / 2
    for y, x in zip(*np.nonzero(means.count_YX), strict=True):
        mean, count = means.mean_YX[y, x], means.count_YX[y, x]
        text = format_number(mean) + (f"\n({count})" if count > 1 else "")
        color = "black" if mean > middle else "white"
        axes.text(x, y, text, ha="center", va="center", fontsize=TINY_PT, color=color)


def _in_two_lines(label: str) -> str:
    return label.replace(" to ", "\nto ")
