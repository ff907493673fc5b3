from platform.ledger.aggregate import Objective, Spread
from platform.reports.ranking import fronts, ranked
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

POINTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=9)
MODES = st.tuples(st.sampled_from(["min", "max"]), st.sampled_from(["min", "max"]))


def rows_of(points: list[tuple[int, int]]) -> Any:
    return [
        type("Row", (), {"number": number, "metrics": {"a": Spread(a, None, 1), "b": Spread(b, None, 1)}})
        for number, (a, b) in enumerate(points)
    ]


@given(POINTS, MODES)
def test_fronts_by_their_definition(points: list[tuple[int, int]], modes: tuple[str, str]) -> None:
    rows = rows_of(points)
    layers = fronts(rows, [Objective("a", modes[0]), Objective("b", modes[1])])
    assert sorted(row.number for front in layers for row in front) == list(range(len(points)))
    depths = {row.number: depth for depth, front in enumerate(layers) for row in front}
    # Turned so that less is better in both.
    costs = [tuple(x if mode == "min" else -x for x, mode in zip(point, modes, strict=True)) for point in points]
    for one, (a, b) in enumerate(costs):
        dominating = [other for other, (c, d) in enumerate(costs) if c <= a and d <= b and (c, d) != (a, b)]
        assert depths[one] == (1 + max(depths[other] for other in dominating) if dominating else 0)


@pytest.mark.parametrize(("mode", "order"), [("min", [1, 3, 0]), ("max", [0, 1, 3])])
def test_equal_means_keep_the_order_of_their_numbers(mode: str, order: list[int]) -> None:
    rows = rows_of([(0, 0)] * 4)
    spreads = [Spread(2.0, None, 1), Spread(1.0, None, 1), None, Spread(1.0, None, 1)]
    ordered = ranked(zip(rows, spreads, strict=True), Objective("a", mode))
    assert [row.number for row in ordered] == order
