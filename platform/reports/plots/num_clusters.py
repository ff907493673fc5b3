"""How many clusters: agreement between seeds, the same after merging, and the criterion, by number of clusters."""

import statistics
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trainables.palette import BLUE, GRAY, ORANGE

from ..num_clusters import words
from ..summary import Summary
from .axes import TEXT_PT, TINY_PT, add_legend, new_figure
from .plot import PlotFigure, Section

SECTION = Section.SENSITIVITY


def applies(summary: Summary) -> bool:
    """Whether the study searched the number of clusters and its clusterings were compared."""
    return any(each.agreements for each in summary.cluster_numbers)


def draw(summary: Summary) -> Iterator[PlotFigure]:
    title = "How many clusters: agreement between seeds, and the criterion, without labels"
    yield PlotFigure("num_clusters", title, words.alt_text(summary.cluster_numbers), figure(summary))


def figure(summary: Summary) -> Figure:
    """Every pair of seeds is a dot and their mean a line; below it the criterion, where it does not look at labels."""
    numbers = summary.cluster_numbers
    has_criterion = any(each.criterion for each in numbers)
    drawn = new_figure(height_in=1.7 * (1 + has_criterion) + 0.7)
    panels = drawn.subplots(1 + has_criterion, 1, sharex=True, squeeze=False)[:, 0]
    _draw_pairs(panels[0], [(each.number, each.agreements) for each in numbers], "clustered so", BLUE)
    merged = [(each.number, each.merged_agreements) for each in numbers]
    _draw_pairs(panels[0], merged, f"merged from {numbers[-1].number}", ORANGE)
    panels[0].set_ylabel("adjusted Rand between seeds", fontsize=TEXT_PT)
    if has_criterion:
        known = [(each.number, each.criterion) for each in numbers if each.criterion]
        means, stds = [spread.mean for _, spread in known], [spread.std or 0.0 for _, spread in known]
        panels[1].errorbar([number for number, _ in known], means, stds, fmt="o-", color=GRAY, capsize=2)
        panels[1].set_ylabel(f"{summary.objective.metric} ({summary.objective.mode})", fontsize=TEXT_PT)
    panels[-1].set_xlabel("clusters", fontsize=TEXT_PT)
    panels[-1].set_xticks([each.number for each in numbers])
    for axes in panels:
        axes.tick_params(labelsize=TINY_PT)
        axes.grid(alpha=0.3)
    add_legend(drawn, panels[0], TINY_PT)
    return drawn


def _draw_pairs(axes: Axes, pairs: Sequence[tuple[int, Sequence[float]]], label: str, color: str) -> None:
    known = [(number, values) for number, values in pairs if values]
    for number, values in known:
        axes.plot([number] * len(values), values, ".", color=color, alpha=0.4, markersize=4)
    means = [statistics.fmean(values) for _, values in known]
    axes.plot([number for number, _ in known], means, "o-", color=color, markersize=4, label=label)
