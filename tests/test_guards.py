"""When a clustering counts as collapsed, and when a trial's time is up."""

from trainables.guards import Guards, collapse

RULE = {"min_entropy_share": 0.2, "max_empty_clusters": 3, "patience_epochs": 2}


def epochs(*entropies: float, empty: float = 0.0) -> list[dict[str, float]]:
    return [{"cluster_entropy": entropy, "num_empty_clusters": empty} for entropy in entropies]


def test_bad_epochs_in_a_row_are_a_collapse() -> None:
    assert collapse(epochs(0.9, 0.1, 0.05), **RULE) == "cluster_entropy 0.05 is below 0.2 for 2 epochs"


def test_one_good_epoch_starts_the_count_anew() -> None:
    assert collapse(epochs(0.1, 0.2), **RULE) == ""
    assert collapse(epochs(0.1), **RULE) == ""


def test_empty_clusters_count_above_the_limit() -> None:
    assert collapse(epochs(0.9, 0.9, empty=4), **RULE) == "4 clusters are empty, more than 3 for 2 epochs"
    assert collapse(epochs(0.9, 0.9, empty=3), **RULE) == ""
    assert collapse(epochs(0.9, 0.9, empty=9), **{**RULE, "max_empty_clusters": None}) == ""


def test_a_stage_that_reports_no_clusters_never_collapses() -> None:
    assert collapse([{"loss": 1.0}] * 9, **RULE) == ""


def test_time_counts_from_the_start_of_the_attempt() -> None:
    guards = Guards(None, 10.0, began_s=-100.0)
    what, sentence = guards.verdict([{"loss": 1.0}])
    assert what == "time"
    assert sentence.startswith("time limit: ")
    assert sentence.endswith("s spent of 10 s")
    assert Guards(None, None, began_s=-100.0).verdict([{"loss": 1.0}]) == ("", "")
