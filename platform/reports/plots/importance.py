"""Which parameters mattered in a search: Optuna's importances, for the objective and for the accuracy."""

from functools import lru_cache

from matplotlib.figure import Figure

from trainables.palette import BLUE, GRAY, GREEN, ORANGE

from ..flat_regions import shown_metrics
from ..parameters import swept
from ..summary import Summary
from ..table import MISSING, Cell, Table, as_table
from .landscape import whole

_SIZE_IN, _DOTS_PER_IN, _TEXT_PT = (4.0, 2.6), 180, 9

Found = dict[tuple[str, str], dict[str, float]]
"""(metric, evaluator) -> parameter -> share."""


LEAST_SETTINGS, PER_PARAMETER = 10, 4
"""Finished settings below which importances would be noise: ten, and four for each parameter."""


def enough(num_settings: int, num_parameters: int) -> bool:
    return num_parameters > 1 and num_settings >= max(LEAST_SETTINGS, PER_PARAMETER * num_parameters)


@lru_cache(maxsize=1)
def found(summary: Summary) -> Found:
    """Of every metric that is shown; empty for too few finished settings. Pruned and collapsed ones are kept out."""
    if not enough(len(whole(summary, summary.metric)), len(summary.search)):
        return {}
    from ...search.importances import importances  # Optuna and its forest, which small reports go without

    told: Found = {}
    for metric in shown_metrics(summary):
        points = [(row.params, row.metrics[metric].mean) for row in whole(summary, metric)]
        mode = summary.mode if metric == summary.metric else "max"
        for evaluator, shares in importances(summary.search, points, mode).items():
            told[metric, evaluator] = shares
    return told


def table(summary: Summary) -> Table:
    """One row per parameter; empty where nothing was found."""
    told = found(summary)
    columns = ("parameter", *(f"{metric}: {evaluator}" for metric, evaluator in told))
    rows = []
    for parameter in swept(summary) if told else ():
        shares = [each.get(parameter.name) for each in told.values()]
        cells = [Cell(MISSING) if share is None else Cell(f"{share:.2f}", share) for share in shares]
        rows.append((Cell(f"{parameter.symbol} ({parameter.name})"), *cells))
    number = len(whole(summary, summary.metric))
    note = (
        f"Shares that sum to one, from {number} finished settings (pruned and collapsed ones left out; at least "
        f"{LEAST_SETTINGS}, and {PER_PARAMETER} for each parameter, are needed). With so few they rank parameters and "
        "measure nothing."
    )
    return as_table("Importance of the parameters", columns, rows, [note] if rows else [])


def figure(summary: Summary) -> Figure:
    """Bars by parameter, one for each metric and evaluator; there must be some."""
    told = found(summary)
    drawn = Figure(figsize=_SIZE_IN, dpi=_DOTS_PER_IN, layout="constrained")
    axes = drawn.subplots()
    parameters = swept(summary)
    height = 0.8 / len(told)
    for place, ((metric, evaluator), shares) in enumerate(told.items()):
        y = [index + (place - (len(told) - 1) / 2) * height for index in range(len(parameters))]
        color = (BLUE, ORANGE, GREEN, GRAY)[place % 4]
        values = [shares.get(parameter.name, 0.0) for parameter in parameters]
        axes.barh(y, values, height=height, color=color, label=f"{metric}: {evaluator}")
    axes.set_yticks(range(len(parameters)), [parameter.symbol for parameter in parameters], fontsize=_TEXT_PT)
    axes.invert_yaxis()
    axes.set_xlabel("share of what is explained", fontsize=_TEXT_PT)
    axes.set_xlim(0, 1)
    axes.tick_params(labelsize=_TEXT_PT - 1)
    axes.grid(axis="x", alpha=0.3)
    drawn.legend(loc="outside upper center", ncols=1 if len(told) < 3 else 2, frameon=False, fontsize=_TEXT_PT - 2)
    return drawn


def alt_text(summary: Summary) -> str:
    """What the bars show, in words and numbers."""
    symbols = {parameter.name: parameter.symbol for parameter in swept(summary)}
    parts = []
    for (metric, evaluator), shares in found(summary).items():
        ordered = sorted(shares.items(), key=lambda each: (-each[1], each[0]))
        parts.append(
            f"{metric} by {evaluator}: " + ", ".join(f"{symbols[name]} {share:.2f}" for name, share in ordered)
        )
    return "Importances. " + "; ".join(parts) + "."
