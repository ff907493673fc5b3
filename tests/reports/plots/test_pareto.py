from platform.reports.plots import pareto
from platform.reports.summarize import summarize
from typing import Any

OBJECTIVES = [{"metric": "spc/loss", "mode": "min"}, {"metric": "spc/agreement", "mode": "max"}]


def test_the_front_is_joined_among_all_settings(book: Any) -> None:
    made = book(objective=OBJECTIVES, seeds=[0])
    for number, (loss, agreement) in enumerate([(2.0, 0.9), (1.0, 0.2), (3.0, 0.8)]):
        metrics = {"spc/loss": loss, "spc/agreement": agreement}
        made.configuration(number, {0: metrics}, {"spc.graph_neighbors": number + 5})
    summary = summarize(made.ledger, made.launch.id)
    axes = pareto.figure(summary).axes[0]
    assert [line.get_xydata().tolist() for line in axes.lines] == [
        [[2.0, 0.9], [1.0, 0.2], [3.0, 0.8]],
        [[1.0, 0.2], [2.0, 0.9]],
    ]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("spc/loss (min)", "spc/agreement (max)")


def test_one_objective_has_no_front_to_draw(sweep: Any) -> None:
    assert not pareto.applies(summarize(sweep.ledger, sweep.launch.id))
