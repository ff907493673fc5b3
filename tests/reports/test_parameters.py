from platform.reports.parameters import Parameter, grouped, searched_parameters, shared_parameters
from platform.reports.summarize import summarize
from platform.reports.summary import Summary
from typing import Any

import pytest

DELTA, K2 = "spc.strong_threshold", "spc.graph_neighbors"


def _summary(book: Any) -> Summary:
    return summarize(book.ledger, book.launch.id)


def test_a_searched_parameter_knows_its_symbol_default_and_options(sweep: Any) -> None:
    (found,) = searched_parameters(_summary(sweep))
    assert found == Parameter(DELTA, "δ", "as a probability", 0.95, (0.9, 0.95, 0.98), False)


@pytest.mark.parametrize("domain", [{"loguniform": [1e-4, 1e-1]}, {"int": [1, 64], "log": True}])
def test_a_logarithmic_range_is_drawn_in_the_logarithm(book: Any, domain: Any) -> None:
    (found,) = searched_parameters(_summary(book(search={"spc.graph_neighbors": domain})))
    assert found.log


def test_settings_are_grouped_by_value_along_the_axis(sweep: Any) -> None:
    summary = _summary(sweep)
    groups = grouped(summary.configurations[::-1], searched_parameters(summary)[0])
    assert [(group.label, [row.number for row in group.rows]) for group in groups] == [
        ("0.9", [0]), ("0.95", [1]), ("0.98", [2]),
    ]  # fmt: skip


def test_a_shared_parameter_has_a_place_for_every_result(book: Any) -> None:
    made = book(seeds=[0], search={DELTA: {"choice": [0.9, 0.95]}, K2: {"choice": [5, 20]}})
    made.configuration(0, {0: {"acc": 0.5}}, {DELTA: 0.9, K2: 5})
    made.configuration(1, {0: None}, {DELTA: 0.95})
    assert [parameter.name for parameter in shared_parameters(_summary(made))] == [DELTA, K2]
    made.configuration(2, {0: {"acc": 0.5}}, {DELTA: 0.95, "spc.mix": "code"})
    assert [parameter.name for parameter in shared_parameters(_summary(made))] == [DELTA]
