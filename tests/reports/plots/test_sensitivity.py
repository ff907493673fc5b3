from platform.reports.parameters import searched_parameters
from platform.reports.plots.sensitivity import alt_text, applies, figure
from platform.reports.summarize import summarize
from platform.reports.summary import Summary
from typing import Any

import pytest

DELTA, K2 = "spc.strong_threshold", "spc.graph_neighbors"
OBJECTIVE = "spc/selection_loss"


def _summary(book: Any) -> Summary:
    return summarize(book.ledger, book.launch.id)


def test_accuracy_stands_above_the_objective(sweep: Any) -> None:
    summary = _summary(sweep)
    drawn = figure(summary, searched_parameters(summary)[0])
    assert [axes.get_ylabel() for axes in drawn.axes] == ["acc", f"{OBJECTIVE} (min)"]
    assert drawn.axes[1].get_xlabel() == f"δ: {DELTA} (as a probability)"


def test_every_setting_is_a_point_with_its_deviation(sweep: Any) -> None:
    summary = _summary(sweep)
    bottom = figure(summary, searched_parameters(summary)[0]).axes[1]
    points = [point for bars in bottom.containers for point in bars.lines[0].get_xydata().tolist()]
    assert points == [[0.9, -3.0], [0.95, -1.0], [0.98, -0.5]]
    # Mean -3 with deviation 1: the bar goes from -4 to -2.
    segment = bottom.containers[0].lines[2][0].get_segments()[0]
    assert segment.tolist() == [[0.9, -4.0], [0.9, -2.0]]


def test_the_default_and_the_picked_configuration_are_marked(sweep: Any) -> None:
    summary = _summary(sweep)
    drawn = figure(summary, searched_parameters(summary)[0])
    names = {text.get_text() for text in drawn.legends[0].get_texts()}
    assert names == {
        "setting, ± std over seeds",
        "default 0.95",
        "all defaults",
        "picked by the criterion",
        "flat: within one std of the best",
    }


def test_all_points_are_within_the_axes(sweep: Any) -> None:
    summary = _summary(sweep)
    low, high = figure(summary, searched_parameters(summary)[0]).axes[1].get_ylim()
    assert low < -4.0 < -0.5 < high


def test_words_stand_side_by_side_in_the_order_of_the_file(book: Any) -> None:
    made = book(seeds=[0], search={"spc.mix": {"choice": ["hierarchical", "code"]}})
    made.configuration(0, {0: {OBJECTIVE: 1.0}}, {"spc.mix": "code"})
    summary = _summary(made)
    (axes,) = figure(summary, searched_parameters(summary)[0]).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["hierarchical", "code"]
    assert axes.containers[0].lines[0].get_xydata().tolist() == [[1.0, 1.0]]


def test_a_metric_that_a_setting_lacks_has_no_panel(book: Any) -> None:
    made = book(seeds=[0], search={DELTA: {"uniform": [0.5, 0.9]}})
    made.configuration(0, {0: {OBJECTIVE: 1.0, "acc": 0.5}}, {DELTA: 0.6})
    made.configuration(1, {0: {OBJECTIVE: 2.0}}, {DELTA: 0.7})
    made.configuration(2, {0: "OSError: disk"}, {DELTA: 0.8})
    summary = _summary(made)
    assert len(figure(summary, searched_parameters(summary)[0]).axes) == 1
    assert "acc" not in alt_text(summary, searched_parameters(summary)[0])


def test_without_results_there_is_nothing_to_draw(book: Any) -> None:
    assert not applies(_summary(book()))


def test_a_stopped_setting_is_a_mark_at_the_foot(two_parameters: Any) -> None:
    summary = _summary(two_parameters)
    drawn = figure(summary, searched_parameters(summary)[0])
    marks = [line for line in drawn.axes[0].lines if line.get_marker() == "v"]
    assert [line.get_xydata().tolist() for line in marks] == [[[0.95, 0.04]]]
    assert "a seed pruned" in {text.get_text() for text in drawn.legends[0].get_texts()}


def test_the_flat_region_is_shaded_half_of_the_way_to_what_lies_outside(book: Any) -> None:
    made = book(seeds=[0, 1], search={K2: {"choice": [5, 20, 50]}})
    for number, (k2, acc) in enumerate(((5, 0.5), (20, 0.9), (50, 0.9))):
        made.configuration(number, {0: {"acc": acc - 0.01, OBJECTIVE: 1.0}, 1: {"acc": acc, OBJECTIVE: 1.0}}, {K2: k2})
    summary = _summary(made)
    axes = figure(summary, searched_parameters(summary)[0]).axes[0]
    low, high = axes.patches[0].get_x(), axes.patches[0].get_x() + axes.patches[0].get_width()
    assert low == pytest.approx(12.5) and 50 < high < 52
