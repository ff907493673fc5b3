"""The parameters that a study swept: where a value stands on an axis, and settings in groups of like values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables import settings

from ..ledger import stage_metadata
from ..ledger.formatting import format_value
from .summary import ConfigurationRow, Summary

MOST_VALUES = 7
"""A parameter that took more values than this is cut into groups of neighboring ones."""
_GROUPS, _LEAST = 5, 2
"""So many groups at most, with so many settings each at least."""


@dataclass(frozen=True)
class Swept:
    """A swept parameter. name: full. ticks: the options of a choice, empty for a range. log: drawn in the logarithm."""

    name: str
    symbol: str
    unit: str
    default: settings.Plain
    ticks: tuple[settings.Plain, ...]
    log: bool

    @property
    def places(self) -> tuple[settings.Plain, ...]:
        """The options, where they are words and not numbers and stand side by side; else empty."""
        return self.ticks if any(isinstance(tick, bool | str) for tick in self.ticks) else ()

    def x(self, value: Any) -> float:
        """Where a value stands; NaN, and so nowhere, for a word that is not among the options."""
        if self.places:
            return float(self.places.index(value)) if value in self.places else math.nan
        return float(value)

    def holds(self, row: ConfigurationRow) -> bool:
        """Whether a setting has a place on the axis."""
        return self.name in row.params and math.isfinite(self.x(row.params[self.name]))


@dataclass(frozen=True)
class Group:
    """Settings with one value of a parameter, or with values next to each other. low, high: on the axis."""

    low: float
    high: float
    label: str
    rows: tuple[ConfigurationRow, ...]


def swept(summary: Summary) -> list[Swept]:
    """The swept parameters, in the order of the pipeline."""
    found = []
    for word in stage_metadata.of(summary.method, summary.pretext, summary.probes).words:
        domain = summary.search.get(word.name)
        if domain is not None:
            ticks, log = tuple(domain.get("choice", ())), "loguniform" in domain or bool(domain.get("log"))
            found.append(Swept(word.name, word.symbol, word.unit, word.default, ticks, log))
    return found


def grouped(rows: Sequence[ConfigurationRow], parameter: Swept) -> list[Group]:
    """The settings that have the parameter, in the order of its axis.

    One group for each value, or, of more than MOST_VALUES values, up to five groups of about equally many settings.
    """
    placed = sorted(
        ((parameter.x(row.params[parameter.name]), row.number, row) for row in rows if parameter.holds(row)),
        key=lambda each: each[:2],
    )
    values = sorted({x for x, _, _ in placed})
    if len(values) <= MOST_VALUES:
        parts = [[each for each in placed if each[0] == value] for value in values]
    else:
        number = min(_GROUPS, len(placed) // _LEAST)
        parts = [[placed[index] for index in chosen] for chosen in np.array_split(np.arange(len(placed)), number)]
    return [_group(parameter, part) for part in parts]


def _group(parameter: Swept, part: Sequence[tuple[float, int, ConfigurationRow]]) -> Group:
    first, last = (part[place][2].params[parameter.name] for place in (0, -1))
    label = format_value(first) if first == last else f"{format_value(first)} to {format_value(last)}"
    return Group(part[0][0], part[-1][0], label, tuple(row for _, _, row in part))
