"""The report as Markdown. Only what stands in the ledger goes in: the same ledger gives the same bytes."""

from collections.abc import Sequence
from dataclasses import replace

from . import comparison, content
from .figures import Picture
from .summary import Summary
from .table import Table


def report(summary: Summary, pictures: Sequence[Picture]) -> str:
    """The whole report. ``pictures`` are linked by their paths, relative to the report."""
    parts = [f"# {_inline(summary.study)}"]
    asked = content.question(summary)
    parts += [_inline(text) for label, text in asked if not label]
    facts = [(label, text) for label, text in asked if label] + content.about(summary)
    parts.append("\n".join(f"- {label}: {_inline(text)}" for label, text in facts))
    parts.append("\n".join(f"- {_inline(line)}" for line in content.headline(summary)))
    parts += [f"## {_inline(table.title)}\n\n{as_markdown(table)}" for table in content.all_tables(summary)]
    if pictures:
        parts.append("## Figures\n\n" + "\n\n".join(_picture(each) for each in pictures))
    parts.append(f"Cost: {content.cost(summary)}")
    return "\n\n".join(parts) + "\n"


def note(summary: Summary, rows: int = 10) -> str:
    """The report in short: what was found, and the first ``rows`` rows of its first table. For a tracker's run."""
    parts = ["\n".join(f"- {_inline(line)}" for line in content.headline(summary))]
    for table in content.all_tables(summary)[:1]:
        few = replace(table, rows=table.rows[:rows])
        parts.append(as_markdown(few))
    return "\n\n".join(parts) + "\n"


def side_by_side(summaries: Sequence[Summary]) -> str:
    """Several studies in one document."""
    parts = ["# " + " beside ".join(_inline(summary.study) for summary in summaries)]
    parts.append("\n".join(f"- {_inline(line)}" for line in comparison.sentences(summaries)))
    parts += [f"## {_inline(table.title)}\n\n{as_markdown(table)}" for table in comparison.tables(summaries)]
    return "\n\n".join(parts) + "\n"


def as_markdown(table: Table) -> str:
    """One table; numbers are aligned to the right."""
    lines = [tuple(map(_inline, table.columns)), tuple("---:" if right else "---" for right in table.numeric)]
    lines += [tuple(_inline(cell.text) for cell in row) for row in table.rows]
    head, *rest = ["| " + " | ".join(line) + " |" for line in lines]
    notes = "".join(f"\n\n{_inline(note)}" for note in table.notes)
    return "\n".join([head, *rest]) + notes


def _picture(picture: Picture) -> str:
    return f"![{_inline(picture.alt)}]({picture.path})\n\n{_inline(picture.title)}"


def _inline(text: str) -> str:
    """Text on one line in which nothing is taken for markup."""
    for letter in "\\`*[]<>|":
        text = text.replace(letter, "\\" + letter)
    return " ".join(text.split())
