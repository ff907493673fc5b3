"""Several objectives: the ranking, and where the Pareto front is shown."""

from platform.reports import content, json_view, pareto, terminal
from platform.reports.plots import pareto as pareto_plot
from platform.reports.ranking import fronts
from platform.reports.summarize import summarize
from platform.reports.summary import Summary
from typing import Any

import pytest

AIMS = [{"metric": "spc/loss", "mode": "min"}, {"metric": "spc/agreement", "mode": "max"}]


def launch(book: Any, points: list[tuple[float, float] | None], **changes: Any) -> Any:
    made = book(objective=AIMS, seeds=[0], **changes)
    for number, point in enumerate(points):
        cell: Any = "Diverged: NaN"
        if point is not None:
            cell = {"spc/loss": point[0], "spc/agreement": point[1], "acc": 0.5}
        made.configuration(number, {0: cell}, {"spc.graph_neighbors": number + 5})
    return made


def summary(made: Any) -> Summary:
    return summarize(made.ledger, made.launch.id)


def numbers(rows: Any) -> list[int]:
    return [row.number for row in rows]


def test_fronts_and_ranking(book: Any) -> None:
    # 0 and 1 trade one for the other, 2 is beaten by 1 alone, 3 by all; 4 failed.
    found = summary(launch(book, [(1.0, 0.2), (2.0, 0.9), (3.0, 0.8), (4.0, 0.1), None]))
    assert [numbers(front) for front in fronts(found.configurations, found.objectives)] == [[0, 1], [2], [3]]
    assert numbers(found.ranking) == [0, 1, 2, 3]
    assert numbers(pareto.front(found)) == [0, 1]


def test_a_worse_first_objective_ranks_before_what_its_front_beats(book: Any) -> None:
    found = summary(launch(book, [(2.0, 0.5), (1.0, 0.1), (1.5, 0.05), (9.0, 0.9)]))
    assert numbers(found.ranking) == [1, 0, 3, 2]


def test_everything_shows_the_front(book: Any, tmp_path: Any) -> None:
    made = launch(book, [(1.0, 0.2), (2.0, 0.9), (3.0, 0.8)])
    found = summary(made)
    titles = [table.title for table in content.all_tables(found)]
    assert titles[0].startswith("Settings by Pareto rank in spc/loss (min, label-free) and spc/agreement (max)")
    assert titles[1] == "Pareto front" and len(pareto.table(found).rows) == 2
    assert "Pareto front" in terminal.end_of_sweep(found, tmp_path)
    (drawn,) = pareto_plot.draw(found)
    assert "(1.000, 0.200), (2.000, 0.900)" in drawn.alt
    view = json_view.as_json(found, {}, {}, {})
    assert [each["metrics"]["spc/loss"] for each in view["pareto"]] == [1.0, 2.0]


def test_one_objective_has_no_front(sweep: Any) -> None:
    found = summarize(sweep.ledger, sweep.launch.id)
    assert pareto.front(found) == [] and not pareto_plot.applies(found)
    assert "pareto" not in json_view.as_json(found, {}, {}, {})


def test_without_a_result_nothing_is_drawn(book: Any) -> None:
    found = summary(launch(book, [None, None]))
    assert pareto.front(found) == [] and not pareto_plot.applies(found) and found.best is None


@pytest.mark.parametrize("missing", ["spc/loss", "spc/agreement"])
def test_a_setting_without_one_of_them_is_not_ranked(book: Any, missing: str) -> None:
    made = launch(book, [(1.0, 0.2)])
    cell = {"spc/loss": 0.0, "spc/agreement": 1.0}
    made.configuration(
        1, {0: {name: value for name, value in cell.items() if name != missing}}, {"spc.graph_neighbors": 9}
    )
    assert numbers(summary(made).ranking) == [0]
