"""Figures of refined assignments: what they show, and for whom there are any."""

import numpy as np
import pytest
import torch

from trainables.figures import alternating_normalization, embedding, of_results
from trainables.interfaces import ImageData, Result, Split

LABELS_N = torch.arange(12) % 2


def data(labels_N: torch.Tensor = LABELS_N) -> ImageData:
    part = Split(torch.zeros(12, 1, 8, 8, dtype=torch.uint8), labels_N)
    return ImageData("made up", part, part, ("a", "b"), (0.3,), (0.3,), "made up")


def rows(clusters_N: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    return np.eye(2, dtype=np.float32)[clusters_N]


def result(**more: np.ndarray) -> Result:  # type: ignore[type-arg]
    """Image 0 is in the wrong cluster before, and no image after."""
    before_N = LABELS_N.numpy().copy()
    before_N[0] = 1
    arrays = {"probabilities_eval": rows(before_N), "refined_eval": rows(LABELS_N.numpy())}
    return Result(arrays={**arrays, **more})


def features() -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)


def test_a_result_without_refined_assignments_has_none() -> None:
    assert of_results.refinement(Result(arrays={"probabilities_eval": rows(LABELS_N.numpy())}), data()) == {}


def test_refined_assignments_are_drawn_against_classes_and_among_features() -> None:
    left = result(embedding_eval=features())
    found = of_results.refinement(left, data(), of_results.kept(left, "embedding_eval"))
    assert list(found) == ["confusion_refined", "refined_pca", "refined_tsne"]
    assert found["confusion_refined"].draw().axes[0].get_title() == "Share of each class, accuracy 100.0%"
    for key in ("refined_pca", "refined_tsne"):
        assert found[key].draw().axes[1].get_title() == "after: 1 of 12 changed their cluster"


def test_without_labels_there_is_no_confusion_and_without_features_nothing_else() -> None:
    unknown, left = data(torch.full((12,), -1)), result(features_eval=features())
    found = of_results.refinement(left, unknown, of_results.kept(left, "features_eval"))
    assert list(found) == ["refined_pca", "refined_tsne"]
    assert list(of_results.refinement(result(), data())) == ["confusion_refined"]


def test_both_halves_have_the_same_places_and_the_changed_image_is_ringed() -> None:
    places_P2 = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    figure = alternating_normalization.before_and_after(places_P2, np.array([0, 1, 1]), np.array([0, 1, 0]), "Made up")
    left, right = figure.axes
    for axes, colors in ((left, [0, 1, 1]), (right, [0, 1, 0])):
        points = axes.collections[0]
        np.testing.assert_array_equal(np.asarray(points.get_offsets()), places_P2)
        assert np.asarray(points.get_array()).tolist() == colors
    assert np.asarray(right.collections[1].get_offsets()).tolist() == [[0.0, 2.0]]


def test_pca_finds_the_line_on_which_points_lie() -> None:
    points_PD = np.outer([-1.0, 0.0, 1.0], [3.0, 4.0]).astype(np.float32)
    places_P2, explained = alternating_normalization.pca(points_PD)
    assert explained == pytest.approx(1.0)
    # The points are 5 apart, in one of the two directions of the line.
    np.testing.assert_allclose(np.sort(places_P2[:, 0]), [-5, 0, 5], atol=1e-6)
    np.testing.assert_allclose(places_P2[:, 1], 0, atol=1e-6)


def test_equal_features_and_a_single_direction_are_drawn_too() -> None:
    places_P2, explained = alternating_normalization.pca(np.ones((3, 1), np.float32))
    assert places_P2.shape == (3, 2) and explained == 1.0
    assert not embedding.tsne_places(np.ones((6, 4), np.float32)).any()
