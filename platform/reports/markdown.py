"""The report as Markdown. Only what stands in the ledger goes in: the same ledger gives the same bytes."""

from collections.abc import Sequence
from dataclasses import replace

from ..study.errors import printable
from . import content
from .comparisons import studies
from .figures import ReportFigure
from .summary import Summary
from .table import Table


def report(summary: Summary, figures: Sequence[ReportFigure]) -> str:
    """The whole report. Figures of every section stand under one heading, linked by their paths."""
    parts = [f"# {_inline(summary.study)}"]
    question = content.question(summary)
    parts += [_inline(text) for label, text in question if not label]
    facts = [(label, text) for label, text in question if label] + content.about(summary)
    parts.append("\n".join(f"- {label}: {_inline(text)}" for label, text in facts))
    parts.append("\n".join(f"- {_inline(line)}" for line in content.headline(summary)))
    parts += [f"## {_inline(table.title)}\n\n{as_markdown(table)}" for table in content.all_tables(summary)]
    if figures:
        parts.append("## Figures\n\n" + "\n\n".join(_figure(each) for each in figures))
    parts.append(f"Cost: {content.cost(summary)}")
    return "\n\n".join(parts) + "\n"


def note(summary: Summary, rows: int = 10) -> str:
    """The report in short, for a tracker's run: its first sentences, and ``rows`` rows of its first table."""
    parts = ["\n".join(f"- {_inline(line)}" for line in content.headline(summary))]
    for table in content.all_tables(summary)[:1]:
        parts.append(as_markdown(replace(table, rows=table.rows[:rows])))
    return "\n\n".join(parts) + "\n"


def side_by_side(summaries: Sequence[Summary]) -> str:
    """Several studies in one document."""
    parts = ["# " + " beside ".join(_inline(summary.study) for summary in summaries)]
    parts.append("\n".join(f"- {_inline(line)}" for line in studies.sentences(summaries)))
    parts += [f"## {_inline(table.title)}\n\n{as_markdown(table)}" for table in studies.tables(summaries)]
    return "\n\n".join(parts) + "\n"


def as_markdown(table: Table) -> str:
    """One table; numbers are aligned to the right."""
    lines = [tuple(map(_inline, table.columns)), tuple("---:" if right else "---" for right in table.numeric)]
    lines += [tuple(_inline(cell.text) for cell in row) for row in table.rows]
    head, *rest = ["| " + " | ".join(line) + " |" for line in lines]
    notes = "".join(f"\n\n{_inline(note)}" for note in table.notes)
    return "\n".join([head, *rest]) + notes


def _figure(figure: ReportFigure) -> str:
    return f"![{_inline(figure.alt)}]({figure.path})\n\n{_inline(figure.title)}"


def _inline(text: str) -> str:
    """Text on one line in which nothing is taken for markup."""
    for letter in "\\`*[]<>|":
        text = text.replace(letter, "\\" + letter)
    return printable(" ".join(text.split()))
