from dataclasses import replace
from platform.reports.plots import importance
from platform.reports.summarize import summarize
from platform.reports.summary import Importance
from typing import Any

import pytest

DELTA, K2 = "spc.strong_threshold", "spc.graph_neighbors"
SHARES = (
    Importance("acc", "fANOVA", {DELTA: 0.25, K2: 0.75}),
    Importance("spc/selection_loss", "fANOVA", {DELTA: 0.9, K2: 0.1}),
)


@pytest.fixture
def summary(two_parameters: Any) -> Any:
    return replace(summarize(two_parameters.ledger, two_parameters.launch.id), importances=SHARES)


def test_each_metric_and_evaluator_has_a_bar_for_each_parameter(summary: Any) -> None:
    axes = importance.figure(summary).axes[0]
    bars = {bars.get_label(): [bar.get_width() for bar in bars] for bars in axes.containers}
    assert bars == {"acc: fANOVA": [0.25, 0.75], "spc/selection_loss: fANOVA": [0.9, 0.1]}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["δ", "k2"]


def test_the_alt_text_has_every_share_the_largest_first(summary: Any) -> None:
    assert importance.alt_text(summary) == (
        "Importances. acc by fANOVA: k2 0.75, δ 0.25; spc/selection_loss by fANOVA: δ 0.90, k2 0.10."
    )


def test_without_importances_it_does_not_apply(summary: Any) -> None:
    assert importance.applies(summary) and not importance.applies(replace(summary, importances=()))
