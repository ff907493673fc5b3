from platform.search.importances import importances
from typing import Any

import numpy as np
import pytest

SEARCH = {"spc.a": {"uniform": [0.0, 1.0]}, "spc.b": {"uniform": [0.0, 1.0]}, "spc.c": {"choice": ["x", "y"]}}


@pytest.fixture
def points() -> list[tuple[dict[str, Any], float]]:
    """Sixty settings whose value is a alone."""
    rng = np.random.default_rng(0)
    drawn = [{"spc.a": float(a), "spc.b": float(b), "spc.c": "xy"[int(c > 0.5)]} for a, b, c in rng.random((60, 3))]
    return [(params, params["spc.a"]) for params in drawn]


def test_what_decides_has_the_largest_share_by_both(points: Any) -> None:
    found = importances(SEARCH, points, "min")
    assert list(found) == ["fANOVA", "PED-ANOVA"]
    for shares in found.values():
        assert sum(shares.values()) == pytest.approx(1)
        assert max(shares, key=shares.__getitem__) == "spc.a" and shares["spc.a"] > 0.6


def test_the_same_numbers_give_the_same_shares(points: Any) -> None:
    assert importances(SEARCH, points, "max") == importances(SEARCH, points, "max")


def test_a_start_outside_of_the_search_and_a_parameter_that_some_lack_are_left_out(points: Any) -> None:
    outside = ({"spc.a": 7.0, "spc.b": 0.5, "spc.c": "x"}, 1e9)
    assert importances(SEARCH, [*points, outside], "min") == importances(SEARCH, points, "min")
    lacking = ({"spc.a": 0.5, "spc.b": 0.5}, 0.5)
    assert set(importances(SEARCH, [*points, lacking], "min")["fANOVA"]) == {"spc.a", "spc.b"}


def test_equal_values_say_nothing(points: Any) -> None:
    assert importances(SEARCH, [(params, 1.0) for params, _ in points], "min") == {}


def test_a_single_parameter_has_no_share(points: Any) -> None:
    alone = [({"spc.a": params["spc.a"]}, value) for params, value in points]
    assert importances({"spc.a": SEARCH["spc.a"]}, alone, "min") == {}


def test_of_many_settings_the_forest_takes_some(points: Any) -> None:
    found = importances(SEARCH, points * 10, "min")
    assert found["fANOVA"]["spc.a"] > 0.6 and found["PED-ANOVA"]["spc.a"] > 0.6
