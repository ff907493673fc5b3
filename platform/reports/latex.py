"""The tables of a report for a paper: LaTeX with booktabs, one float per table."""

from collections.abc import Sequence

from ..study.errors import printable
from . import content
from .comparisons import studies
from .summary import Summary
from .table import Table

_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "–": "--", "−": "$-$", "×": r"$\times$",
    "α": r"$\alpha$", "β": r"$\beta$", "γ": r"$\gamma$", "δ": r"$\delta$", "η": r"$\eta$", "λ": r"$\lambda$",
    "μ": r"$\mu$", "σ": r"$\sigma$", "τ": r"$\tau$",
}  # fmt: skip


def report(summary: Summary) -> str:
    """Every table of the report, and no figure. A document needs ``\\usepackage{booktabs}`` for it."""
    facts = f"{summary.method} on {content.data_set(summary)}, {content.counts(summary)}"
    head = f"% {summary.study}: {facts}. Needs booktabs."
    return "\n\n".join([head, *(as_latex(table) for table in content.all_tables(summary))]) + "\n"


def side_by_side(summaries: Sequence[Summary]) -> str:
    """The tables of several studies beside each other."""
    head = f"% {', '.join(summary.study for summary in summaries)}. Needs booktabs."
    return "\n\n".join([head, *(as_latex(table) for table in studies.tables(summaries))]) + "\n"


def as_latex(table: Table) -> str:
    """One table; numbers to the right."""
    aligned = "".join("r" if right else "l" for right in table.numeric)
    lines = [" & ".join(escaped(column) for column in table.columns) + r" \\", r"\midrule"]
    lines += [" & ".join(escaped(cell.text) for cell in row) + r" \\" for row in table.rows]
    body = "\n    ".join([r"\toprule", *lines, r"\bottomrule"])
    notes = "".join(f"  \\par\\footnotesize {escaped(note)}\n" for note in table.notes)
    return (
        "\\begin{table}\n  \\centering\n"
        f"  \\caption{{{escaped(table.title)}}}\n"
        f"  \\begin{{tabular}}{{{aligned}}}\n    {body}\n  \\end{{tabular}}\n{notes}\\end{{table}}"
    )


def escaped(text: str) -> str:
    """Text in which LaTeX takes nothing for a command."""
    return "".join(_ESCAPES.get(letter, letter) for letter in printable(text))
