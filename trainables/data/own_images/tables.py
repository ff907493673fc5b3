"""Tables with the labels of image files: CSV with a file in each row, or Hugging Face's metadata.csv and .jsonl.

Columns are file (or file_name), label and perhaps split. Spaces around a cell do not count; a label that is empty or -1
is unknown.
"""

import codecs
import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..loaded import DataError

PARTS = ("train", "val", "valid", "validation", "test", "eval")
"""Values of the column split."""

METADATA = ("metadata.csv", "metadata.jsonl")
_FILE_COLUMNS = ("file", "file_name")
_BYTE_ORDERS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Row:
    """A row of a table. label: empty where unknown. split: empty where the table has no such column. line: from 1."""

    file: str
    label: str
    split: str
    line: int


def metadata_of(folder: Path) -> Path | None:
    """Hugging Face's table in a folder of images, if there is one."""
    return next((folder / name for name in METADATA if (folder / name).is_file()), None)


def rows(table: Path, *, needs_labels: bool = True) -> list[Row]:
    """Read a table.

    Args:
        needs_labels: whether the column label must be there.

    Raises:
        DataError: the table is missing, is no text of a known encoding, has not these columns or no rows, or a row
            lacks its label cell, has cells beyond the columns, names a file a second time or has an unknown split.
    """
    if not table.is_file():
        raise DataError(
            f"labels: {table.resolve()} is not a file. It is a CSV table with the columns file and label, or one of the"
            " words folders and none."
        )
    cells = _json_lines(table) if table.suffix == ".jsonl" else csv_rows(table)
    columns = [str(name) for name in cells[0][1]] if cells else []
    file_column = next((name for name in _FILE_COLUMNS if name in columns), None)
    if file_column is None or needs_labels and "label" not in columns or not cells[1:]:
        wanted = "the columns file and label" if needs_labels else "the column file_name"
        raise DataError(
            f"{table} must have {wanted} in its first line and images below, but has"
            f" {', '.join(columns) or 'no columns'} and {max(0, len(cells) - 1)} rows."
        )
    found, lines = [], dict[str, int]()
    for line, row in cells[1:]:
        each = _row(table, line, row, file_column, has_split="split" in columns and needs_labels)
        if each.file in lines:
            raise DataError(f"{table}: line {line} names {each.file!r} a second time. Name each image once.")
        lines[each.file] = line
        found.append(each)
    return found


def _row(table: Path, line: int, row: dict[str | None, Any], file_column: str, *, has_split: bool) -> Row:
    if row.get(None):
        raise DataError(
            f"{table}: line {line} has more cells than there are columns. Put cells that hold commas into quotes."
        )
    if row[file_column] in (None, "") or "label" in row and row["label"] is None:
        missing = file_column if row[file_column] in (None, "") else "label"
        raise DataError(
            f"{table}: line {line} has no cell for {missing}. Write one; a label that is not known is an empty cell."
        )
    split = str(row["split"] or "").strip() if has_split else ""
    if has_split and split not in PARTS:
        raise DataError(f"{table}: line {line}: split must be one of {', '.join(PARTS)}, but is {split!r}.")
    label = str(row.get("label", "")).strip()
    return Row(str(row[file_column]), "" if label == "-1" else label, split, line)


def csv_rows(table: Path, delimiter: str = ",") -> list[tuple[int, dict[str | None, Any]]]:
    """(line, cells by column) of each row of a CSV table, after (1, the columns); empty where there are no columns.

    A row has None for a cell that it lacks, and cells beyond the columns in a list under None.

    Raises:
        DataError: it is no text of a known encoding, or no CSV.
    """
    try:
        reader = csv.DictReader(io.StringIO(_text(table), newline=""), delimiter=delimiter)
        columns = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        found: list[tuple[int, dict[str | None, Any]]] = [(1, dict.fromkeys(columns))] if columns else []
        for row in reader:
            found.append((reader.line_num, dict(row)))
    except csv.Error as error:
        raise DataError(f"{table} is no CSV table ({error}). Write it again as comma-separated text.") from error
    return found


def _json_lines(table: Path) -> list[tuple[int, dict[str | None, Any]]]:
    """The same of a file with a JSON object in each line."""
    found: list[tuple[int, dict[str | None, Any]]] = []
    for line, text in enumerate(_text(table).splitlines(), start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError as error:
            raise DataError(f"{table}: line {line} is no JSON ({error}). Write one object in each line.") from error
        if not isinstance(row, dict):
            raise DataError(f"{table}: line {line} is no JSON object. Write one object in each line.")
        if not found:
            found.append((0, dict.fromkeys(row)))
        found.append((line, {"file_name": None, **row}))
    return found


def _text(table: Path) -> str:
    """The table's text: UTF-8, or UTF-16 where its first bytes say so.

    Raises:
        DataError: it is neither.
    """
    content = table.read_bytes()
    is_utf16 = content.startswith(_BYTE_ORDERS)
    try:
        return content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{table} is not UTF-8: byte {content[error.start]:#04x} in line {line} belongs to another encoding. Save"
            " it as UTF-8."
        ) from error
