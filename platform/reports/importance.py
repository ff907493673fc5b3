"""How important each parameter of a search was, as a table. The caller hands in what computes the shares."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from trainables.settings import Plain

from ..study.resolved_types import Mode
from .parameters import searched_parameters
from .summary import Importance, Summary
from .table import MISSING, Cell, Table, as_table

LEAST_CONFIGURATIONS, PER_PARAMETER = 10, 4
"""Finished configurations below which importances would be noise: ten, and four for each parameter."""


class Evaluate(Protocol):
    """Computes importances; see ``search.importances``."""

    def __call__(
        self, search: Mapping[str, Mapping[str, Any]], points: Sequence[tuple[Mapping[str, Plain], float]], mode: Mode
    ) -> Mapping[str, Mapping[str, float]]:
        """Evaluator -> parameter -> share, from the domains and each configuration's (parameters, value)."""


def enough(num_configurations: int, num_parameters: int) -> bool:
    return num_parameters > 1 and num_configurations >= max(LEAST_CONFIGURATIONS, PER_PARAMETER * num_parameters)


def with_importances(summary: Summary, evaluate: Evaluate) -> Summary:
    """The summary with the importances for every metric that figures show.

    Configurations with a pruned or collapsed seed are left out. With too few others ``evaluate`` is not called, and
    the summary comes back unchanged.
    """
    if not enough(len(summary.comparable(summary.objective.metric)), len(summary.search)):
        return summary
    importances = []
    for metric in summary.figure_metrics:
        points = [(row.params, row.metrics[metric].mean) for row in summary.comparable(metric)]
        by_evaluator = evaluate(summary.search, points, summary.objective_of(metric).mode)
        importances += [Importance(metric, evaluator, shares) for evaluator, shares in by_evaluator.items()]
    return replace(summary, importances=tuple(importances))


def table(summary: Summary) -> Table:
    """One row per parameter; empty without importances."""
    columns = ("parameter", *(f"{each.metric}: {each.evaluator}" for each in summary.importances))
    rows = []
    for parameter in searched_parameters(summary) if summary.importances else ():
        shares = [each.shares.get(parameter.name) for each in summary.importances]
        cells = [Cell(MISSING) if share is None else Cell(f"{share:.2f}", share) for share in shares]
        rows.append((Cell(f"{parameter.symbol} ({parameter.name})"), *cells))
    number = len(summary.comparable(summary.objective.metric))
    note = (
        f"Shares that sum to one, from {number} finished settings (pruned and collapsed ones left out; at least "
        f"{LEAST_CONFIGURATIONS}, and {PER_PARAMETER} for each parameter, are needed). With so few they rank "
        "parameters and measure nothing."
    )
    return as_table("Importance of the parameters", columns, rows, [note] if rows else [])
