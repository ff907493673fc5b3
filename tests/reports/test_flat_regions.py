import math
from collections.abc import Callable
from platform.ledger.rows import COLLAPSED, PRUNED
from platform.reports.flat_regions import FlatRegion, flat_region, pooled_std, table
from platform.reports.parameters import grouped, searched_parameters
from platform.reports.summarize import summarize
from platform.reports.summary import Summary
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

DELTA, K2, MIX = "spc.strong_threshold", "spc.graph_neighbors", "spc.mix"
OBJECTIVE = "spc/selection_loss"


@pytest.fixture
def study(book: Any) -> Callable[..., Summary]:
    """study(name, values, levels, std): one setting per value; two seeds around the level give that deviation."""

    def make(name: str, values: list[Any], levels: list[float], std: float = 0.01, seeds: int = 2) -> Summary:
        made = book(seeds=list(range(seeds)), search={name: {"choice": list(dict.fromkeys(values))}})
        for number, (value, level) in enumerate(zip(values, levels, strict=True)):
            # Two values level ± d have the deviation d * sqrt(2).
            aside = [-std / math.sqrt(2), std / math.sqrt(2)] if seeds == 2 else [0.0]
            cells = {seed: {"acc": level + aside[seed], OBJECTIVE: -level} for seed in range(seeds)}
            made.configuration(number, cells, {name: value})
        return summarize(made.ledger, made.launch.id)

    return make


def _acc(summary: Summary) -> FlatRegion:
    found = flat_region(summary, searched_parameters(summary)[0], "acc")
    assert found is not None
    return found


def test_the_region_reaches_from_the_best_as_far_as_one_deviation_goes(study: Any) -> None:
    # Best 0.90 at 20; 0.895 and 0.891 lie within 0.01, 0.88 does not, and ends the region though 0.899 lies beyond it.
    found = _acc(study(K2, [5, 10, 20, 30, 40, 50], [0.899, 0.88, 0.90, 0.895, 0.891, 0.85]))
    assert (found.label, found.members, found.best) == ("20 to 40", (2, 3, 4), 2)
    assert found.std == pytest.approx(0.01)
    assert found.sentence == (
        "acc against k2: flat from 20 to 40, within one standard deviation over seeds (0.010) of the best, at 20."
    )


def test_a_peak_is_said_in_words(study: Any) -> None:
    assert "no other value is within" in _acc(study(K2, [5, 20, 50], [0.5, 0.9, 0.5])).sentence


def test_a_plain_is_said_in_words(study: Any) -> None:
    assert "flat over everything that was tried" in _acc(study(DELTA, [0.9, 0.95], [0.9, 0.9])).sentence


def test_one_seed_says_nothing_about_flatness(study: Any) -> None:
    found = _acc(study(K2, [5, 20], [0.9, 0.9], seeds=1))
    assert (found.std, found.members, found.label) == (None, (), "")
    assert found.sentence == "acc against k2: best at 5; one seed, so nothing can be called flat."


def test_words_have_no_order(study: Any) -> None:
    found = _acc(study(MIX, ["hierarchical", "code"], [0.9, 0.899]))
    assert found.label == "hierarchical, code"


def test_an_objective_to_be_minimized_is_best_where_it_is_least(study: Any) -> None:
    summary = study(K2, [5, 20], [0.5, 0.9])
    found = flat_region(summary, searched_parameters(summary)[0], OBJECTIVE)
    assert found is not None and found.groups[found.best].label == "20"


def test_a_level_is_the_mean_of_the_settings_with_that_value(study: Any) -> None:
    found = _acc(study(K2, [5, 5, 20], [0.8, 0.9, 0.7]))
    assert found.levels == pytest.approx((0.85, 0.7))


def test_many_values_are_cut_into_five_groups_of_neighbors(study: Any) -> None:
    summary = study(K2, list(range(5, 17)), [0.9] * 12)
    groups = grouped(summary.configurations, searched_parameters(summary)[0])
    assert [(group.label, len(group.rows)) for group in groups] == [
        ("5 to 7", 3), ("8 to 10", 3), ("11 to 12", 2), ("13 to 14", 2), ("15 to 16", 2),
    ]  # fmt: skip
    assert _acc(summary).label == "5 to 16"


def test_what_was_stopped_takes_no_part(book: Any) -> None:
    made = book(seeds=[0, 1], search={K2: {"choice": [5, 20, 50]}})
    for number, (value, state) in enumerate(((5, ""), (20, PRUNED), (50, COLLAPSED))):
        made.configuration(
            number, {0: {"acc": 0.9, OBJECTIVE: -1.0}, 1: None if state else {"acc": 0.8, OBJECTIVE: -1.0}}, {K2: value}
        )
        if state:
            made.ledger.stop(made.launch.id, f"{made.launch.id}-{number}-1", state, "behind", {}, 1.0)
    summary = summarize(made.ledger, made.launch.id)
    assert [row.exclusion for row in summary.configurations] == ["", "pruned", "collapsed"]
    assert flat_region(summary, searched_parameters(summary)[0], "acc") is None
    assert table(summary).rows == ()


def test_the_deviation_is_pooled_by_degrees_of_freedom(book: Any) -> None:
    made = book(seeds=[0, 1, 2], search={K2: {"choice": [5, 20]}})
    made.configuration(0, {0: {"acc": 0.1}, 1: {"acc": 0.2}, 2: {"acc": 0.3}}, {K2: 5})
    made.configuration(1, {0: {"acc": 0.5}, 1: {"acc": 0.9}, 2: None}, {K2: 20})
    # Squares about the means: 0.02 with 2 degrees of freedom, 0.08 with 1.
    summary = summarize(made.ledger, made.launch.id)
    assert pooled_std(summary.configurations, "acc") == pytest.approx(math.sqrt(0.10 / 3))


def test_the_table_has_a_row_for_each_metric_and_its_rule_below(study: Any) -> None:
    summary = study(K2, [5, 20], [0.5, 0.9])
    found = table(summary)
    assert summary.figure_metrics == ["acc", OBJECTIVE]
    assert [[cell.text for cell in row] for row in found.rows] == [
        ["k2 (spc.graph_neighbors)", "acc", "20", "0.900", "0.010", "20", "1 of 2"],
        ["k2 (spc.graph_neighbors)", OBJECTIVE, "20", "-0.900", "0.000", "20", "1 of 2"],
    ]
    assert found.notes[0].startswith("Flat: the widest unbroken range around the best value")


@given(st.lists(st.floats(0.0, 1.0), min_size=2, max_size=7), st.floats(0.0, 0.5))
def test_the_region_is_unbroken_holds_the_best_and_cannot_be_wider(levels: list[float], std: float) -> None:
    from platform.reports.flat_regions import _members

    best = max(range(len(levels)), key=levels.__getitem__)
    inside = _members(levels, best, std, ordered=True)
    assert best in inside and list(inside) == list(range(inside[0], inside[-1] + 1))
    assert all(levels[best] - levels[index] <= std for index in inside)
    beside = [index for index in (inside[0] - 1, inside[-1] + 1) if 0 <= index < len(levels)]
    assert all(levels[best] - levels[index] > std for index in beside)
