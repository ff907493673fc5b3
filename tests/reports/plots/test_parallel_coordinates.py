from platform.reports.plots import parallel_coordinates
from platform.reports.summarize import summarize
from typing import Any

import pytest

DELTA, K2 = "spc.strong_threshold", "spc.graph_neighbors"
OBJECTIVE = "spc/selection_loss"
SEARCH = {DELTA: {"choice": [0.9, 0.95]}, K2: {"choice": [5, 20]}}


def test_lines_run_through_every_parameter_and_result(two_parameters: Any) -> None:
    summary = summarize(two_parameters.ledger, two_parameters.launch.id)
    axes = parallel_coordinates.figure(summary).axes[0]
    segments = axes.collections[0].get_segments()
    assert len(segments) == 5 and all(len(segment) == 4 for segment in segments)
    # The best is drawn last, on top: δ 0.9 at the foot, k2 20 and acc 0.9 on top, and the objective at its least.
    assert segments[-1].tolist() == [[0, 0], [1, 1], [2, 1], [3, 0]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["δ", "k2", "acc", "spc/\nselection_loss"]


@pytest.mark.parametrize(("mode", "top"), [("min", 0.0), ("max", 1.0)])
def test_without_accuracy_the_best_line_by_the_objective_is_on_top(book: Any, mode: str, top: float) -> None:
    made = book(seeds=[0], search=SEARCH, objective={"metric": "spc/x", "mode": mode})
    for number, (delta, k2) in enumerate([(0.9, 5), (0.95, 5), (0.9, 20), (0.95, 20)]):
        made.configuration(number, {0: {"spc/x": float(number)}}, {DELTA: delta, K2: k2})
    segments = parallel_coordinates.figure(summarize(made.ledger, made.launch.id)).axes[0].collections[0].get_segments()
    assert segments[-1][-1].tolist() == [2, top]


def test_a_logarithmic_axis_is_labeled_with_its_values(book: Any) -> None:
    search = {K2: {"int": [1, 100], "log": True}, DELTA: {"uniform": [0.5, 1.0]}}
    made = book(seeds=[0], search=search)
    for number, k2 in enumerate((1, 10, 10, 100)):
        made.configuration(number, {0: {"acc": 0.1 * number}}, {K2: k2, DELTA: 0.5 + 0.1 * number})
    axes = parallel_coordinates.figure(summarize(made.ledger, made.launch.id)).axes[0]
    texts = {(text.get_text(), *text.xy) for text in axes.texts}
    # The axes stand in the order of the pipeline: δ first. Ten is half of the way from one to a hundred.
    assert {("1", 1, 0.0), ("100", 1, 1.0), ("0.500", 0, 0.0), ("0.800", 0, 1.0)} <= texts
    assert sorted(segment[1][1] for segment in axes.collections[0].get_segments()) == pytest.approx([0, 0.5, 0.5, 1])


def test_a_parameter_that_some_setting_lacks_has_no_axis(book: Any) -> None:
    made = book(seeds=[0], search=SEARCH)
    for number in range(4):
        params = {DELTA: 0.9, K2: 5} if number else {DELTA: 0.95}
        made.configuration(number, {0: {"acc": 0.1 * number, OBJECTIVE: 1.0}}, params)
    assert not parallel_coordinates.applies(summarize(made.ledger, made.launch.id))
