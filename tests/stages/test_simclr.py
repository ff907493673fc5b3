"""The SimCLR pretext on made-up patterns."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trainables.interfaces import ImageData
from trainables.settings import build
from trainables.stages import simclr
from trainables.stages.simclr import Config


def config(**changes: Any) -> Config:
    return build(Config, {"augmentation": "affine", "batch_size": 60, "epochs": 3, "optimizer.lr": 0.1, **changes})


def test_views_of_an_image_draw_together(train: Callable[..., Any], data: ImageData) -> None:
    # Alignment in training is the views' mean squared distance.
    distances = [each["train_alignment"] for each in train(simclr, config(epochs=6), data).metrics]
    assert distances[-1] < distances[0]


def test_the_loss_of_an_untrained_network_is_below_that_of_chance(train: Callable[..., Any], data: ImageData) -> None:
    # With all similarities alike the loss is log(2 x 60 - 1); a positive pair is never further than a negative one.
    (first,) = train(simclr, config(epochs=1, **{"optimizer.lr": 1e-9}), data).metrics
    assert first["loss"] < math.log(2 * 60 - 1)


def test_the_rate_falls_along_a_cosine_to_its_floor(train: Callable[..., Any], data: ImageData) -> None:
    rates = [each["lr"] for each in train(simclr, config(epochs=2), data).metrics]
    # From lr to lr / 1000: half way at the second of two epochs.
    assert rates == pytest.approx([0.1, (0.1 + 0.0001) / 2])


def test_features_are_rows_of_length_one_for_both_splits(train: Callable[..., Any], data: ImageData) -> None:
    arrays = train(simclr, config(epochs=1, feature_dim=16), data).result.arrays
    shapes = {name: array.shape for name, array in arrays.items()}
    assert shapes == {
        "head_train": (120, 16),
        "head_eval": (60, 16),
        "backbone_train": (120, 512),
        "backbone_eval": (60, 512),
    }
    for array in arrays.values():
        np.testing.assert_allclose(np.linalg.norm(array, axis=1), 1.0, rtol=1e-5)


def test_judging_on_the_training_images_predicts_them_once(train: Callable[..., Any], union: ImageData) -> None:
    arrays = train(simclr, config(epochs=1), union).result.arrays
    assert arrays["head_eval"] is arrays["head_train"]


def test_the_seed_decides_everything(train: Callable[..., Any], data: ImageData) -> None:
    first, same, other = (train(simclr, config(epochs=1), data, seed=seed) for seed in (0, 0, 1))
    assert first.metrics == same.metrics
    assert first.metrics != other.metrics
    np.testing.assert_array_equal(first.result.arrays["head_train"], same.result.arrays["head_train"])


def test_it_says_which_network_it_trained_and_where_neighbors_are_mined(
    train: Callable[..., Any], data: ImageData
) -> None:
    assert train(simclr, config(epochs=1), data).result.facts == {"network": "small", "mining_space": "head"}
