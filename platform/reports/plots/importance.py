"""Bars of how important each parameter was, one for each metric and evaluator."""

from collections.abc import Iterator

from matplotlib.figure import Figure

from trainables.palette import BLUE, GRAY, GREEN, ORANGE

from ..parameters import searched_parameters
from ..summary import Summary
from .axes import SMALL_PT, TEXT_PT, TINY_PT, new_figure
from .plot import PlotFigure, Section

SECTION = Section.SEARCH


def applies(summary: Summary) -> bool:
    """Whether importances were computed; ``importance.with_importances`` needs enough configurations."""
    return bool(summary.importances)


def draw(summary: Summary) -> Iterator[PlotFigure]:
    title = "What mattered: importance of each parameter"
    yield PlotFigure("importance", title, alt_text(summary), figure(summary))


def figure(summary: Summary) -> Figure:
    drawn = new_figure(height_in=2.6)
    axes = drawn.subplots()
    parameters, num_bars = searched_parameters(summary), len(summary.importances)
    height = 0.8 / num_bars
    for place, importance in enumerate(summary.importances):
        y = [index + (place - (num_bars - 1) / 2) * height for index in range(len(parameters))]
        color = (BLUE, ORANGE, GREEN, GRAY)[place % 4]
        shares = [importance.shares.get(parameter.name, 0.0) for parameter in parameters]
        axes.barh(y, shares, height=height, color=color, label=f"{importance.metric}: {importance.evaluator}")
    axes.set_yticks(range(len(parameters)), [parameter.symbol for parameter in parameters], fontsize=TEXT_PT)
    axes.invert_yaxis()
    axes.set_xlabel("share of what is explained", fontsize=TEXT_PT)
    axes.set_xlim(0, 1)
    axes.tick_params(labelsize=SMALL_PT)
    axes.grid(axis="x", alpha=0.3)
    drawn.legend(loc="outside upper center", ncols=1 if num_bars < 3 else 2, frameon=False, fontsize=TINY_PT)
    return drawn


def alt_text(summary: Summary) -> str:
    """Every share in words and numbers, the largest first."""
    symbols = {parameter.name: parameter.symbol for parameter in searched_parameters(summary)}
    parts = []
    for importance in summary.importances:
        ordered = sorted(importance.shares.items(), key=lambda each: (-each[1], each[0]))
        shares = ", ".join(f"{symbols[name]} {share:.2f}" for name, share in ordered)
        parts.append(f"{importance.metric} by {importance.evaluator}: {shares}")
    return "Importances. " + "; ".join(parts) + "."
