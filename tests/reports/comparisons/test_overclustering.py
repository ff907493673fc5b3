"""More clusters than classes: their one-to-one accuracy is ranked and compared nowhere."""

from platform.reports import content
from platform.reports.comparisons import differences, published
from platform.reports.summarize import summarize
from platform.reports.summary import Summary
from typing import Any

import pytest

CLUSTERS = "scan.num_clusters"


def launch(book: Any, runs: list[dict[str, float]], **changes: Any) -> Summary:
    made = book(seeds=[0, 1, 2], **changes)
    variants = list(changes.get("ablate", {})) or [""] * len(runs)
    for number, (metrics, variant) in enumerate(zip(runs, variants, strict=True)):
        cells = {seed: {"spc/selection_loss": -1.0 - number + 0.1 * seed, **metrics} for seed in (0, 1, 2)}
        made.configuration(number, cells, {CLUSTERS: 10 * (number + 1)}, variant)
    return summarize(made.ledger, made.launch.id)


EXACT = {"acc": 0.8, "nmi": 0.8, "ari": 0.8}
MORE = {"acc": 0.5, "acc_majority": 0.9, "nmi": 0.7, "nmi_majority": 0.9, "ari": 0.5, "ari_majority": 0.9}


@pytest.mark.parametrize("runs", [[EXACT, MORE], [MORE, EXACT]], ids=["below", "as the base"])
def test_rows_are_not_compared_where_one_has_more_clusters(book: Any, runs: Any) -> None:
    summary = launch(book, runs, ablate={"one": {}, "two": {}})
    (row,) = differences.differences(summary).rows
    assert row[-1].text == "clusters outnumber the classes in one of the two rows: not compared"
    assert all("worse" not in cell.text and "better" not in cell.text for cell in row)


def test_the_setting_that_labels_would_pick_is_among_those_with_as_many_clusters(book: Any) -> None:
    better = {**MORE, "acc": 0.95}
    summary = launch(book, [EXACT, better], search={CLUSTERS: {"choice": [10, 20]}})
    assert summary.oracle is not None and summary.oracle.number == 0
    assert summary.best is not None and summary.best.number == 1 and summary.regret is None
    assert [row.number for row in summary.comparable("acc")] == [0]


def test_where_all_have_more_the_merged_accuracy_stands_in_its_place(book: Any) -> None:
    runs = [MORE, {**MORE, "acc": 0.1, "acc_majority": 0.95}]
    summary = launch(book, runs, search={CLUSTERS: {"choice": [20, 30]}})
    assert summary.accuracy == "acc_majority" and summary.oracle is not None and summary.oracle.number == 1
    assert summary.regret == pytest.approx(0.0)


def test_merged_and_raw_values_stand_side_by_side_and_the_published_beside_the_merged(book: Any) -> None:
    rows = {"over": {"published": {"acc_majority": 86.2, "ari_majority": 73.8}}}
    summary = launch(book, [MORE], ablate=rows)
    assert content.ablation(summary).columns[2:8] == (
        "acc", "acc_majority", "nmi", "nmi_majority", "ari", "ari_majority",
    )  # fmt: skip
    assert [row[4].text for row in published.table(summary).rows] == ["+0.038", "+0.162"]
