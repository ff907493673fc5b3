from platform.ledger.rows import PRUNED
from platform.reports.figures import landscape_of
from platform.reports.plots import importance
from platform.reports.summary import Summary, summarize
from typing import Any

import pytest

DELTA, K2 = "spc.strong_threshold", "spc.graph_neighbors"
OBJECTIVE = "spc/selection_loss"


@pytest.fixture
def made(book: Any) -> Any:
    """Twelve settings: δ decides the objective, k2 the accuracy."""
    made = book(seeds=[0], search={DELTA: {"uniform": [0.5, 1.0]}, K2: {"int": [5, 50]}})
    for number in range(12):
        delta, k2 = 0.5 + 0.04 * (5 * number % 12), 5 + 3 * number
        made.configuration(number, {0: {OBJECTIVE: delta, "acc": 0.01 * k2}}, {DELTA: delta, K2: k2})
    return made


def _summary(book: Any) -> Summary:
    return summarize(book.ledger, book.launch.id)


def test_each_metric_has_its_own_shares_by_two_evaluators(made: Any) -> None:
    found = importance.found(_summary(made))
    assert list(found) == [("acc", "fANOVA"), ("acc", "PED-ANOVA"), (OBJECTIVE, "fANOVA"), (OBJECTIVE, "PED-ANOVA")]
    assert found["acc", "fANOVA"][K2] > 0.8 and found[OBJECTIVE, "fANOVA"][DELTA] > 0.8


def test_the_table_and_the_picture_say_the_same(made: Any) -> None:
    summary = _summary(made)
    table = importance.table(summary)
    assert [row[0].text for row in table.rows] == [f"δ ({DELTA})", f"k2 ({K2})"]
    assert "from 12 finished settings" in table.notes[0]
    picture = next(each for each in landscape_of(summary) if each.path == "figures/importance.png")
    assert "acc by fANOVA: k2 " in picture.alt and f"{OBJECTIVE} by fANOVA: δ " in picture.alt


def test_pruned_settings_are_kept_out_and_not_counted(made: Any) -> None:
    for number in (12, 13, 14):
        made.configuration(number, {0: None}, {DELTA: 0.9, K2: 50})
        made.ledger.stop(made.launch.id, f"{made.launch.id}-{number}-0", PRUNED, "behind", {"acc": 9.0}, 1.0)
    assert "from 12 finished settings" in importance.table(_summary(made)).notes[0]


def test_a_small_search_has_no_importances(sweep: Any) -> None:
    assert importance.found(_summary(sweep)) == {} and importance.table(_summary(sweep)).rows == ()


def test_ten_settings_are_needed_and_four_for_each_parameter() -> None:
    enough = importance.enough
    assert not enough(9, 2) and enough(10, 2) and not enough(11, 3) and enough(12, 3) and not enough(100, 1)
