from platform.ledger.rows import PRUNED
from platform.reports.figures import landscape_of
from platform.reports.parameters import swept
from platform.reports.plots import landscape, sensitivity
from platform.reports.summary import Summary, summarize
from typing import Any

import numpy as np
import pytest

DELTA, K2 = "spc.strong_threshold", "spc.graph_neighbors"
OBJECTIVE = "spc/selection_loss"
SEARCH = {DELTA: {"choice": [0.9, 0.95]}, K2: {"choice": [5, 20]}}


@pytest.fixture
def made(book: Any) -> Any:
    """Five settings of two parameters, of which the fourth was pruned and two share a cell."""
    made = book(seeds=[0], search=SEARCH)
    configurations = [(0.9, 5, 0.6), (0.95, 5, 0.7), (0.9, 20, 0.8), (0.95, 20, None), (0.9, 20, 0.9), (0.9, 5, 0.5)]
    for number, (delta, k2, acc) in enumerate(configurations):
        cell = None if acc is None else {"acc": acc, OBJECTIVE: -acc}
        made.configuration(number, {0: cell}, {DELTA: delta, K2: k2})
    made.ledger.stop(made.launch.id, f"{made.launch.id}-3-0", PRUNED, "behind", {}, 1.0)
    return made


def _summary(book: Any) -> Summary:
    return summarize(book.ledger, book.launch.id)


def test_a_cell_of_a_heat_map_is_the_mean_of_its_settings(made: Any) -> None:
    summary = _summary(made)
    ((across, up),) = landscape.pairs(summary)
    axes = landscape.heat_map(summary, across, up).axes[0]
    shown = axes.images[0].get_array()
    # Rows are k2 5 and 20 from below; the pruned setting leaves its cell white.
    assert np.ma.filled(shown, np.nan)[0].tolist() == pytest.approx([0.55, 0.7])
    assert shown[1][0] == pytest.approx(0.85) and not np.isfinite(np.ma.filled(shown, np.nan)[1][1])
    assert {text.get_text() for text in axes.texts} == {"0.550\n(2)", "0.700", "0.850\n(2)"}
    assert landscape.heat_text(summary, across, up) == (
        "Mean acc by δ and k2, from 0.550 to 0.850; best where δ is 0.9 and k2 is 20."
    )


def test_lines_run_through_every_parameter_and_result(made: Any) -> None:
    summary = _summary(made)
    axes = landscape.parallel(summary).axes[0]
    segments = axes.collections[0].get_segments()
    assert len(segments) == 5 and all(len(segment) == 4 for segment in segments)
    # The best is drawn last, on top: δ 0.9 at the foot, k2 20 and acc 0.9 on top, and the objective at its least.
    assert segments[-1].tolist() == [[0, 0], [1, 1], [2, 1], [3, 0]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["δ", "k2", "acc", "spc/\nselection_loss"]


def test_a_parameter_that_some_setting_lacks_has_no_axis(book: Any) -> None:
    made = book(seeds=[0], search=SEARCH)
    for number in range(4):
        params = {DELTA: 0.9, K2: 5} if number else {DELTA: 0.95}
        made.configuration(number, {0: {"acc": 0.1 * number, OBJECTIVE: 1.0}}, params)
    assert not landscape.has_lines(_summary(made))


def test_the_history_shows_every_setting_the_best_so_far_and_what_was_stopped(made: Any) -> None:
    summary = _summary(made)
    upper, lower = landscape.history(summary).axes
    assert [line.get_ydata().tolist() for line in upper.lines[1:2]] == [[0.6, 0.7, 0.8, 0.9, 0.9]]
    assert lower.lines[0].get_xydata()[:, 0].tolist() == [1, 2, 3, 5, 6]
    assert list(lower.lines[2].get_xdata()) == [4]
    assert landscape.history_text(summary).endswith("the best, -0.900, was number 5.")


def test_a_handful_of_settings_has_no_landscape(sweep: Any) -> None:
    assert list(landscape_of(_summary(sweep))) == []


def test_the_pictures_have_words_and_equal_bytes(made: Any) -> None:
    first, second = (list(landscape_of(_summary(made))) for _ in range(2))
    assert [each.path for each in first] == [
        "figures/history.png",
        "figures/parallel.png",
        "figures/pair_spc.strong_threshold_spc.graph_neighbors.png",
    ]
    assert [each.png for each in first] == [each.png for each in second]
    assert all(len(each.alt) > 40 and each.section == "The search" for each in first)


def test_a_stopped_setting_is_a_mark_at_the_foot_of_its_sensitivity(made: Any) -> None:
    summary = _summary(made)
    figure = sensitivity.sensitivity(summary, swept(summary)[0])
    marks = [line for line in figure.axes[0].lines if line.get_marker() == "v"]
    assert [line.get_xydata().tolist() for line in marks] == [[[0.95, 0.04]]]
    assert "a seed pruned" in {text.get_text() for text in figure.legends[0].get_texts()}


def test_the_flat_region_is_shaded_half_of_the_way_to_what_lies_outside(book: Any) -> None:
    made = book(seeds=[0, 1], search={K2: {"choice": [5, 20, 50]}})
    for number, (k2, acc) in enumerate(((5, 0.5), (20, 0.9), (50, 0.9))):
        made.configuration(number, {0: {"acc": acc - 0.01, OBJECTIVE: 1.0}, 1: {"acc": acc, OBJECTIVE: 1.0}}, {K2: k2})
    summary = _summary(made)
    axes = sensitivity.sensitivity(summary, swept(summary)[0]).axes[0]
    low, high = axes.patches[0].get_x(), axes.patches[0].get_x() + axes.patches[0].get_width()
    assert low == pytest.approx(12.5) and 50 < high < 52
