"""What a report says of alternating normalization: what it did in each row, and where it could not act."""

from platform.reports import content
from platform.reports.comparisons import normalization
from platform.reports.summarize import summarize
from typing import Any

import pytest

from trainables.training.normalization_metrics import LABELED, OF_A_RUN, idle

ACTED = dict(zip(OF_A_RUN, (1000.0, 250.0, 250.0, 40.0, 0.2), strict=True)) | {
    "an_acc_before": 0.9,
    "an_acc_after": 0.91,
}


def summary_of(book: Any, **stages: dict[str, float]) -> Any:
    """A study of two rows, plain and with normalized stages, with the same metrics for each of two seeds."""
    made = book(ablate={"plain": {}, "AN": {}}, seeds=[0, 1])
    own = {f"{slot}/{name}": value for slot, metrics in stages.items() for name, value in metrics.items()}
    for number, (name, extra) in enumerate((("plain", {}), ("AN", own))):
        cell = {"spc/selection_loss": -0.5, "acc": 0.9, **extra}
        made.configuration(number, {seed: cell for seed in (0, 1)}, variant=name)
    return summarize(made.ledger, made.launch.id)


def test_a_study_without_it_has_neither_table_nor_warning(book: Any) -> None:
    summary = summary_of(book)
    assert not normalization.table(summary).rows and not normalization.warnings(summary)


def test_where_it_acted_the_shares_stand_in_the_table_and_nothing_warns(book: Any) -> None:
    summary = summary_of(book, scan=ACTED, selflabel={**ACTED, LABELED: 0.1})
    table = normalization.table(summary)
    assert [[cell.text for cell in row][:2] for row in table.rows] == [["AN", "scan"], ["AN", "selflabel"]]
    assert [cell.order for cell in table.rows[0][2:7]] == [0.25, 1.0, 0.04, 0.9, 0.91]
    assert not normalization.warnings(summary)
    assert table in content.all_tables(summary)


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"an_unsure_rows": 0.0, "an_reference_rows": 0.0, "an_changed_rows": 0.0}, "no row was unsure"),
        ({"an_unsure_rows": 990.0}, "99% of the rows were unsure"),
        ({"an_reference_rows": 0.0}, "no unsure row had a sure one"),
        ({"an_reference_rows": 125.0}, "50% of the unsure rows had no sure one"),
        ({"an_run_missing_clusters": 5.1}, "5.1 clusters of a batch had no sure row"),
        ({"an_changed_rows": 0.0}, "no row changed its cluster"),
        ({LABELED: 0.0}, "no corrected row was above the threshold of self-labeling"),
    ],
)
def test_each_way_in_which_it_cannot_act_is_a_warning(book: Any, changes: dict[str, float], phrase: str) -> None:
    (sentence,) = normalization.warnings(summary_of(book, dec={**ACTED, **changes}))
    assert sentence.startswith("Beware: AN: alternating normalization of dec") and phrase in sentence
    assert sentence in content.headline(summary_of(book, dec={**ACTED, **changes}))


def test_weights_alone_change_no_cluster_and_need_not() -> None:
    alone = {name: value for name, value in ACTED.items() if name in OF_A_RUN} | {"an_changed_rows": 0.0}
    assert idle(alone) == []
