"""Each fault and each bad input of tests/faults.md has tests, and they exist."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
ROWS = re.findall(r"^\| ([FBW]\d+) \|(.*)\|$", (TESTS / "faults.md").read_text(), re.MULTILINE)
PLANNED = [*(f"F{number}" for number in range(1, 27)), *(f"B{number}" for number in range(1, 14))]


def test_every_fault_has_a_row_and_rows_are_numbered_without_a_gap() -> None:
    names = [name for name, _ in ROWS]
    found = names[len(PLANNED) :]
    assert names[: len(PLANNED)] == PLANNED
    assert found == [f"W{number}" for number in range(1, len(found) + 1)]


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_every_test_of_a_row_exists(name: str, row: str) -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", row)
    assert named, f"{name} has no test"
    for path, function in named:
        assert f"\ndef {function}(" in (TESTS / path).read_text(), f"{path}::{function}"
