"""The table of differences to an ablation's first row."""

from platform.reports import content
from platform.reports.comparisons import differences
from platform.reports.summarize import summarize
from typing import Any

import pytest


def shown(book: Any, rows: dict[str, dict[int, Any]], **changes: Any) -> tuple[Any, Any]:
    made = book(ablate={name: {} for name in rows}, seeds=[0, 1, 2], **changes)
    for number, (name, cells) in enumerate(rows.items()):
        made.configuration(number, cells, variant=name)
    summary = summarize(made.ledger, made.launch.id)
    return summary, differences.differences(summary)


def acc(*values: float, name: str = "acc") -> dict[int, dict[str, float]]:
    return {seed: {"spc/selection_loss": -value, name: value} for seed, value in enumerate(values)}


def test_each_row_stands_against_the_first(book: Any) -> None:
    rows = {"base": acc(0.80, 0.85, 0.90), "better": acc(0.90, 0.951, 0.999), "same": acc(0.81, 0.83, 0.91)}
    _, table = shown(book, rows)
    assert table.title == "Differences in acc to base, paired by seed"
    texts = [tuple(cell.text for cell in row) for row in table.rows]
    assert texts[0][:3] == ("better", "3", "+0.100") and texts[0][-1] == "better"
    assert texts[1][:3] == ("same", "3", "+0.000") and "no evidence" in texts[1][-1]
    # Three pairs of one sign: one pattern of four is as far out, on either side.
    assert texts[0][5] == "0.250"


def test_a_failed_seed_is_left_out_of_its_pair_and_never_zero(book: Any) -> None:
    broken = acc(0.9, 0.9, 0.9)
    _, table = shown(book, {"base": acc(0.8, 0.8, 0.7), "half": {0: broken[0], 1: "Diverged: NaN", 2: broken[2]}})
    row = table.rows[0]
    assert row[1].text == "2" and row[2].text == "+0.150" and "only 2 seeds" in row[-1].text


def test_rows_without_a_seed_in_common_say_so(book: Any) -> None:
    _, table = shown(book, {"base": acc(0.8), "other": {1: acc(0.9)[0]}})
    assert [cell.text for cell in table.rows[0]][-1] == "no seed in common"


def test_without_accuracy_the_objective_decides_and_less_is_better(book: Any) -> None:
    rows = {"base": acc(0.80, 0.85, 0.90, name="spc/x"), "lower": acc(0.90, 0.951, 0.999, name="spc/x")}
    _, table = shown(book, rows)
    assert "spc/selection_loss" in table.title
    assert table.rows[0][2].text == "-0.100" and table.rows[0][-1].text == "better"


def test_the_report_says_how_it_was_done_and_what_few_seeds_cannot_show(book: Any) -> None:
    summary, _ = shown(book, {"base": acc(0.8, 0.8, 0.8), "other": acc(0.9, 0.9, 0.9)})
    lines = content.headline(summary)
    assert any("first row, base" in line and "Holm" in line for line in lines)
    assert any("cannot fall below 0.25" in line for line in lines)
    assert [table.title.split()[0] for table in content.all_tables(summary)] == ["Ablation", "Differences"]


@pytest.mark.parametrize("rows", [{}, {"only": acc(0.8)}], ids=["none", "one"])
def test_nothing_is_compared_with_nothing(book: Any, rows: Any) -> None:
    summary, table = shown(book, rows)
    assert table.rows == () and differences.note(summary) == []
