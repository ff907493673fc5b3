"""Optimization history: the objective of every configuration in the order of the search, and the best so far."""

from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trainables.palette import BLUE, GRAY, ORANGE

from ...ledger.formatting import format_number
from ..parameters import searched_parameters
from ..summary import ConfigurationRow, Summary
from .axes import LEAST_CONFIGURATIONS, TEXT_PT, TINY_PT, add_legend, new_figure
from .plot import PlotFigure, Section

SECTION = Section.SEARCH


def applies(summary: Summary) -> bool:
    """Whether enough of a search has ended."""
    num_done = len(summary.comparable(summary.objective.metric))
    return bool(searched_parameters(summary)) and num_done >= LEAST_CONFIGURATIONS


def draw(summary: Summary) -> Iterator[PlotFigure]:
    title = "The search: every setting, and the best so far"
    yield PlotFigure("history", title, alt_text(summary), figure(summary))


def figure(summary: Summary) -> Figure:
    """The objective, and above it the accuracy of the same configurations where there is one.

    A configuration with a pruned or collapsed seed is a gray cross at the foot.
    """
    objective = summary.objective
    done = summary.comparable(objective.metric)
    accuracy, comparing = summary.accuracy, summary.comparable(summary.accuracy)
    has_accuracy = accuracy != objective.metric and all(row in comparing for row in done)
    drawn = new_figure(height_in=1.7 * (1 + has_accuracy) + 0.7)
    panels = drawn.subplots(1 + has_accuracy, 1, sharex=True, squeeze=False)[:, 0]
    lowest, best = panels[-1], _best_so_far(summary, done)
    _draw_metric(lowest, objective.metric, f"{objective.metric} ({objective.mode})", done, best)
    if has_accuracy:
        _draw_metric(panels[0], accuracy, accuracy, done, best)
    _mark_excluded(lowest, summary)
    lowest.set_xlabel("setting, in the order of the search", fontsize=TEXT_PT)
    lowest.xaxis.get_major_locator().set_params(integer=True)
    add_legend(drawn, lowest, TINY_PT)
    return drawn


def alt_text(summary: Summary) -> str:
    """How many configurations there were, and the best one."""
    metric = summary.objective.metric
    done = summary.comparable(metric)
    best = _best_so_far(summary, done)[-1]
    return (
        f"{metric} of {len(done)} settings in the order of the search; the best, "
        f"{format_number(best.metrics[metric].mean)}, was number {best.number + 1}."
    )


def _draw_metric(
    axes: Axes, metric: str, label: str, done: Sequence[ConfigurationRow], best: Sequence[ConfigurationRow]
) -> None:
    numbers = [row.number + 1 for row in done]
    axes.plot(numbers, [row.metrics[metric].mean for row in done], "o", color=BLUE, markersize=4, label="setting")
    best_means = [row.metrics[metric].mean for row in best]
    axes.step(numbers, best_means, where="post", color=ORANGE, label="best so far by the criterion")
    axes.set_ylabel(label, fontsize=TEXT_PT)
    axes.tick_params(labelsize=TINY_PT)
    axes.grid(alpha=0.3)


def _mark_excluded(axes: Axes, summary: Summary) -> None:
    numbers = [row.number + 1 for row in summary.configurations if row.exclusion]
    if numbers:
        heights, foot = [0.04] * len(numbers), axes.get_xaxis_transform()
        label = "a seed pruned or collapsed"
        axes.plot(numbers, heights, "X", color=GRAY, markersize=6, transform=foot, label=label)


def _best_so_far(summary: Summary, rows: Sequence[ConfigurationRow]) -> list[ConfigurationRow]:
    """For each row the best of it and those before it; of equal ones the first."""
    metric, sign = summary.objective.metric, summary.objective.sign
    best: list[ConfigurationRow] = []
    for row in rows:
        is_better = not best or sign * row.metrics[metric].mean < sign * best[-1].metrics[metric].mean
        best.append(row if is_better else best[-1])
    return best
