"""SCAN clustering on made-up patterns."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from trainables.contract import ImageData, Result
from trainables.maths import consistency
from trainables.stages import scan
from trainables.stages.scan import Config


def trained(train: Callable[..., Any], data: ImageData, finished: dict[str, Result], **changes: Any) -> Any:
    small = {"augmentation": "affine", "num_neighbors": 5, "batch_size": 60, "lr": 1e-3, "epochs": 4, **changes}
    return train(scan, Config(**small), data, {slot: finished[slot] for slot in scan.INPUTS})


def test_patterns_that_stand_apart_are_clustered_without_error(finished: dict[str, Result]) -> None:
    assert finished["scan"].metrics["acc"] == 1.0


def test_the_epoch_of_the_smallest_selection_loss_is_kept(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    # A rate this high leaves the best epoch behind.
    done = trained(train, data, finished, lr=0.05, epochs=5)
    losses = [each["selection_loss"] for each in done.metrics]
    assert done.result.facts["best_epoch"] == 1 + int(np.argmin(losses))
    assert done.result.metrics["selection_loss"] == min(losses)


def test_the_kept_probabilities_have_the_reported_selection_loss(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    done = trained(train, data, finished, num_heads=3, lr=0.05)
    rows_NC = torch.tensor(done.result.arrays["probabilities_eval"])
    table_NK = torch.tensor(finished["neighbors"].arrays["neighbors_eval"])
    assert float(consistency.selection_loss(rows_NC, table_NK)) == pytest.approx(
        done.result.metrics["selection_loss"], abs=1e-6
    )


def test_selection_on_the_training_images_uses_their_neighbors(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    done = trained(train, data, finished, selection_split="train")
    rows_NC = torch.tensor(done.result.arrays["probabilities_train"])
    table_NK = torch.tensor(finished["neighbors"].arrays["neighbors_train"][:, :6])
    assert float(consistency.selection_loss(rows_NC, table_NK)) == pytest.approx(
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
