"""What each label-free criterion would have picked, against hand-made ledgers."""

from platform.reports import content, label_free_selection
from platform.reports.summarize import summarize
from platform.reports.summary import Summary
from typing import Any

import pytest

OWN, OTHER = "spc/selection_loss", "scan/selection_loss"


def summary(book: Any, rows: list[tuple[float, float, float]], **changes: Any) -> Summary:
    """rows: (own criterion, SCAN's criterion, accuracy) of each setting, the same for two seeds."""
    made = book(seeds=[0, 1], **changes)
    for number, (own, other, acc) in enumerate(rows):
        cell = {OWN: own, OTHER: other, "acc": acc}
        made.configuration(number, {0: cell, 1: cell}, {"spc.graph_neighbors": number + 5})
    return summarize(made.ledger, made.launch.id)


def test_each_criterion_is_measured_by_what_it_picks(book: Any) -> None:
    found = label_free_selection.criterion_results(summary(book, [(-3, -1, 0.7), (-2, -2, 0.8), (-1, -3, 0.9)]))
    own, other = found
    assert (own.criterion.metric, own.picked.number, own.accuracy, own.correlation) == (OWN, 0, 0.7, pytest.approx(-1))
    assert own.regret == pytest.approx(0.2)
    assert (other.criterion.metric, other.picked.number, other.regret) == (OTHER, 2, 0)
    assert other.correlation == pytest.approx(1) and other.num_configurations == 3


def test_a_shared_stage_cannot_choose(book: Any) -> None:
    found = label_free_selection.criterion_results(summary(book, [(-3, -1, 0.7), (-2, -1, 0.8)]))
    assert [each.criterion.metric for each in found] == [OWN]


def test_a_better_criterion_is_named_and_a_good_one_is_not(book: Any) -> None:
    worse = summary(book, [(-3, -1, 0.7), (-2, -2, 0.8)])
    assert any(OTHER in line and "0.800, not 0.700" in line for line in content.headline(worse))
    good = summary(book, [(-3, -1, 0.9), (-2, -2, 0.8)], name="good")
    assert label_free_selection.advice(good) == []


def test_an_oracle_study_gets_the_table_but_no_advice(book: Any) -> None:
    found = summary(book, [(-3, -1, 0.7), (-2, -2, 0.8)], oracle=True, objective={"metric": "acc", "mode": "max"})
    assert {each.criterion.metric for each in label_free_selection.criterion_results(found)} == {OWN, OTHER}
    assert label_free_selection.advice(found) == []


def test_equal_accuracies_have_no_correlation(book: Any) -> None:
    found = label_free_selection.table(summary(book, [(-3, -1, 0.8), (-2, -2, 0.8)]))
    assert [row[1].text for row in found.rows] == ["–", "–"]
    assert [row[4].text for row in found.rows] == ["0.000", "0.000"]


def test_the_report_has_the_table_after_the_ranking(book: Any) -> None:
    found = summary(book, [(-3, -1, 0.7), (-2, -2, 0.8)])
    assert [each.title for each in content.all_tables(found)][1] == "Choosing without labels"
    assert label_free_selection.table(summary(book, [(-3, -1, 0.7)], name="one")).rows == ()
