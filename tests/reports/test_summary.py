import math
from platform.ledger.aggregate import Objective, Spread, spread
from platform.ledger.rows import COLLAPSED, PRUNED
from platform.reports.summarize import summarize
from platform.reports.summary import Summary, metrics_of_best
from typing import Any

import pytest

OBJECTIVE = "spc/selection_loss"


def _summary(book: Any) -> Summary:
    return summarize(book.ledger, book.launch.id)


def test_the_deviation_divides_by_n_minus_one() -> None:
    # Mean 3; squares 1 + 1 + 0 over n - 1 = 2.
    assert spread([2.0, 4.0, 3.0]) == Spread(3.0, 1.0, 3)


def test_one_seed_has_no_deviation() -> None:
    assert spread([0.7]) == Spread(0.7, None, 1)


def test_the_best_setting_as_flat_metrics(sweep: Any) -> None:
    found = metrics_of_best(_summary(sweep))
    assert (found[f"best/{OBJECTIVE}"], found[f"best/{OBJECTIVE}_std"]) == (-3.0, 1.0)
    assert math.isclose(found["regret"], 0.1)


@pytest.mark.parametrize(
    "states", [("",), (PRUNED,), (COLLAPSED,), ("share",), (PRUNED, "share"), (COLLAPSED, "", PRUNED)]
)
def test_a_row_is_excluded_if_any_seed_was_pruned_or_collapsed(book: Any, states: tuple[str, ...]) -> None:
    made = book(seeds=list(range(len(states))))
    done = {"acc": 0.9, OBJECTIVE: -1.0}
    metrics = {"": done, "share": done | {"spc/cluster_share_max": 0.995}}
    made.configuration(0, {seed: metrics.get(state) for seed, state in enumerate(states)})
    for seed, state in enumerate(states):
        if state in (PRUNED, COLLAPSED):
            made.ledger.stop(made.launch.id, f"{made.launch.id}-0-{seed}", state, "behind", {}, 1.0)
    summary = _summary(made)
    expected = "collapsed" if {COLLAPSED, "share"} & set(states) else "pruned" if PRUNED in states else ""
    (row,) = summary.configurations
    assert row.exclusion == expected
    assert (row.objective is None) == bool(expected)
    assert summary.comparable("acc") == ([] if expected else [row])


def test_figures_show_the_metrics_that_every_result_has(book: Any) -> None:
    made = book(seeds=[0])
    assert _summary(made).figure_metrics == []
    made.configuration(0, {0: {OBJECTIVE: 1.0, "acc": 0.5, "nmi": 0.5}}, {"spc.graph_neighbors": 5})
    made.configuration(1, {0: "OSError: disk"}, {"spc.graph_neighbors": 6})
    assert _summary(made).figure_metrics == ["acc", OBJECTIVE]
    made.configuration(2, {0: {OBJECTIVE: 1.0}}, {"spc.graph_neighbors": 7})
    assert _summary(made).figure_metrics == [OBJECTIVE]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_only_the_objective_has_the_studys_mode(book: Any, mode: str) -> None:
    summary = _summary(book(objective={"metric": OBJECTIVE, "mode": mode}))
    assert summary.objective_of(OBJECTIVE) == Objective(OBJECTIVE, mode)
    assert summary.objective_of("acc") == Objective("acc", "max")
    assert summary.objective_of("spc/nmi") == Objective("spc/nmi", "max")
