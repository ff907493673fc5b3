"""How the results of a study depend on each parameter that it searched."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation, Transform

from trainables.palette import BLUE, GRAY, GREEN, ORANGE

from ...ledger.aggregate import Spread
from ...ledger.formatting import format_number, format_value
from ..flat_regions import FlatRegion, flat_region
from ..parameters import Parameter, searched_parameters
from ..summary import ConfigurationRow, Summary
from .axes import SMALL_PT, TEXT_PT, add_legend, new_figure
from .plot import PlotFigure, Section

SECTION = Section.SENSITIVITY

_PANEL_HEIGHT_IN = 1.7
_LONGEST_NAME = 48
"""Letters of a name below an axis; a unit that makes it longer stands on a line of its own."""
_STEP_IN, _GROUP_IN, _FINEST_IN = 0.08, 0.55, 0.02
"""Distance of points with the same value, the width that all of them may take, and the finest step within it."""


@dataclass(frozen=True)
class _Point:
    """A configuration in a panel. x: its value on the axis. aside_in: how far it is moved from there, in inches."""

    row: ConfigurationRow
    spread: Spread
    x: float
    aside_in: float

    def moved(self, axes: Axes) -> Transform:
        return axes.transData + ScaledTranslation(self.aside_in, 0, axes.figure.dpi_scale_trans)


def applies(summary: Summary) -> bool:
    """Whether any configuration has a number to draw."""
    return bool(summary.figure_metrics)


def draw(summary: Summary) -> Iterator[PlotFigure]:
    for parameter in searched_parameters(summary):
        title, alt = caption(summary, parameter), alt_text(summary, parameter)
        yield PlotFigure(f"sensitivity_{parameter.name}", title, alt, figure(summary, parameter))


def figure(summary: Summary, parameter: Parameter) -> Figure:
    """Accuracy (where there is one) and the objective against one parameter.

    Every configuration is a point with its standard deviation over seeds; the method's default is a dashed line, a
    configuration with all defaults a square, the one that the criterion picks is ringed, and the flat region (see
    ``flat_regions``) is shaded. A configuration with a pruned or collapsed seed is a cross, at the foot where no other
    seed finished.
    """
    metrics, objective = summary.figure_metrics, summary.objective
    drawn = new_figure(height_in=_PANEL_HEIGHT_IN * len(metrics) + 0.8)
    panels = drawn.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
    for axes, metric in zip(panels, metrics, strict=True):
        rows = [row for row in summary.comparable(metric) if parameter.name in row.params]
        _shade_region(axes, flat_region(summary, parameter, metric))
        _draw_points(axes, summary, _points(rows, parameter, metric))
        _draw_default(axes, parameter)
        _mark_excluded(axes, summary, parameter, metric)
        is_objective = metric == objective.metric
        axes.set_ylabel(f"{metric} ({objective.mode})" if is_objective else metric, fontsize=TEXT_PT)
        axes.tick_params(labelsize=SMALL_PT)
    _scale_x(panels[-1], parameter)
    _name_x(panels[-1], parameter)
    add_legend(drawn, panels[0], SMALL_PT, column_spacing=1.2)
    return drawn


def alt_text(summary: Summary, parameter: Parameter) -> str:
    """The range of each metric, and what is marked."""
    parts = []
    for metric in summary.figure_metrics:
        means = [row.metrics[metric].mean for row in summary.configurations if metric in row.metrics]
        parts.append(f"{metric} from {format_number(min(means))} to {format_number(max(means))}")
    return (
        f"{' and '.join(parts)} against {parameter.symbol}, one point per setting with its standard deviation over "
        f"seeds, those with the same value side by side; the default {format_value(parameter.default)} is marked."
    )


def caption(summary: Summary, parameter: Parameter) -> str:
    """The parameter, and where the results are flat in it."""
    regions = [flat_region(summary, parameter, metric) for metric in summary.figure_metrics]
    sentences = " ".join(region.sentence for region in regions if region is not None)
    return f"Sensitivity to {parameter.symbol} ({parameter.name}). {sentences}".strip()


def _points(rows: Sequence[ConfigurationRow], parameter: Parameter, metric: str) -> list[_Point]:
    """Configurations with the same value stand side by side, or their bars would hide each other."""
    by_x: dict[float, list[ConfigurationRow]] = {}
    for row in rows:
        by_x.setdefault(parameter.position(row.params[parameter.name]), []).append(row)
    points = []
    for x, group in by_x.items():
        step_in = min(_STEP_IN, _GROUP_IN / len(group))
        for place, row in enumerate(group):
            # In a crowd to the next fiftieth of an inch, so that few calls draw it.
            aside_in = round((place - (len(group) - 1) / 2) * step_in / _FINEST_IN) * _FINEST_IN
            points.append(_Point(row, row.metrics[metric], x, aside_in))
    return points


def _draw_points(axes: Axes, summary: Summary, points: Sequence[_Point]) -> None:
    """The points with their bars, the picked configuration ringed, the one with all defaults a square."""
    with_defaults = _number_with_defaults(summary)
    for point in points:
        if summary.best and point.row.number == summary.best.number:
            style: dict[str, Any] = {"color": ORANGE, "fillstyle": "none", "markersize": 12, "markeredgewidth": 2}
            label = "picked by the criterion"
            axes.plot(point.x, point.spread.mean, "o", transform=point.moved(axes), label=label, zorder=3, **style)
        if point.row.number == with_defaults:
            style = {"color": GREEN, "markersize": 6, "label": "all defaults", "zorder": 3}
            axes.plot(point.x, point.spread.mean, "s", transform=point.moved(axes), **style)
    # Points that are moved aside by the same distance are drawn in one call: a call a point took half a minute.
    by_aside: dict[float, list[_Point]] = {}
    for point in points:
        by_aside.setdefault(point.aside_in, []).append(point)
    label = "setting, ± std over seeds"
    for _, group in sorted(by_aside.items()):
        _draw_bars(axes, group, label)
        label = ""


def _draw_bars(axes: Axes, points: Sequence[_Point], label: str) -> None:
    """Points that are moved aside by the same distance."""
    style: dict[str, Any] = {"color": BLUE, "markersize": 5, "capsize": 2, "elinewidth": 1}
    means = [point.spread.mean for point in points]
    # A single seed has no deviation: its point has no bar, which says so.
    bars = [math.nan if point.spread.std is None else point.spread.std for point in points]
    positions = [point.x for point in points]
    axes.errorbar(positions, means, bars, fmt="o", label=label, transform=points[0].moved(axes), **style)
    # What is drawn aside is not looked at when the axes choose their limits.
    for point in points:
        bar = point.spread.std or 0.0
        axes.update_datalim([(point.x, point.spread.mean - bar), (point.x, point.spread.mean + bar)])


def _draw_default(axes: Axes, parameter: Parameter) -> None:
    label = f"default {format_value(parameter.default)}"
    axes.axvline(parameter.position(parameter.default), color="0.4", linestyle="--", linewidth=1, label=label)
    axes.margins(x=0.08, y=0.08)
    axes.autoscale_view()
    axes.grid(alpha=0.3)


def _number_with_defaults(summary: Summary) -> int:
    """The number of the configuration with the default of every searched parameter; -1 without one."""
    parameters = searched_parameters(summary)
    for row in summary.configurations:
        if parameters and all(row.params.get(each.name) == each.default for each in parameters):
            return row.number
    return -1


def _mark_excluded(axes: Axes, summary: Summary, parameter: Parameter, metric: str) -> None:
    """Configurations with a pruned or collapsed seed: at the mean of the seeds that finished, or at the foot."""
    foot = axes.get_xaxis_transform()
    style: dict[str, Any] = {"color": GRAY, "markersize": 6, "clip_on": False, "zorder": 3}
    for exclusion, marker in (("pruned", "v"), ("collapsed", "X")):
        label = f"a seed {exclusion}"
        for row in summary.configurations:
            if row.exclusion != exclusion or parameter.name not in row.params:
                continue
            x, spread = parameter.position(row.params[parameter.name]), row.metrics.get(metric)
            y, transform = (0.04, foot) if spread is None else (spread.mean, axes.transData)
            axes.plot(x, y, marker, transform=transform, label=label, **style)
            label = ""


def _shade_region(axes: Axes, region: FlatRegion | None) -> None:
    """The flat region, half of the way to the values next to it; of categories each one that belongs to it."""
    if region is None or not region.members:
        return
    groups, label = region.groups, "flat: within one std of the best"
    if region.parameter.categories:
        for index in region.members:
            middle = groups[index].low
            axes.axvspan(middle - 0.4, middle + 0.4, color=GREEN, alpha=0.15, lw=0, label=label)
            label = ""
        return
    first, last = region.members[0], region.members[-1]
    beyond = 0.03 * (groups[-1].high - groups[0].low)
    low = (groups[first - 1].high + groups[first].low) / 2 if first else groups[0].low - beyond
    high = (groups[last].high + groups[last + 1].low) / 2 if last + 1 < len(groups) else groups[-1].high + beyond
    # A logarithmic axis has no place at or below zero.
    low = max(low, groups[0].low / 2) if region.parameter.log else low
    axes.axvspan(low, high, color=GREEN, alpha=0.15, lw=0, label=label)


def _scale_x(axes: Axes, parameter: Parameter) -> None:
    if parameter.log:
        axes.set_xscale("log")
    if parameter.categories:
        axes.set_xticks(range(len(parameter.categories)), [format_value(each) for each in parameter.categories])
        axes.set_xlim(-0.5, len(parameter.categories) - 0.5)
    elif parameter.options:
        positions = [parameter.position(option) for option in parameter.options]
        axes.set_xticks(positions, [format_value(option) for option in parameter.options])
    elif not parameter.log:
        axes.locator_params(axis="x", nbins=5)


def _name_x(axes: Axes, parameter: Parameter) -> None:
    unit = f" ({parameter.unit})" if parameter.unit else ""
    symbol = "" if parameter.symbol == parameter.name.partition(".")[2] else f"{parameter.symbol}: "
    name = f"{symbol}{parameter.name}"
    fits = len(name + unit) <= _LONGEST_NAME
    axes.set_xlabel(name + unit if fits else f"{name}\n{unit.strip()}", fontsize=TEXT_PT)
