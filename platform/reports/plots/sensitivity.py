"""How sensitive a study is to each parameter it swept; drawn without pyplot, and equal numbers give equal PNG bytes."""

import io
import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from trainables.palette import BLUE, GRAY, GREEN, ORANGE

from ...ledger.formatting import format_number, format_value
from ..flat_regions import Flat, flat, outcome, shown_metrics
from ..parameters import Swept, swept
from ..summary import ConfigurationRow, Spread, Summary

_PANEL_SIZE_IN, _DOTS_PER_IN = (4.0, 1.7), 180
"""Three stand side by side in a report, where an inch is about 90 pixels of the page."""
_TEXT_PT, _SMALL_PT = 9, 8
_LETTERS = 48
"""Of a name below an axis; a unit that makes it longer stands on a line of its own."""
_STEP_IN, _GROUP_IN, _FINEST_IN = 0.08, 0.55, 0.02
"""Distance of settings with the same value, the width that all of them may take, and the finest step within it."""


def sensitivity(summary: Summary, parameter: Swept) -> Figure:
    """Accuracy (where there is one) and the objective against one parameter.

    Every setting is a point with its standard deviation over seeds; the method's default is a dashed line, a setting
    that has all defaults a square, the one that the criterion picks is ringed, and the flat region (see ``flatness``)
    is shaded. A setting of which a seed was pruned or collapsed is a cross, at the foot where no other seed finished.
    """
    metrics = shown_metrics(summary)
    width, height = _PANEL_SIZE_IN
    figure = Figure(figsize=(width, height * len(metrics) + 0.8), dpi=_DOTS_PER_IN, layout="constrained")
    panels = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
    for axes, metric in zip(panels, metrics, strict=True):
        rows = [row for row in summary.configurations if metric in row.metrics and parameter.name in row.params]
        _shade(axes, flat(summary, parameter, metric))
        _draw(axes, summary, parameter, [(row, row.metrics[metric]) for row in rows if not outcome(row)])
        _mark_stopped(axes, summary, parameter, metric)
        axes.set_ylabel(f"{metric} ({summary.mode})" if metric == summary.metric else metric, fontsize=_TEXT_PT)
        axes.tick_params(labelsize=_SMALL_PT)
    _name_x(panels[-1], parameter)
    named = panels[0].get_legend_handles_labels()
    figure.legend(*named, loc="outside upper center", ncols=2, frameon=False, fontsize=_SMALL_PT, columnspacing=1.2)
    return figure


def alt_text(summary: Summary, parameter: Swept) -> str:
    """What the figure shows, in words and numbers."""
    parts = []
    for metric in shown_metrics(summary):
        means = [row.metrics[metric].mean for row in summary.configurations if metric in row.metrics]
        parts.append(f"{metric} from {format_number(min(means))} to {format_number(max(means))}")
    return (
        f"{' and '.join(parts)} against {parameter.symbol}, one point per setting with its standard deviation over "
        f"seeds, those with the same value side by side; the default {format_value(parameter.default)} is marked."
    )


def caption(summary: Summary, parameter: Swept) -> str:
    """What stands below the figure: the parameter, and where the result is flat in it."""
    found = [flat(summary, parameter, metric) for metric in shown_metrics(summary)]
    words = " ".join(each.words for each in found if each is not None)
    return f"Sensitivity to {parameter.symbol} ({parameter.name}). {words}".strip()


def drawable(summary: Summary) -> bool:
    """Whether any setting has a number to draw."""
    return bool(shown_metrics(summary))


def png(figure: Figure) -> bytes:
    """The figure as PNG, without date and version."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw(axes: Axes, summary: Summary, parameter: Swept, points: Sequence[tuple[ConfigurationRow, Spread]]) -> None:
    """One panel. Settings with the same value stand side by side, or their bars would hide each other."""
    by_x: dict[float, list[tuple[ConfigurationRow, Spread]]] = {}
    for row, found in points:
        by_x.setdefault(parameter.x(row.params[parameter.name]), []).append((row, found))
    # Points that are moved aside by the same distance are drawn in one call: a call a point took half a minute.
    standard = _standard(summary)
    by_aside: dict[float, list[tuple[float, Spread]]] = {}
    label = "setting, ± std over seeds"
    for x, group in by_x.items():
        step_in = min(_STEP_IN, _GROUP_IN / len(group))
        for place, (row, found) in enumerate(group):
            # In a crowd to the next fiftieth of an inch, so that few calls draw it.
            aside_in = round((place - (len(group) - 1) / 2) * step_in / _FINEST_IN) * _FINEST_IN
            by_aside.setdefault(aside_in, []).append((x, found))
            if summary.best and row.number == summary.best.number:
                aside = axes.transData + ScaledTranslation(aside_in, 0, axes.figure.dpi_scale_trans)
                ring = axes.plot(x, found.mean, "o", color=ORANGE, fillstyle="none", markersize=12, transform=aside)
                ring[0].set(markeredgewidth=2, label="picked by the criterion", zorder=3)
            if row.number == standard:
                aside = axes.transData + ScaledTranslation(aside_in, 0, axes.figure.dpi_scale_trans)
                axes.plot(
                    x, found.mean, "s", color=GREEN, markersize=6, transform=aside, zorder=3, label="all defaults"
                )
    for aside_in, drawn in sorted(by_aside.items()):
        aside = axes.transData + ScaledTranslation(aside_in, 0, axes.figure.dpi_scale_trans)
        style: dict[str, Any] = {"color": BLUE, "markersize": 5, "capsize": 2, "elinewidth": 1, "transform": aside}
        means = [found.mean for _, found in drawn]
        # A single seed has no deviation: its point has no bar, which says so.
        bars = [math.nan if found.std is None else found.std for _, found in drawn]
        axes.errorbar([x for x, _ in drawn], means, bars, fmt="o", label=label, **style)
        label = ""
        # What is drawn aside is not looked at when the axes choose their limits.
        for x, found in drawn:
            bar = found.std or 0.0
            axes.update_datalim([(x, found.mean - bar), (x, found.mean + bar)])
    default = parameter.x(parameter.default)
    axes.axvline(default, color="0.4", linestyle="--", linewidth=1, label=f"default {format_value(parameter.default)}")
    axes.margins(x=0.08, y=0.08)
    axes.autoscale_view()
    axes.grid(alpha=0.3)


def _standard(summary: Summary) -> int:
    """The number of the setting that has the default of everything that is swept; -1 where none has."""
    parameters = swept(summary)
    for row in summary.configurations:
        if parameters and all(row.params.get(each.name) == each.default for each in parameters):
            return row.number
    return -1


def _mark_stopped(axes: Axes, summary: Summary, parameter: Swept, metric: str) -> None:
    """Settings of which a seed was pruned or collapsed: at the mean of the seeds that finished, or at the foot."""
    foot = axes.get_xaxis_transform()
    for word, marker in (("pruned", "v"), ("collapsed", "X")):
        label = f"a seed {word}"
        for row in summary.configurations:
            if outcome(row) != word or parameter.name not in row.params:
                continue
            x, found = parameter.x(row.params[parameter.name]), row.metrics.get(metric)
            y, place = (0.04, foot) if found is None else (found.mean, axes.transData)
            axes.plot(x, y, marker, color=GRAY, markersize=6, transform=place, label=label, clip_on=False, zorder=3)
            label = ""


def _shade(axes: Axes, found: Flat | None) -> None:
    """The flat region, half of the way to the values next to it; of words each one that belongs to it."""
    if found is None or not found.inside:
        return
    label = "flat: within one std of the best"
    if found.parameter.places:
        for index in found.inside:
            axes.axvspan(
                found.groups[index].low - 0.4, found.groups[index].low + 0.4, color=GREEN, alpha=0.15, lw=0, label=label
            )
            label = ""
        return
    groups, first, last = found.groups, found.inside[0], found.inside[-1]
    beyond = 0.03 * (groups[-1].high - groups[0].low)
    low = (groups[first - 1].high + groups[first].low) / 2 if first else groups[0].low - beyond
    high = (groups[last].high + groups[last + 1].low) / 2 if last + 1 < len(groups) else groups[-1].high + beyond
    # A logarithmic axis has no place at or below zero.
    low = max(low, groups[0].low / 2) if found.parameter.log else low
    axes.axvspan(low, high, color=GREEN, alpha=0.15, lw=0, label=label)


def _name_x(axes: Axes, parameter: Swept) -> None:
    if parameter.log:
        axes.set_xscale("log")
    if parameter.places:
        axes.set_xticks(range(len(parameter.places)), [format_value(place) for place in parameter.places])
        axes.set_xlim(-0.5, len(parameter.places) - 0.5)
    elif parameter.ticks:
        numbers = [parameter.x(tick) for tick in parameter.ticks]
        axes.set_xticks(numbers, [format_value(tick) for tick in parameter.ticks])
    elif not parameter.log:
        axes.locator_params(axis="x", nbins=5)
    unit = f" ({parameter.unit})" if parameter.unit else ""
    symbol = "" if parameter.symbol == parameter.name.partition(".")[2] else f"{parameter.symbol}: "
    name = f"{symbol}{parameter.name}"
    fits = len(name + unit) <= _LETTERS
    axes.set_xlabel(name + unit if fits else f"{name}\n{unit.strip()}", fontsize=_TEXT_PT)
