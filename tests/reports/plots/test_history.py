from platform.reports.plots import history
from platform.reports.summarize import summarize
from typing import Any

import pytest

DELTA = "spc.strong_threshold"


def test_it_shows_every_setting_the_best_so_far_and_what_was_stopped(two_parameters: Any) -> None:
    summary = summarize(two_parameters.ledger, two_parameters.launch.id)
    upper, lower = history.figure(summary).axes
    assert [line.get_ydata().tolist() for line in upper.lines[1:2]] == [[0.6, 0.7, 0.8, 0.9, 0.9]]
    assert lower.lines[0].get_xydata()[:, 0].tolist() == [1, 2, 3, 5, 6]
    assert list(lower.lines[2].get_xdata()) == [4]
    assert history.alt_text(summary).endswith("the best, -0.900, was number 5.")


@pytest.mark.parametrize(("mode", "best"), [("min", [2.0, 1.0, 1.0, 0.5]), ("max", [2.0, 2.0, 3.0, 3.0])])
def test_the_best_so_far_follows_the_objectives_good_end(book: Any, mode: str, best: list[float]) -> None:
    made = book(seeds=[0], search={DELTA: {"uniform": [0.5, 1.0]}}, objective={"metric": "spc/x", "mode": mode})
    for number, value in enumerate((2.0, 1.0, 3.0, 0.5)):
        made.configuration(number, {0: {"spc/x": value}}, {DELTA: 0.5 + 0.1 * number})
    (axes,) = history.figure(summarize(made.ledger, made.launch.id)).axes
    assert axes.lines[1].get_ydata().tolist() == best


def test_a_handful_of_settings_has_no_history(sweep: Any) -> None:
    assert not history.applies(summarize(sweep.ledger, sweep.launch.id))
