"""Neighbor mining on made-up patterns."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from trainables.interfaces import ImageData, Result
from trainables.settings import build
from trainables.stages import neighbors
from trainables.stages.neighbors import Config
from trainables.vector_search.faiss_search import FaissSearch


@pytest.fixture
def pretext() -> Result:
    """Features by class: the head's point along one axis each, the backbone's mix the classes."""
    axes = np.eye(3, dtype=np.float32)
    angles_N = np.linspace(0, 1, 120, dtype=np.float32)
    around = np.stack((np.cos(angles_N), np.sin(angles_N)), axis=1)
    arrays = {
        "head_train": axes[np.arange(120) % 3],
        "head_eval": axes[np.arange(60) % 3],
        "backbone_train": around,
        "backbone_eval": around[:60],
    }
    return Result(arrays=arrays, facts={"mining_space": "head"})


def mined(train: Callable[..., Any], data: ImageData, pretext: Result, **changes: Any) -> Result:
    result: Result = train(neighbors, build(Config, {"num_neighbors": 8, **changes}), data, {"pretext": pretext}).result
    return result


def test_column_0_is_the_image_itself_though_others_are_as_near(
    train: Callable[..., Any], data: ImageData, pretext: Result
) -> None:
    arrays = mined(train, data, pretext).arrays
    np.testing.assert_array_equal(arrays["neighbors_train"][:, 0], np.arange(120))
    np.testing.assert_array_equal(arrays["neighbors_eval"][:, 0], np.arange(60))


def test_half_precision_searches_among_rounded_features(
    train: Callable[..., Any], data: ImageData, pretext: Result
) -> None:
    half = mined(train, data, pretext, mining_space="backbone", half_precision=True)
    wanted = FaissSearch(1, "cpu").knn(pretext.arrays["backbone_train"], None, 9, "inner_product", half=True)
    np.testing.assert_array_equal(half.arrays["neighbors_train"], wanted[1])
    whole = mined(train, data, pretext, mining_space="backbone")
    assert (half.arrays["neighbors_train"] != whole.arrays["neighbors_train"]).any()


def test_tables_have_the_neighbors_asked_for_and_five_for_selection(
    train: Callable[..., Any], data: ImageData, pretext: Result
) -> None:
    arrays = mined(train, data, pretext).arrays
    assert {name: table.shape for name, table in arrays.items()} == {
        "neighbors_train": (120, 9),
        "neighbors_eval": (60, 6),
    }


def test_features_that_tell_the_classes_apart_give_pure_neighbors(
    train: Callable[..., Any], data: ImageData, pretext: Result
) -> None:
    assert mined(train, data, pretext).metrics == {"purity_1": 1.0, "purity_5": 1.0, "purity_eval_5": 1.0}


def test_auto_searches_where_the_pretext_says(train: Callable[..., Any], data: ImageData, pretext: Result) -> None:
    other = replace(pretext, facts={"mining_space": "backbone"})
    chosen = mined(train, data, pretext, mining_space="backbone")
    assert mined(train, data, other).facts == chosen.facts == {"space": "backbone"}
    assert chosen.metrics["purity_5"] < 1.0
