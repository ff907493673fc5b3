"""The end of a sweep as plain text: its results, where they are kept, and how to look at them."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from ..study.errors import printable
from . import content, pareto
from .assignments import files
from .comparisons import differences, published, studies
from .summary import Summary
from .table import Table

TOP = 10
"""Configurations shown at the end of a sweep; the report has them all."""

_LONGEST_CELL = 72


def end_of_sweep(summary: Summary, storage: Path, tracking_uri: str = "") -> str:
    """What is printed when a launch ends, and by ``python -m platform.report``.

    Args:
        storage: the folder of the ledger; the study's own folder lies in it.
        tracking_uri: where MLflow keeps the runs, without its password; "" is what the study file says.
    """
    parts = [f"{summary.study}: {summary.method} on {content.data_set(summary)}, {content.counts(summary)}"]
    if summary.ablation:
        tables = (content.ablation(summary), differences.differences(summary), published.table(summary))
        parts += [aligned(table) for table in tables if table.rows]
    elif summary.configurations:
        table = aligned(content.ranking(summary, by_param=False, limit=TOP))
        more = len(summary.configurations) - TOP
        parts.append(table + (f"\n... and {more} more in the report" if more > 0 else ""))
        if summary.ranking and len(summary.objectives) > 1:
            parts.append(aligned(pareto.table(summary)))
    parts.append("\n".join(content.headline(summary)))
    if summary.failures:
        parts.append(_failures(summary))
    parts.append("\n".join(_places(summary, storage, tracking_uri)))
    return _shown("\n\n".join(parts))


def side_by_side(summaries: Sequence[Summary]) -> str:
    """Several studies: their results, their differences, what each spent, and what keeps them from being compared."""
    parts = [aligned(table) for table in studies.tables(summaries)]
    return _shown("\n\n".join([*parts, "\n".join(studies.sentences(summaries))]))


def aligned(table: Table) -> str:
    """A table in columns: numbers to the right, text to the left."""
    texts = [table.columns, *([_short(cell.text) for cell in row] for row in table.rows)]
    widths = [max(len(row[place]) for row in texts) for place in range(len(table.columns))]
    lines = []
    for row in texts:
        padded = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, table.numeric, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    rule = "-" * max(map(len, lines))
    return "\n".join([table.title, lines[0], rule, *lines[1:], *table.notes])


def _failures(summary: Summary) -> str:
    table = content.failures(summary)
    few = Table(f"Failed: {len(table.rows)}", table.columns, table.rows[:TOP], table.numeric)
    more = len(table.rows) - TOP
    return aligned(few) + (f"\n... and {more} more in trials.csv" if more > 0 else "")


def _places(summary: Summary, storage: Path, tracking_uri: str) -> list[str]:
    folder = storage / summary.study
    places = [f"report   {folder / 'report.html'} (also report.md, report.tex, trials.csv, study.yaml, figures/)"]
    if (folder / files.GALLERY).exists():
        places.append(f"gallery  {folder / files.GALLERY} (also {files.CSV}, {files.PARQUET})")
    elsewhere = tracking_uri or summary.launch.resolved.get("tracking", {}).get("uri", "")
    if elsewhere:  # the UI command opens the storage's own database
        return [*places, f"MLflow   {elsewhere}"]
    look = ["python", "-m", "platform.ui", *([] if storage == Path("runs") else ["--storage", str(storage)])]
    return [*places, f"MLflow   {storage / 'mlflow.db'}", f"look     {shlex.join(look)}"]


def _shown(text: str) -> str:
    """Text in which nothing is taken for a command by the terminal: a study file's words could rename its window."""
    return "\n".join(map(printable, text.split("\n")))


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1] + "…"
