"""Configurations in order: by one objective, or by Pareto rank in several."""

from collections.abc import Iterable, Sequence

from ..ledger.aggregate import Objective, Spread
from .summary import ConfigurationRow


def ranked(
    rows: Iterable[tuple[ConfigurationRow, Spread | None]], objective: Objective
) -> tuple[ConfigurationRow, ...]:
    """The configurations that have a value, best mean first; of equal ones the lower number first."""
    with_value = [(row, value.mean) for row, value in rows if value is not None]
    ordered = sorted(with_value, key=lambda pair: (objective.sign * pair[1], pair[0].number))
    return tuple(row for row, _ in ordered)


def fronts(rows: Sequence[ConfigurationRow], objectives: Sequence[Objective]) -> list[list[ConfigurationRow]]:
    """Pareto fronts of the rows that have every objective: no row of the first one is dominated.

    A row dominates another if no mean of it is worse and at least one is better.

    Returns:
        Front by front; each in the order of ``rows``.
    """
    remaining = [row for row in rows if all(objective.metric in row.metrics for objective in objectives)]
    costs = {
        row.number: [objective.sign * row.metrics[objective.metric].mean for objective in objectives]
        for row in remaining
    }
    result = []
    while remaining:
        front = [
            row
            for row in remaining
            if not any(_dominates(costs[other.number], costs[row.number]) for other in remaining)
        ]
        result.append(front)
        numbers = {row.number for row in front}
        remaining = [row for row in remaining if row.number not in numbers]
    return result


def by_front(rows: Sequence[ConfigurationRow], objectives: Sequence[Objective]) -> tuple[ConfigurationRow, ...]:
    """Ranked rows front by front; within a front they keep their order."""
    return tuple(row for front in fronts(rows, objectives) for row in front)


def _dominates(costs: Sequence[float], others: Sequence[float]) -> bool:
    pairs = list(zip(costs, others, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
