"""A search as a whole: two parameters at a time as heat maps, all of them as parallel coordinates, and its course."""

import itertools
import math
import statistics
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from trainables.palette import BLUE, GRAY, ORANGE

from ...ledger.formatting import format_number, format_value
from ..flat_regions import outcome, shown_metrics
from ..parameters import Group, Swept, grouped, swept
from ..summary import ACCURACY, ConfigurationRow, Summary

_DOTS_PER_IN, _TEXT_PT, _SMALL_PT = 180, 9, 7
_COLORS = "viridis"
_MOST_PAIRS = 6
"""Heat maps: pairs of the first four parameters."""
_LEAST_SETTINGS = 4
"""Fewer settings with a result make neither map nor lines worth a look."""


def ranked_metric(summary: Summary) -> str:
    """What colors say: the accuracy where there is one, or else the objective; empty without a result."""
    return next(iter(shown_metrics(summary)), "")


def whole(summary: Summary, metric: str) -> list[ConfigurationRow]:
    """Settings with a result that counts: none of their seeds was pruned or collapsed."""
    return [row for row in summary.configurations if metric in row.metrics and not outcome(row)]


def pairs(summary: Summary) -> list[tuple[Swept, Swept]]:
    """Which heat maps there are: two parameters of at least two values each; none for a handful of settings."""
    rows = whole(summary, ranked_metric(summary))
    if len(rows) < _LEAST_SETTINGS:
        return []
    varied = [parameter for parameter in swept(summary) if len(grouped(rows, parameter)) > 1]
    return list(itertools.combinations(varied, 2))[:_MOST_PAIRS]


def heat_map(summary: Summary, across: Swept, up: Swept) -> Figure:
    """The mean over the settings in each cell, with the number of settings where there are several; white: none."""
    metric = ranked_metric(summary)
    rows = whole(summary, metric)
    columns, lines = grouped(rows, across), grouped(rows, up)
    mean_YX, count_YX = _cells(lines, columns, metric)
    figure = Figure(figsize=(4.0, 3.2), dpi=_DOTS_PER_IN, layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(mean_YX, cmap=_COLORS, origin="lower", aspect="auto", interpolation="nearest")
    middle = float(np.nanmin(mean_YX) + np.nanmax(mean_YX)) / 2
    for y, x in zip(*np.nonzero(count_YX), strict=True):
        several = f"\n({count_YX[y, x]})" if count_YX[y, x] > 1 else ""
        color = "black" if mean_YX[y, x] > middle else "white"
        axes.text(
            x, y, format_number(mean_YX[y, x]) + several, ha="center", va="center", fontsize=_SMALL_PT, color=color
        )
    axes.set_xticks(range(len(columns)), [_broken(group.label) for group in columns])
    axes.set_yticks(range(len(lines)), [_broken(group.label) for group in lines])
    axes.set_xlabel(f"{across.symbol} ({across.name})", fontsize=_TEXT_PT)
    axes.set_ylabel(f"{up.symbol} ({up.name})", fontsize=_TEXT_PT)
    axes.tick_params(labelsize=_SMALL_PT)
    bar = figure.colorbar(picture, ax=axes)
    bar.set_label(f"mean {metric}", fontsize=_TEXT_PT)
    bar.ax.tick_params(labelsize=_SMALL_PT)
    return figure


def heat_text(summary: Summary, across: Swept, up: Swept) -> str:
    """What a heat map shows, in words and numbers."""
    metric = ranked_metric(summary)
    rows = whole(summary, metric)
    columns, lines = grouped(rows, across), grouped(rows, up)
    mean_YX, _ = _cells(lines, columns, metric)
    sign = 1 if metric == summary.metric and summary.mode == "min" else -1
    best = np.nanargmin(sign * mean_YX)
    y, x = np.unravel_index(best, mean_YX.shape)
    return (
        f"Mean {metric} by {across.symbol} and {up.symbol}, from {format_number(float(np.nanmin(mean_YX)))} to "
        f"{format_number(float(np.nanmax(mean_YX)))}; best where {across.symbol} is {columns[int(x)].label} and "
        f"{up.symbol} is {lines[int(y)].label}."
    )


def has_lines(summary: Summary) -> bool:
    """Whether parallel coordinates say anything: at least two parameters and a handful of settings."""
    return len(_everywhere(summary)) > 1 and len(whole(summary, ranked_metric(summary))) >= _LEAST_SETTINGS


def parallel(summary: Summary) -> Figure:
    """One line per setting through its values and results, colored by the accuracy (or the objective), best on top.

    Settings of which a seed was pruned or collapsed are dashed and gray, as far as they have results.
    """
    metric = ranked_metric(summary)
    parameters, metrics = _everywhere(summary), shown_metrics(summary)
    rows = [row for row in summary.configurations if metric in row.metrics]
    width = max(4.0, 0.85 * (len(parameters) + len(metrics)) + 0.6)
    figure = Figure(figsize=(width, 3.0), dpi=_DOTS_PER_IN, layout="constrained")
    axes = figure.subplots()
    columns = [[parameter.x(row.params[parameter.name]) for row in rows] for parameter in parameters]
    columns = [_log(parameter, values) for parameter, values in zip(parameters, columns, strict=True)]
    columns += [[row.metrics[name].mean for row in rows] for name in metrics]
    place_RA = np.array([_scaled(values) for values in columns]).T
    values = [row.metrics[metric].mean for row in rows]
    sign = -1 if metric == summary.metric and summary.mode == "min" else 1
    order = sorted(range(len(rows)), key=lambda index: (not outcome(rows[index]), sign * values[index]))
    lines = LineCollection(
        [
            np.column_stack([np.arange(place_RA.shape[1]), place_RA[index]])
            for index in order
            if not outcome(rows[index])
        ],
        cmap=_COLORS,
        norm=Normalize(min(values), max(values)),
        linewidths=1.4,
    )
    lines.set_array(np.array([values[index] for index in order if not outcome(rows[index])]))
    axes.add_collection(lines)
    for index in order:
        if outcome(rows[index]):
            axes.plot(place_RA[index], color=GRAY, linestyle="--", linewidth=1)
    _name_axes(axes, parameters, columns, metrics)
    bar = figure.colorbar(lines, ax=axes)
    bar.set_label(metric, fontsize=_TEXT_PT)
    bar.ax.tick_params(labelsize=_SMALL_PT)
    return figure


def parallel_text(summary: Summary) -> str:
    """What the parallel coordinates show, in words."""
    symbols = ", ".join(parameter.symbol for parameter in _everywhere(summary))
    results = " and ".join(shown_metrics(summary))
    colored = f"colored by {ranked_metric(summary)}"
    return f"Parallel coordinates: one line per setting through {symbols} and then {results}, {colored}."


def history(summary: Summary) -> Figure:
    """The objective of every setting in the order in which they were drawn, the best so far, and the accuracy of that.

    A setting of which a seed was pruned or collapsed is a gray cross at the foot.
    """
    done = whole(summary, summary.metric)
    with_accuracy = ACCURACY != summary.metric and all(ACCURACY in row.metrics for row in done)
    figure = Figure(figsize=(4.0, 1.7 * (1 + with_accuracy) + 0.7), dpi=_DOTS_PER_IN, layout="constrained")
    panels = figure.subplots(1 + with_accuracy, 1, sharex=True, squeeze=False)[:, 0]
    numbers, best = [row.number + 1 for row in done], _best_so_far(summary, done)
    drawn = [(panels[-1], summary.metric)] + ([(panels[0], ACCURACY)] if with_accuracy else [])
    for axes, metric in drawn:
        axes.plot(numbers, [row.metrics[metric].mean for row in done], "o", color=BLUE, markersize=4, label="setting")
        so_far = [row.metrics[metric].mean for row in best]
        axes.step(numbers, so_far, where="post", color=ORANGE, label="best so far by the criterion")
        label = f"{metric} ({summary.mode})" if metric == summary.metric else metric
        axes.set_ylabel(label, fontsize=_TEXT_PT)
        axes.tick_params(labelsize=_SMALL_PT)
        axes.grid(alpha=0.3)
    stopped = [row.number + 1 for row in summary.configurations if outcome(row)]
    if stopped:
        foot = panels[-1].get_xaxis_transform()
        panels[-1].plot(
            stopped,
            [0.04] * len(stopped),
            "X",
            color=GRAY,
            markersize=6,
            transform=foot,
            label="a seed pruned or collapsed",
        )
    panels[-1].set_xlabel("setting, in the order of the search", fontsize=_TEXT_PT)
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    named = panels[-1].get_legend_handles_labels()
    figure.legend(*named, loc="outside upper center", ncols=2, frameon=False, fontsize=_SMALL_PT)
    return figure


def history_text(summary: Summary) -> str:
    """What the history shows, in words and numbers."""
    done = whole(summary, summary.metric)
    best = _best_so_far(summary, done)[-1]
    value = format_number(best.metrics[summary.metric].mean)
    return (
        f"{summary.metric} of {len(done)} settings in the order of the search; the best, {value}, was number "
        f"{best.number + 1}."
    )


def has_history(summary: Summary) -> bool:
    """Whether the search has a course worth a look."""
    return bool(swept(summary)) and len(whole(summary, summary.metric)) >= _LEAST_SETTINGS


def _everywhere(summary: Summary) -> list[Swept]:
    """The parameters that every setting with a result has: a line cannot pass an axis by."""
    rows = [row for row in summary.configurations if row.metrics]
    return [parameter for parameter in swept(summary) if all(parameter.holds(row) for row in rows)]


def _best_so_far(summary: Summary, rows: Sequence[ConfigurationRow]) -> list[ConfigurationRow]:
    sign = -1 if summary.mode == "max" else 1
    found: list[ConfigurationRow] = []
    for row in rows:
        beaten = not found or sign * row.metrics[summary.metric].mean < sign * found[-1].metrics[summary.metric].mean
        found.append(row if beaten else found[-1])
    return found


def _cells(lines: Sequence[Group], columns: Sequence[Group], metric: str) -> tuple[np.ndarray, np.ndarray]:
    mean_YX = np.full((len(lines), len(columns)), math.nan)
    count_YX = np.zeros(mean_YX.shape, dtype=np.int64)
    for y, line in enumerate(lines):
        numbers = {row.number for row in line.rows}
        for x, column in enumerate(columns):
            found = [row.metrics[metric].mean for row in column.rows if row.number in numbers]
            count_YX[y, x] = len(found)
            if found:
                mean_YX[y, x] = statistics.fmean(found)
    return mean_YX, count_YX


def _log(parameter: Swept, values: Sequence[float]) -> list[float]:
    return [math.log(value) for value in values] if parameter.log else list(values)


def _scaled(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    return [(value - low) / (high - low) if high > low else 0.5 for value in values]


def _name_axes(
    axes: Axes, parameters: Sequence[Swept], columns: Sequence[Sequence[float]], metrics: Sequence[str]
) -> None:
    """A vertical line for each parameter and metric with its lowest and highest value, or every option of a choice."""
    for place, values in enumerate(columns):
        axes.axvline(place, color="0.5", linewidth=0.8, zorder=0)
        low, high = min(values), max(values)
        if place < len(parameters) and parameters[place].ticks:
            parameter = parameters[place]
            marks = [(x, format_value(tick)) for tick in parameter.ticks for x in _log(parameter, [parameter.x(tick)])]
            marks = [(x, label) for x, label in marks if low <= x <= high]
        elif place < len(parameters) and parameters[place].log:
            marks = [(x, format_value(math.exp(x))) for x in (low, high)]
        else:
            marks = [(x, format_number(x)) for x in (low, high)]
        for x, label in marks:
            y = (x - low) / (high - low) if high > low else 0.5
            axes.annotate(label, (place, y), (3, 0), textcoords="offset points", fontsize=_SMALL_PT, va="center")
    names = [parameter.symbol for parameter in parameters] + list(metrics)
    axes.set_xticks(range(len(names)), [name.replace("/", "/\n") for name in names], fontsize=_TEXT_PT - 1)
    axes.set_yticks([])
    axes.set(xlim=(-0.1, len(names) - 1 + 0.45), ylim=(-0.06, 1.06))
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _broken(label: str) -> str:
    return label.replace(" to ", "\nto ")
