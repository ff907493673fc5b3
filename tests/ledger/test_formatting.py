from platform.ledger.formatting import (
    FIXED,
    configuration_label,
    format_number,
    format_seconds,
    format_spread,
    format_value,
    param_labels,
)
from typing import Any

import pytest


def test_a_setting_is_named_by_its_symbols_in_the_order_of_the_pipeline() -> None:
    # As the ledger gives them back: sorted by letter.
    params = {"spc.graph_neighbors": 20, "spc.strong_threshold": 0.95, "spc.top_fraction_per_class": 0.03}
    assert configuration_label("spc", "", params) == "δ=0.95 k2=20 r=0.03"


def test_a_parameter_without_a_symbol_has_its_short_name() -> None:
    assert configuration_label("spc", "", {"spc.epochs": 5}) == "epochs=5"


def test_two_parameters_with_one_symbol_keep_their_full_names() -> None:
    names = {"neighbors.num_neighbors": 5, "scan.num_neighbors": 5, "spc.strong_threshold": 0.9}
    assert param_labels("spc", "", names) == {
        "neighbors.num_neighbors": "neighbors.num_neighbors",
        "scan.num_neighbors": "scan.num_neighbors",
        "spc.strong_threshold": "δ",
    }


def test_an_ablation_row_has_its_own_name() -> None:
    assert configuration_label("spc", "", {"spc.mix": "code"}, "mixed as in the code") == "mixed as in the code"


def test_a_setting_that_changes_nothing_says_so() -> None:
    assert configuration_label("spc", "simclr", {}) == FIXED


def test_a_parameter_that_the_method_no_longer_has_comes_last() -> None:
    assert configuration_label("spc", "", {"old.name": 1, "spc.epochs": 5}) == "epochs=5 old.name=1"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.95, "0.95"), (0.0312345, "0.03123"), (1e-4, "0.0001"), (20, "20"), (True, "true"), ("a", "a")],
)
def test_values_are_short(value: Any, shown: str) -> None:
    assert format_value(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.9614, "0.961"), (-2.2809, "-2.281"), (0.0, "0.000"), (0.00042, "0.00042"), (12345.6, "1.23e+04")],
)
def test_metrics_have_three_decimals_where_those_say_something(value: float, shown: str) -> None:
    assert format_number(value) == shown


@pytest.mark.parametrize(
    ("std", "n", "shown"),
    [
        (0.004, 3, "0.961 ± 0.004 (3)"),
        (None, 1, "0.961 (1)"),
        (0.0, 2, "0.961 ± 0.000 (2)"),
        (0.0002, 3, "0.961 ± 0.0002 (3)"),
    ],
)
def test_a_spread_always_has_its_n(std: float | None, n: int, shown: str) -> None:
    assert format_spread(0.961, std, n) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(6.2, "6.2 s"), (99.96, "1 min 40 s"), (250.0, "4 min 10 s"), (11_100.0, "3 h 05 min")]
)
def test_times_are_told_in_words(seconds: float, shown: str) -> None:
    assert format_seconds(seconds) == shown
