from platform.reports.plots import contour
from platform.reports.summarize import summarize
from typing import Any

import numpy as np
import pytest

DELTA, K2 = "spc.strong_threshold", "spc.graph_neighbors"
SEARCH = {DELTA: {"choice": [0.9, 0.95]}, K2: {"choice": [5, 20]}}


def test_a_field_of_the_map_is_the_mean_of_its_settings(two_parameters: Any) -> None:
    summary = summarize(two_parameters.ledger, two_parameters.launch.id)
    ((across, up),) = contour.pairs(summary)
    axes = contour.figure(summary, across, up).axes[0]
    shown = axes.images[0].get_array()
    # Rows are k2 5 and 20 from below; the pruned setting leaves its field white.
    assert np.ma.filled(shown, np.nan)[0].tolist() == pytest.approx([0.55, 0.7])
    assert shown[1][0] == pytest.approx(0.85) and not np.isfinite(np.ma.filled(shown, np.nan)[1][1])
    assert {text.get_text() for text in axes.texts} == {"0.550\n(2)", "0.700", "0.850\n(2)"}


def test_the_alt_text_names_the_best_place(two_parameters: Any) -> None:
    (drawn,) = contour.draw(summarize(two_parameters.ledger, two_parameters.launch.id))
    assert drawn.alt == "Mean acc by δ and k2, from 0.550 to 0.850; best where δ is 0.9 and k2 is 20."
    assert (drawn.name, drawn.title) == ("pair_spc.strong_threshold_spc.graph_neighbors", "δ and k2 together")


@pytest.mark.parametrize(
    ("mode", "best"), [("min", "best where δ is 0.9 and k2 is 5"), ("max", "δ is 0.95 and k2 is 20")]
)
def test_without_accuracy_the_best_place_is_the_objectives_good_end(book: Any, mode: str, best: str) -> None:
    made = book(seeds=[0], search=SEARCH, objective={"metric": "spc/x", "mode": mode})
    for number, (delta, k2) in enumerate([(0.9, 5), (0.95, 5), (0.9, 20), (0.95, 20)]):
        made.configuration(number, {0: {"spc/x": float(number)}}, {DELTA: delta, K2: k2})
    (drawn,) = contour.draw(summarize(made.ledger, made.launch.id))
    assert best in drawn.alt


def test_a_handful_of_settings_has_no_map(sweep: Any) -> None:
    assert not contour.applies(summarize(sweep.ledger, sweep.launch.id))
