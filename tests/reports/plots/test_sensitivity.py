from platform.reports.parameters import Swept, swept
from platform.reports.plots.sensitivity import alt_text, drawable, png, sensitivity
from platform.reports.summary import Summary, summarize
from typing import Any

import pytest

DELTA = "spc.strong_threshold"
OBJECTIVE = "spc/selection_loss"


def _summary(book: Any) -> Summary:
    return summarize(book.ledger, book.launch.id)


def test_a_swept_parameter_knows_its_symbol_default_and_options(sweep: Any) -> None:
    (found,) = swept(_summary(sweep))
    assert found == Swept(DELTA, "δ", "as a probability", 0.95, (0.9, 0.95, 0.98), False)


@pytest.mark.parametrize("domain", [{"loguniform": [1e-4, 1e-1]}, {"int": [1, 64], "log": True}])
def test_a_logarithmic_range_is_drawn_in_the_logarithm(book: Any, domain: Any) -> None:
    (found,) = swept(_summary(book(search={"spc.graph_neighbors": domain})))
    assert found.log


def test_accuracy_stands_above_the_objective(sweep: Any) -> None:
    summary = _summary(sweep)
    figure = sensitivity(summary, swept(summary)[0])
    assert [axes.get_ylabel() for axes in figure.axes] == ["acc", f"{OBJECTIVE} (min)"]
    assert figure.axes[1].get_xlabel() == f"δ: {DELTA} (as a probability)"


def test_every_setting_is_a_point_with_its_deviation(sweep: Any) -> None:
    summary = _summary(sweep)
    bottom = sensitivity(summary, swept(summary)[0]).axes[1]
    points = [point for bars in bottom.containers for point in bars.lines[0].get_xydata().tolist()]
    assert points == [[0.9, -3.0], [0.95, -1.0], [0.98, -0.5]]
    # Mean -3 with deviation 1: the bar goes from -4 to -2.
    segment = bottom.containers[0].lines[2][0].get_segments()[0]
    assert segment.tolist() == [[0.9, -4.0], [0.9, -2.0]]


def test_the_default_and_the_picked_setting_are_marked(sweep: Any) -> None:
    summary = _summary(sweep)
    figure = sensitivity(summary, swept(summary)[0])
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    assert names == {
        "setting, ± std over seeds",
        "default 0.95",
        "all defaults",
        "picked by the criterion",
        "flat: within one std of the best",
    }


def test_all_points_are_within_the_axes(sweep: Any) -> None:
    summary = _summary(sweep)
    low, high = sensitivity(summary, swept(summary)[0]).axes[1].get_ylim()
    assert low < -4.0 < -0.5 < high


def test_words_stand_side_by_side_in_the_order_of_the_file(book: Any) -> None:
    made = book(seeds=[0], search={"spc.mix": {"choice": ["hierarchical", "code"]}})
    made.configuration(0, {0: {OBJECTIVE: 1.0}}, {"spc.mix": "code"})
    summary = _summary(made)
    (axes,) = sensitivity(summary, swept(summary)[0]).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["hierarchical", "code"]
    assert axes.containers[0].lines[0].get_xydata().tolist() == [[1.0, 1.0]]


def test_a_metric_that_a_setting_lacks_has_no_panel(book: Any) -> None:
    made = book(seeds=[0], search={DELTA: {"uniform": [0.5, 0.9]}})
    made.configuration(0, {0: {OBJECTIVE: 1.0, "acc": 0.5}}, {DELTA: 0.6})
    made.configuration(1, {0: {OBJECTIVE: 2.0}}, {DELTA: 0.7})
    made.configuration(2, {0: "OSError: disk"}, {DELTA: 0.8})
    summary = _summary(made)
    assert len(sensitivity(summary, swept(summary)[0]).axes) == 1
    assert "acc" not in alt_text(summary, swept(summary)[0])


def test_without_results_there_is_nothing_to_draw(book: Any) -> None:
    assert not drawable(_summary(book()))


def test_equal_numbers_give_equal_bytes(sweep: Any) -> None:
    summary = _summary(sweep)
    first, second = (png(sensitivity(summary, swept(summary)[0])) for _ in range(2))
    assert first == second
    assert b"Software" not in first
