"""SCAN clustering on made-up patterns."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from trainables.interfaces import ImageData, Result
from trainables.maths import scan_loss
from trainables.runner.runtime import SingleProcess, StageRuntime
from trainables.settings import SettingsError, build
from trainables.stages import scan
from trainables.stages.scan import Config
from trainables.vector_search.faiss_search import FaissSearch


def trained(train: Callable[..., Any], data: ImageData, finished: dict[str, Result], **changes: Any) -> Any:
    small = {
        "augmentation": "affine",
        "num_neighbors": 5,
        "batch_size": 60,
        "optimizer.lr": 1e-3,
        "epochs": 4,
        **changes,
    }
    return train(scan, build(Config, small), data, {slot: finished[slot] for slot in scan.INPUTS})


def test_patterns_that_stand_apart_are_clustered_without_error(finished: dict[str, Result]) -> None:
    assert finished["scan"].metrics["acc"] == 1.0


def test_the_epoch_of_the_smallest_selection_loss_is_kept(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    # A rate this high leaves the best epoch behind.
    done = trained(train, data, finished, **{"optimizer.lr": 0.05}, epochs=5)
    losses = [each["selection_loss"] for each in done.metrics]
    assert done.result.facts["best_epoch"] == 1 + int(np.argmin(losses))
    assert done.result.metrics["selection_loss"] == min(losses)


def test_the_kept_probabilities_have_the_reported_selection_loss(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    done = trained(train, data, finished, num_heads=3, selection_split="eval", **{"optimizer.lr": 0.05})
    rows_NC = torch.tensor(done.result.arrays["probabilities_eval"])
    table_NK = torch.tensor(finished["neighbors"].arrays["neighbors_eval"])
    assert float(scan_loss.selection_loss(rows_NC, table_NK)) == pytest.approx(
        done.result.metrics["selection_loss"], abs=1e-6
    )


def test_selection_on_the_training_images_uses_their_neighbors(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    done = trained(train, data, finished, selection_split="train")
    rows_NC = torch.tensor(done.result.arrays["probabilities_train"])
    table_NK = torch.tensor(finished["neighbors"].arrays["neighbors_train"][:, :6])
    assert float(scan_loss.selection_loss(rows_NC, table_NK)) == pytest.approx(
        done.result.metrics["selection_loss"], abs=1e-6
    )


def test_the_loss_is_consistency_minus_the_weighted_entropy(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    for each in trained(train, data, finished, entropy_weight=3.0, epochs=2).metrics:
        assert each["loss"] == pytest.approx(each["consistency"] - 3.0 * each["entropy"], abs=1e-5)


def test_update_head_only_leaves_the_backbone_and_its_statistics_as_they_were(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    done = trained(train, data, finished, update_head_only=True, epochs=2)
    before = finished["pretext"].weights["backbone"]
    for name, value in done.result.weights["backbone"].items():
        assert torch.equal(value, before[name]), name


def test_the_backbone_is_trained_otherwise(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    done = trained(train, data, finished, epochs=1)
    before = finished["pretext"].weights["backbone"]
    assert any(not torch.equal(value, before[name]) for name, value in done.result.weights["backbone"].items())


def test_without_neighbors_an_image_is_paired_with_itself(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    # The plain view has no draw in it: both sides of a pair are the same rows, and -log |p|^2 is never below the
    # disagreement of one-hot rows, 0; the sum over pairs of "all" with one neighbor would differ.
    alone = trained(train, data, finished, num_neighbors=0, augmentation="eval", epochs=1).metrics
    rows = trained(
        train, data, finished, num_neighbors=0, augmentation="eval", epochs=1, neighbor_sampling="all"
    ).metrics
    assert alone == rows


def test_more_clusters_than_classes_give_as_many_columns(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    done = trained(train, data, finished, num_clusters=5, epochs=1)
    assert done.result.arrays["probabilities_train"].shape == (120, 5)
    assert done.result.facts["num_clusters"] == 5


def test_judging_on_the_training_images_gives_them_as_evaluation(
    train: Callable[..., Any], union: ImageData, finished: dict[str, Result]
) -> None:
    table = finished["neighbors"].arrays["neighbors_train"]
    tables = Result(arrays={"neighbors_train": table, "neighbors_eval": table[:, :6]}, facts={"space": "head"})
    done = trained(train, union, {**finished, "neighbors": tables}, epochs=1)
    assert done.result.arrays["probabilities_eval"] is done.result.arrays["probabilities_train"]


def test_heads_on_frozen_features_train_as_the_whole_network_does(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"update_head_only": True, "augmentation": "eval", "num_heads": 3, "epochs": 3}
    fast = trained(train, data, finished, **settings)
    # The same plain view under another name goes through the whole network.
    monkeypatch.setitem(scan.augment.AUGMENTATIONS, "standard", scan.augment.AUGMENTATIONS["eval"])
    slow = trained(train, data, finished, **{**settings, "augmentation": "standard"})
    for one, other in zip(fast.metrics, slow.metrics, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    np.testing.assert_allclose(
        fast.result.arrays["probabilities_eval"], slow.result.arrays["probabilities_eval"], atol=1e-5
    )


@pytest.mark.parametrize("changes", [{}, {"update_head_only": True, "augmentation": "eval", "num_heads": 2}])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_last_bit(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result], changes: dict[str, Any]
) -> None:
    settings = {"augmentation": "affine", "num_neighbors": 5, "batch_size": 60, "epochs": 3, **changes}
    inputs = {slot: finished[slot] for slot in scan.INPUTS}
    whole = train(scan, build(Config, settings), data, inputs)
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), scan.NAMESPACE, 0, FaissSearch(1), None)
    steps = scan.train(build(Config, settings), data, inputs, runtime)
    next(steps)
    # Taken while the second epoch is the latest: at the end the best one's weights lie in the network.
    resumed = train(scan, build(Config, settings), data, inputs, saved=copy.deepcopy(next(steps).state()))
    assert resumed.metrics == whole.metrics[2:]
    np.testing.assert_array_equal(
        resumed.result.arrays["probabilities_eval"], whole.result.arrays["probabilities_eval"]
    )


def test_a_known_prior_takes_the_place_of_the_entropy(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    # KL to the uniform prior is log 3 minus the entropy, so the two losses differ by 5 log 3 and nothing else.
    prior = trained(train, data, finished, class_prior="0.3334,0.3333,0.3333", epochs=1).metrics[0]
    assert prior["loss"] == pytest.approx(prior["consistency"] + 5 * (np.log(3) - prior["entropy"]), abs=1e-3)


@pytest.mark.parametrize(
    ("text", "part"), [("0.5,half", "Write for example"), ("0.5,0.4", "Its sum is 0.9"), ("1.5,-0.5", "above 0")]
)
def test_a_bad_prior_is_refused_with_its_value(text: str, part: str) -> None:
    with pytest.raises(SettingsError, match=part):
        Config(class_prior=text)


def test_a_prior_needs_a_share_for_each_cluster(data: ImageData) -> None:
    found = dict(scan.limits(Config(class_prior="0.5,0.5", batch_size=60), data.shape))
    assert "each of the 3 clusters, but has 2" in found["class_prior"]


def test_neighbors_of_the_same_class_only_are_marked_as_looking_at_labels(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    done = trained(train, data, finished, same_class_only=True, epochs=1)
    assert done.result.facts["looks_at_labels"] is True
    assert finished["scan"].facts["looks_at_labels"] is False
