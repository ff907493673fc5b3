"""Figures of the pseudo-graph, the confidence and the features."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.figures import clusters, correlation, of_results
from trainables.interfaces import ImageData, Result, Split

LABELS = torch.arange(40) % 3
DATA = ImageData(
    "made up", Split(torch.zeros(40, 1, 8, 8, dtype=torch.uint8), LABELS),
    Split(torch.zeros(40, 1, 8, 8, dtype=torch.uint8), LABELS), ("a", "b", "c"), (0.0,), (1.0,), "made up",
)  # fmt: skip
ARRAYS = {
    "confidence_untrained": np.full(40, 0.41, np.float32),
    "confidence_last": np.full(40, 1.0000001, np.float32),
    "features_eval": np.random.default_rng(0).random((40, 8), np.float32),
}
HISTORY = [
    {"epoch": 1, "bcubed_precision": 0.2, "bcubed_recall": 0.5},
    {"epoch": 2, "bcubed_precision": 0.4, "bcubed_recall": 0.6},
]


def test_all_three_are_drawn_and_saved(tmp_path: Path) -> None:
    left = Result(arrays=ARRAYS)
    found = of_results.pseudo_graph(left, HISTORY) | of_results.features_by_class(left, DATA)
    paths = clusters.save({name: each.draw() for name, each in found.items()}, tmp_path)
    assert {path.name for path in paths} == {"pseudo_graph.png", "confidence.png", "features.png"}


def test_without_labels_there_is_no_graph_to_judge() -> None:
    assert list(of_results.pseudo_graph(Result(arrays=ARRAYS), [{"epoch": 1, "loss": 0.5}])) == ["confidence"]


def test_no_image_is_missing_from_the_histograms() -> None:
    figure = correlation.confidence(ARRAYS["confidence_untrained"], ARRAYS["confidence_last"])
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert sum(heights) == 80 and sorted(heights)[-2:] == [40, 40]


@pytest.mark.parametrize("num", [1, 3, 40])
def test_features_that_are_few_or_all_alike_are_drawn(num: int) -> None:
    alike = Result(arrays={"features_eval": np.ones((num, 8), np.float32)})
    few = replace(DATA, eval=Split(DATA.eval.images_NCHW[:num], LABELS[:num]))
    places = of_results.features_by_class(alike, few)["features"].draw().axes[0].collections[0].get_offsets()
    assert len(places) == num


@pytest.mark.parametrize("num_known", [0, 1, 7])
def test_features_are_colored_by_class_where_it_is_known(num_known: int) -> None:
    features_ND = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    labels_N = torch.where(torch.arange(40) < num_known, LABELS[:40], -1)
    few = replace(DATA, eval=Split(DATA.eval.images_NCHW[:40], labels_N))
    drawn = of_results.features_by_class(Result(arrays={"features_eval": features_ND}), few)
    assert bool(drawn) == bool(num_known)
    if drawn:
        assert len(drawn["features"].draw().axes[0].collections[0].get_offsets()) == num_known
