"""Letters that a terminal obeys, in what a study file says: no writer passes them on."""

from platform.reports.latex import escaped
from platform.reports.markdown import as_markdown
from platform.reports.table import Cell, as_table
from platform.reports.terminal import _shown, aligned
from platform.reports.writer import _csv_cell

import pytest

CONTROLS = {
    "ESC": "\x1b]0;mine\x07",
    "BEL": "\x07",
    "CSI": "\x9b31m",
    "right to left": "\u202e",
    "NUL": "\0",
    "BS": "\b",
}


@pytest.mark.parametrize("kind", CONTROLS)
def test_a_letter_that_a_terminal_obeys_is_spelled_out(kind: str) -> None:
    text = f"before{CONTROLS[kind]}after"
    table = as_table(text, ("row",), [(Cell(text),)])
    for written in (_shown(aligned(table)), as_markdown(table), escaped(text)):
        assert all(letter.isprintable() or letter == "\n" for letter in written)
        assert "before" in written and "after" in written


def test_greek_letters_and_lines_stay() -> None:
    assert _shown("δ = 0.9 – 0.95\nα ± β") == "δ = 0.9 – 0.95\nα ± β"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-cmd", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_spreadsheet_takes_no_text_for_a_formula(text: str) -> None:
    assert _csv_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", [-1.5, 3, "δ=0.9", "", None])
def test_other_values_stay(value: object) -> None:
    assert _csv_cell(value) == value
