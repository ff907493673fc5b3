"""How sensitive a study is to each parameter it swept; drawn without pyplot, and equal numbers give equal PNG bytes."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from trainables import checks, pipeline
from trainables.figures import BLUE, ORANGE

from ..run.labels import format_number, format_value
from .tables import ACCURACY, SettingRow, Spread, Summary

_PANEL_SIZE_IN, _DOTS_PER_IN = (4.0, 1.7), 180
"""Three stand side by side in a report, where an inch is about 90 pixels of the page."""
_TEXT_PT, _SMALL_PT = 9, 8
_LETTERS = 48
"""Of a name below an axis; a unit that makes it longer stands on a line of its own."""
_STEP_IN, _GROUP_IN = 0.08, 0.55
"""Distance of settings with the same value, and the width that all of them may take."""


@dataclass(frozen=True)
class Swept:
    """A swept parameter. name: full. ticks: the options of a choice, empty for a range. log: drawn in the logarithm."""

    name: str
    symbol: str
    unit: str
    default: checks.Plain
    ticks: tuple[checks.Plain, ...]
    log: bool

    @property
    def places(self) -> tuple[checks.Plain, ...]:
        """The options, where they are words and not numbers and stand side by side; else empty."""
        return self.ticks if any(isinstance(tick, bool | str) for tick in self.ticks) else ()


def swept(summary: Summary) -> list[Swept]:
    """The swept parameters, in the order of the pipeline."""
    found = []
    for slot, stage in pipeline.stages(summary.method, summary.pretext, summary.probes).items():
        defaults = stage.Config()
        for name, rule in checks.rules(stage.Config).items():
            domain = summary.search.get(f"{slot}.{name}")
            if domain is not None:
                ticks, log = tuple(domain.get("choice", ())), "loguniform" in domain or bool(domain.get("log"))
                default = getattr(defaults, name)
                found.append(Swept(f"{slot}.{name}", rule.symbol or name, rule.unit, default, ticks, log))
    return found


def sensitivity(summary: Summary, parameter: Swept) -> Figure:
    """Accuracy (where there is one) and the objective against one parameter.

    Every setting is a point with its standard deviation over seeds; the method's default is a dashed line, the setting
    that the criterion picks is ringed.
    """
    metrics = _panels(summary)
    width, height = _PANEL_SIZE_IN
    figure = Figure(figsize=(width, height * len(metrics) + 0.8), dpi=_DOTS_PER_IN, layout="constrained")
    panels = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
    for axes, metric in zip(panels, metrics, strict=True):
        rows = [row for row in summary.settings if metric in row.metrics and parameter.name in row.params]
        _draw(axes, summary, parameter, [(row, row.metrics[metric]) for row in rows])
        axes.set_ylabel(f"{metric} ({summary.mode})" if metric == summary.metric else metric, fontsize=_TEXT_PT)
        axes.tick_params(labelsize=_SMALL_PT)
    _name_x(panels[-1], parameter)
    named = panels[0].get_legend_handles_labels()
    figure.legend(*named, loc="outside upper center", ncols=2, frameon=False, fontsize=_SMALL_PT, columnspacing=1.2)
    return figure


def alt_text(summary: Summary, parameter: Swept) -> str:
    """What the figure shows, in words and numbers."""
    parts = []
    for metric in _panels(summary):
        means = [row.metrics[metric].mean for row in summary.settings if metric in row.metrics]
        parts.append(f"{metric} from {format_number(min(means))} to {format_number(max(means))}")
    return (
        f"{' and '.join(parts)} against {parameter.symbol}, one point per setting with its standard deviation over "
        f"seeds, those with the same value side by side; the default {format_value(parameter.default)} is marked."
    )


def drawable(summary: Summary) -> bool:
    """Whether any setting has a number to draw."""
    return bool(_panels(summary))


def png(figure: Figure) -> bytes:
    """The figure as PNG, without date and version."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _panels(summary: Summary) -> list[str]:
    """Only metrics that every setting with a result has: a point must not be in one panel and missing in the other."""
    rows = [row for row in summary.settings if row.metrics]
    return [
        metric
        for metric in dict.fromkeys((ACCURACY, summary.metric))
        if rows and all(metric in row.metrics for row in rows)
    ]


def _draw(axes: Axes, summary: Summary, parameter: Swept, points: Sequence[tuple[SettingRow, Spread]]) -> None:
    """One panel. Settings with the same value stand side by side, or their bars would hide each other."""
    by_x: dict[float, list[tuple[SettingRow, Spread]]] = {}
    for row, found in points:
        by_x.setdefault(_x(parameter, row.params[parameter.name]), []).append((row, found))
    # Points that are moved aside by the same distance are drawn in one call: a call a point took half a minute.
    by_aside: dict[float, list[tuple[float, Spread]]] = {}
    label = "setting, ± std over seeds"
    for x, group in by_x.items():
        step_in = min(_STEP_IN, _GROUP_IN / len(group))
        for place, (row, found) in enumerate(group):
            aside_in = (place - (len(group) - 1) / 2) * step_in
            by_aside.setdefault(aside_in, []).append((x, found))
            if summary.best and row.number == summary.best.number:
                aside = axes.transData + ScaledTranslation(aside_in, 0, axes.figure.dpi_scale_trans)
                ring = axes.plot(x, found.mean, "o", color=ORANGE, fillstyle="none", markersize=12, transform=aside)
                ring[0].set(markeredgewidth=2, label="picked by the criterion", zorder=3)
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
    default = _x(parameter, parameter.default)
    axes.axvline(default, color="0.4", linestyle="--", linewidth=1, label=f"default {format_value(parameter.default)}")
    axes.margins(x=0.08, y=0.08)
    axes.autoscale_view()
    axes.grid(alpha=0.3)


def _name_x(axes: Axes, parameter: Swept) -> None:
    if parameter.log:
        axes.set_xscale("log")
    if parameter.places:
        axes.set_xticks(range(len(parameter.places)), [format_value(place) for place in parameter.places])
        axes.set_xlim(-0.5, len(parameter.places) - 0.5)
    elif parameter.ticks:
        numbers = [_x(parameter, tick) for tick in parameter.ticks]
        axes.set_xticks(numbers, [format_value(tick) for tick in parameter.ticks])
    elif not parameter.log:
        axes.locator_params(axis="x", nbins=5)
    unit = f" ({parameter.unit})" if parameter.unit else ""
    symbol = "" if parameter.symbol == parameter.name.partition(".")[2] else f"{parameter.symbol}: "
    name = f"{symbol}{parameter.name}"
    fits = len(name + unit) <= _LETTERS
    axes.set_xlabel(name + unit if fits else f"{name}\n{unit.strip()}", fontsize=_TEXT_PT)


def _x(parameter: Swept, value: Any) -> float:
    """Where a value stands; NaN, and so nowhere, for a word that is not among the options."""
    if parameter.places:
        return float(parameter.places.index(value)) if value in parameter.places else math.nan
    return float(value)
