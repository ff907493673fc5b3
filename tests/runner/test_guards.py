"""When a clustering counts as collapsed, when a trial's time is up, and what a trial on real digits makes of it."""

from pathlib import Path
from typing import Any

import pytest

from trainables.data import datasets
from trainables.interfaces import Epoch
from trainables.runner.guards import Collapsed, Guards, TimeLimit, collapse
from trainables.runner.pipeline_runner import PipelineRunner
from trainables.runner.runtime import SingleProcess
from trainables.vector_search.faiss_search import FaissSearch

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


def trial_spec(storage: Path, **guards: Any) -> dict[str, Any]:
    dataset: dict[str, Any] = {"name": "digits", "train_limit": 120, "eval_limit": 60}
    changes = {
        "pretext.augmentation": "affine",
        "pretext.batch_size": 60,
        "pretext.epochs": 1,
        "neighbors.num_neighbors": 8,
        "scan.num_neighbors": 5,
        "scan.augmentation": "affine",
        "scan.batch_size": 60,
        "scan.epochs": 4,
    }
    return {
        "kind": "trial",
        "method": "scan",
        "pretext": "",
        "changes": changes,
        "dataset": dataset,
        "fingerprint": datasets.load(datasets.Spec(**dataset)).fingerprint,
        "seed": 0,
        "until": "scan",
        "storage": str(storage),
        "threads": 1,
        **guards,
    }


def walk(guarded: dict[str, Any]) -> tuple[dict[str, float], list[tuple[str, Epoch]]]:
    heard: list[tuple[str, Epoch]] = []
    runner = PipelineRunner(guarded["storage"], SingleProcess(), FaissSearch(1))
    found = runner.walk(guarded, lambda slot, epoch: heard.append((slot, epoch)))
    return {name: value for name, value in found.metrics.items() if "seconds" not in name}, heard


def test_a_collapsed_stage_ends_its_trial_after_the_epochs_of_patience(tmp_path: Path) -> None:
    # Only clusters of the very same size have an entropy of 1.
    rule = {"min_entropy_share": 1.0, "max_empty_clusters": None, "patience_epochs": 2}
    with pytest.raises(Collapsed, match=r"^scan: cluster_entropy .* for 2 epochs, after epoch 2 of 4$") as caught:
        walk(trial_spec(tmp_path, collapse=rule))
    assert 0 <= caught.value.metrics["scan/cluster_entropy"] < 1


def test_a_trial_out_of_time_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with pytest.raises(TimeLimit, match=r"^scan: time limit: \d+ s spent of 1e-06 s, after epoch 1 of 4$"):
        walk(trial_spec(tmp_path / "a", time_limit_s=1e-6))
    resumed, heard = walk(trial_spec(tmp_path / "a"))
    whole, _ = walk(trial_spec(tmp_path / "b"))
    assert [(slot, epoch.number) for slot, epoch in heard] == [("scan", 2), ("scan", 3), ("scan", 4)]
    assert resumed == whole
