"""A table of text, whatever it is then written into."""

from collections.abc import Iterable
from dataclasses import dataclass

MISSING = "–"


@dataclass(frozen=True)
class Cell:
    """A table cell. order: what a sorted column goes by, None for text and for a missing number."""

    text: str
    order: float | None = None


@dataclass(frozen=True)
class Table:
    """A titled table. numeric: per column, whether it holds numbers. notes: sentences below it, one line each."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: tuple[bool, ...]
    notes: tuple[str, ...] = ()


def as_table(
    title: str, columns: tuple[str, ...], rows: Iterable[tuple[Cell, ...]], notes: Iterable[str] = ()
) -> Table:
    """A table in which a column counts as numeric if it has numbers and otherwise only missing ones."""
    rows = tuple(rows)
    numeric = []
    for place in range(len(columns)):
        cells = [row[place] for row in rows]
        numbers = [cell for cell in cells if cell.order is not None]
        numeric.append(bool(numbers) and all(cell.order is not None or cell.text == MISSING for cell in cells))
    return Table(title, columns, rows, tuple(numeric), tuple(notes))
