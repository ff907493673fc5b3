"""The k-means baseline on made-up features."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trainables.interfaces import ImageData, Result
from trainables.stages import kmeans
from trainables.stages.kmeans import Config


@pytest.fixture
def pretext() -> Result:
    axes = np.eye(3, dtype=np.float32)
    nothing = {f"backbone_{part}": np.zeros((num, 3), np.float32) for part, num in (("train", 120), ("eval", 60))}
    arrays = {"head_train": axes[np.arange(120) % 3], "head_eval": axes[np.arange(60) % 3]}
    return Result(arrays=arrays | nothing, facts={"mining_space": "head"})


def test_separate_features_are_found_exactly(train: Callable[..., Any], data: ImageData, pretext: Result) -> None:
    found = train(kmeans, Config(), data, {"pretext": pretext}).result
    assert (found.metrics["acc"], found.metrics["mean_squared_distance"]) == (1.0, 0.0)
    assert found.facts == {"space": "head"}


def test_an_evaluation_image_belongs_to_its_nearest_centroid(
    train: Callable[..., Any], data: ImageData, pretext: Result
) -> None:
    arrays = train(kmeans, Config(), data, {"pretext": pretext}).result.arrays
    own_N = arrays["probabilities_eval"].argmax(1)
    np.testing.assert_array_equal(arrays["centroids"][own_N], pretext.arrays["head_eval"])


def test_closeness_is_a_softmax_of_the_negative_squared_distance(
    train: Callable[..., Any], data: ImageData, pretext: Result
) -> None:
    # Squared distance 0 to the own axis and 2 to the two others: 1 / (1 + 2 exp(-2)) = 0.786986.
    rows_NC = train(kmeans, Config(), data, {"pretext": pretext}).result.arrays["probabilities_eval"]
    np.testing.assert_allclose(np.sort(rows_NC, axis=1)[0], [0.106507, 0.106507, 0.786986], atol=1e-6)


def test_more_clusters_than_classes_can_be_asked_for(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    found = train(kmeans, Config(num_clusters=7), data, {"pretext": finished["pretext"]}).result
    assert found.arrays["centroids"].shape[0] == 7


def test_the_features_of_the_patterns_are_clustered_without_error(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    config = Config(feature_space="backbone")
    found = train(kmeans, config, data, {"pretext": finished["pretext"]}).result
    assert found.metrics["acc"] == 1.0
