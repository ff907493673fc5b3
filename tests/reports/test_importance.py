from platform.ledger.rows import PRUNED
from platform.reports import importance
from platform.reports.summarize import summarize
from platform.reports.summary import Summary
from platform.search.importances import importances
from typing import Any

import pytest

DELTA, K2 = "spc.strong_threshold", "spc.graph_neighbors"
OBJECTIVE = "spc/selection_loss"


@pytest.fixture
def twelve(book: Any) -> Any:
    """Twelve settings: δ decides the objective, k2 the accuracy."""
    made = book(seeds=[0], search={DELTA: {"uniform": [0.5, 1.0]}, K2: {"int": [5, 50]}})
    for number in range(12):
        delta, k2 = 0.5 + 0.04 * (5 * number % 12), 5 + 3 * number
        made.configuration(number, {0: {OBJECTIVE: delta, "acc": 0.01 * k2}}, {DELTA: delta, K2: k2})
    return made


def _summary(book: Any) -> Summary:
    return importance.with_importances(summarize(book.ledger, book.launch.id), importances)


def test_each_metric_has_its_own_shares_by_two_evaluators(twelve: Any) -> None:
    acc, acc_ped, loss, loss_ped = _summary(twelve).importances
    names = [(each.metric, each.evaluator) for each in (acc, acc_ped, loss, loss_ped)]
    assert names == [("acc", "fANOVA"), ("acc", "PED-ANOVA"), (OBJECTIVE, "fANOVA"), (OBJECTIVE, "PED-ANOVA")]
    assert acc.shares[K2] > 0.8 and loss.shares[DELTA] > 0.8


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_evaluator_gets_the_good_end_of_each_metric(book: Any, mode: str) -> None:
    made = book(seeds=[0], search={DELTA: {}, K2: {}}, objective={"metric": OBJECTIVE, "mode": mode})
    for number in range(10):
        made.configuration(number, {0: {OBJECTIVE: 1.0 * number, "acc": 0.5}}, {DELTA: 0.05 * number, K2: number})
    calls = []

    def evaluate(search: Any, points: Any, mode: str) -> Any:
        calls.append((sorted(search), len(points), points[3][1], mode))
        return {}

    assert importance.with_importances(summarize(made.ledger, made.launch.id), evaluate).importances == ()
    assert calls == [([K2, DELTA], 10, 0.5, "max"), ([K2, DELTA], 10, 3.0, mode)]


def test_the_table_has_a_row_for_each_parameter(twelve: Any) -> None:
    table = importance.table(_summary(twelve))
    assert [row[0].text for row in table.rows] == [f"δ ({DELTA})", f"k2 ({K2})"]
    assert table.columns[:2] == ("parameter", "acc: fANOVA")
    assert "from 12 finished settings" in table.notes[0]


def test_pruned_settings_are_left_out_and_not_counted(twelve: Any) -> None:
    for number in (12, 13, 14):
        twelve.configuration(number, {0: None}, {DELTA: 0.9, K2: 50})
        twelve.ledger.stop(twelve.launch.id, f"{twelve.launch.id}-{number}-0", PRUNED, "behind", {"acc": 9.0}, 1.0)
    assert "from 12 finished settings" in importance.table(_summary(twelve)).notes[0]


def test_a_small_search_has_no_importances(sweep: Any) -> None:
    summary = _summary(sweep)
    assert summary.importances == () and importance.table(summary).rows == ()


def test_ten_settings_are_needed_and_four_for_each_parameter() -> None:
    enough = importance.enough
    assert not enough(9, 2) and enough(10, 2) and not enough(11, 3) and enough(12, 3) and not enough(100, 1)
