"""The parameters that a study searched: their axes, and configurations in groups of like values."""

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
"""A parameter with more values than this is cut into groups of neighboring ones."""
_MOST_GROUPS, _LEAST_ROWS = 5, 2
"""So many groups at most, with so many configurations each at least."""


@dataclass(frozen=True)
class Parameter:
    """A searched parameter. name: full. options: of a choice, empty for a range. log: its axis is logarithmic."""

    name: str
    symbol: str
    unit: str
    default: settings.Plain
    options: tuple[settings.Plain, ...]
    log: bool

    @property
    def categories(self) -> tuple[settings.Plain, ...]:
        """The options of a categorical parameter (words or booleans), which stand side by side; else empty."""
        return self.options if any(isinstance(option, bool | str) for option in self.options) else ()

    def position(self, value: Any) -> float:
        """Where a value stands on the axis; NaN, and so nowhere, for a word that is not among the options."""
        if self.categories:
            return float(self.categories.index(value)) if value in self.categories else math.nan
        return float(value)

    def has_position(self, row: ConfigurationRow) -> bool:
        """Whether a configuration stands on the axis."""
        return self.name in row.params and math.isfinite(self.position(row.params[self.name]))


@dataclass(frozen=True)
class Group:
    """Configurations with one value of a parameter, or with neighboring ones. low, high: positions on the axis."""

    low: float
    high: float
    label: str
    rows: tuple[ConfigurationRow, ...]


def searched_parameters(summary: Summary) -> list[Parameter]:
    """The parameters with a domain, in the order of the pipeline."""
    parameters = []
    for word in stage_metadata.of(summary.method, summary.pretext, summary.probes).settings:
        domain = summary.search.get(word.name)
        if domain is not None:
            options, log = tuple(domain.get("choice", ())), "loguniform" in domain or bool(domain.get("log"))
            parameters.append(Parameter(word.name, word.symbol, word.unit, word.default, options, log))
    return parameters


def shared_parameters(summary: Summary) -> list[Parameter]:
    """The searched parameters that every configuration with a result has."""
    rows = [row for row in summary.configurations if row.metrics]
    return [each for each in searched_parameters(summary) if all(each.has_position(row) for row in rows)]


def grouped(rows: Sequence[ConfigurationRow], parameter: Parameter) -> list[Group]:
    """The configurations that have the parameter, in groups along its axis.

    Returns:
        One group for each value; of more than MOST_VALUES values up to five groups of about equally many rows.
    """
    placed = sorted(
        (
            (parameter.position(row.params[parameter.name]), row.number, row)
            for row in rows
            if parameter.has_position(row)
        ),
        key=lambda each: each[:2],
    )
    values = sorted({position for position, _, _ in placed})
    if len(values) <= MOST_VALUES:
        parts = [[each for each in placed if each[0] == value] for value in values]
    else:
        num_groups = min(_MOST_GROUPS, len(placed) // _LEAST_ROWS)
        parts = [[placed[index] for index in indices] for indices in np.array_split(np.arange(len(placed)), num_groups)]
    return [_group(parameter, part) for part in parts]


def _group(parameter: Parameter, part: Sequence[tuple[float, int, ConfigurationRow]]) -> Group:
    first, last = (part[index][2].params[parameter.name] for index in (0, -1))
    label = format_value(first) if first == last else f"{format_value(first)} to {format_value(last)}"
    return Group(part[0][0], part[-1][0], label, tuple(row for _, _, row in part))
