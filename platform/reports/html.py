"""The report as one HTML file: no network, light and dark, readable on a phone, tables that sort.

Only what stands in the ledger goes in: the same ledger gives the same bytes.
"""

import base64
from collections.abc import Sequence
from html import escape

from . import content
from .comparisons import studies
from .figures import ReportFigure
from .plots.plot import Section
from .summary import Summary
from .table import Cell, Table

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --soft: #5c5c5c; --paper: #ffffff; --line: #d8d8d8; --band: #f4f4f4; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --soft: #a6a6a6; --paper: #161616; --line: #3a3a3a; --band: #212121; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1rem; background: var(--paper); color: var(--ink);
       font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; margin: 0.5rem 0; } h2 { font-size: 1.2rem; margin: 2rem 0 0.5rem; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 0 1rem; }
dt, footer, figcaption, .note { color: var(--soft); } .note { font-size: 0.875rem; margin: 0.3rem 0; } dd { margin: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.7rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
td { white-space: nowrap; } td.text { white-space: normal; max-width: 32rem; }
th.number, td.number { text-align: right; }
tbody tr:hover { background: var(--band); }
th button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
.figures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(var(--least), 100%), 1fr)); }
.small { --least: 21rem; } .large { --least: 30rem; }
figure { margin: 0; } figcaption { font-size: 0.875rem; line-height: 1.35; }
img { display: block; max-width: 100%; height: auto; background: #ffffff; }
"""

_SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  table.querySelectorAll("th button").forEach((button, place) => button.addEventListener("click", () => {
    const head = button.parentElement, up = head.getAttribute("aria-sort") !== "ascending";
    table.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const numbers = head.classList.contains("number");
    const value = row => {
      const cell = row.cells[place];
      return numbers ? (cell.dataset.order === undefined ? NaN : Number(cell.dataset.order)) : cell.textContent;
    };
    const compare = (a, b) => {
      if (!numbers) return up ? a.localeCompare(b) : b.localeCompare(a);
      if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b);
      return up ? a - b : b - a;
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b))));
  }));
}
"""

AFTER_MAIN_TABLE = (Section.SENSITIVITY, Section.SEARCH)
AFTER_ALL_TABLES = (Section.ROWS, Section.BEST_TRIAL)
"""Where the sections of figures stand on the page; every section has its place in one of the two."""

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def report(summary: Summary, figures: Sequence[ReportFigure]) -> str:
    """The whole page with its figures in it: first the results, last how they came about.

    Raises:
        ValueError: the page has no place for the section of a figure.
    """
    _refuse_unplaced(figures)
    question = content.question(summary)
    main, *others = [_section(table) for table in content.all_tables(summary)] or [""]
    findings = "".join(f"<li>{escape(line)}</li>" for line in content.headline(summary))
    facts = [(label, text) for label, text in question if label] + content.about(summary)
    about = "".join(f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in facts)
    body = [
        f"<h1>{escape(summary.study)}</h1>",
        *(f"<p>{escape(text)}</p>" for label, text in question if not label),
        f"<h2>Results</h2>\n<ul>{findings}</ul>",
        main,
        *(_figures(section, figures, "small") for section in AFTER_MAIN_TABLE),
        *others,
        *(_figures(section, figures, "large") for section in AFTER_ALL_TABLES),
        f"<h2>About</h2>\n<dl>{about}</dl>",
        f"<footer><p>Cost: {escape(content.cost(summary))}</p></footer>",
    ]
    return _page(summary.study, "\n".join(part for part in body if part))


def side_by_side(summaries: Sequence[Summary]) -> str:
    """Several studies on one page."""
    title = " beside ".join(summary.study for summary in summaries)
    sentences = "".join(f"<li>{escape(line)}</li>" for line in studies.sentences(summaries))
    sections = [_section(table) for table in studies.tables(summaries)]
    return _page(title, "\n".join([f"<h1>{escape(title)}</h1>", f"<ul>{sentences}</ul>", *sections]))


def _section(table: Table) -> str:
    return f"<h2>{escape(table.title)}</h2>\n{as_html(table)}"


def as_html(table: Table) -> str:
    """One table that scrolls by itself where it is wider than the screen; a click on a head sorts by that column."""
    heads = "".join(
        f'<th scope="col"{_class("number" if right else "")}><button type="button">{escape(column)}</button></th>'
        for column, right in zip(table.columns, table.numeric, strict=True)
    )
    rows = "\n".join(
        "<tr>" + "".join(_cell(cell, right) for cell, right in zip(row, table.numeric, strict=True)) + "</tr>"
        for row in table.rows
    )
    label = escape(table.title, quote=True)
    return (
        f'<div class="wide" role="region" aria-label="{label}" tabindex="0"><table>\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
        + "".join(f'\n<p class="note">{escape(note)}</p>' for note in table.notes)
    )


def _cell(cell: Cell, right: bool) -> str:
    order = "" if cell.order is None else f' data-order="{cell.order!r}"'
    return f"<td{_class('number' if right else 'text')}{order}>{escape(cell.text)}</td>"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _refuse_unplaced(figures: Sequence[ReportFigure]) -> None:
    for figure in figures:
        if figure.section not in (*AFTER_MAIN_TABLE, *AFTER_ALL_TABLES):
            raise ValueError(
                f"{figure.path}: the page has no place for section {figure.section!r}. "
                "Put it into AFTER_MAIN_TABLE or AFTER_ALL_TABLES of html.py."
            )


def _figures(section: Section, figures: Sequence[ReportFigure], size: str) -> str:
    """The figures of one section under its heading; empty without any."""
    shown = "\n".join(_figure(each) for each in figures if each.section is section)
    if not shown:
        return ""
    return f'<h2>{escape(section.value)}</h2>\n<div class="figures {size}">\n{shown}\n</div>'


def _figure(figure: ReportFigure) -> str:
    data = base64.b64encode(figure.png).decode("ascii")
    alt = escape(figure.alt, quote=True)
    return (
        f'<figure><img alt="{alt}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(figure.title)}</figcaption></figure>"
    )


def _page(title: str, body: str) -> str:
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
{body}
<script>{_SCRIPT}</script>
</body>
</html>
"""
