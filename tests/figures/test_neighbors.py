"""Figures of neighbors, prototypes and cluster sizes: what they show."""

import numpy as np
import torch

from trainables.figures import clusters, neighbors
from trainables.maths import metrics

IMAGES_NCHW = torch.arange(12, dtype=torch.uint8).mul(20).view(12, 1, 1, 1).expand(12, 1, 4, 4)


def test_a_prototype_is_the_sure_image_nearest_to_the_mean_of_the_sure_ones() -> None:
    # Cluster 0: images 0..2 with features 0, 1, 5 (mean 2, so image 1); cluster 1: image 3 alone; cluster 2: none.
    rows_NC = torch.tensor([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.7, 0.3, 0.0], [0.1, 0.9, 0.0]])
    features_ND = torch.tensor([[0.0], [1.0], [5.0], [9.0]])
    assert metrics.prototypes(rows_NC, lambda rows: features_ND[rows]).tolist() == [1, 3, -1]


def test_an_unsure_image_is_no_candidate_for_a_prototype() -> None:
    # Of the two surest, 0 and 2 (features 0 and 4, mean 2), both are as far: the first; image 1 lies at the mean.
    rows_NC = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2]])
    features_ND = torch.tensor([[0.0], [2.0], [4.0]])
    assert metrics.prototypes(rows_NC, lambda rows: features_ND[rows], candidates=2).tolist() == [0, -1]


def test_the_neighbors_sheet_begins_with_the_image_and_frames_neighbors_of_another_class() -> None:
    table_NK = np.array([[image, (image + 1) % 12] for image in range(12)])
    figure = neighbors.neighbors(IMAGES_NCHW, table_NK, np.array([0] * 11 + [1]))
    sheet_HWC = np.asarray(figure.axes[0].images[0].get_array())
    assert [int(sheet_HWC[0, column, 0]) for column in (0, 5)] == [0, 20]
    # Only the pairs (10, 11) and (11, 0) cross the two classes.
    assert len(figure.axes[0].lines) == 2


def test_no_neighbor_is_framed_where_labels_are_unknown() -> None:
    table_NK = np.array([[image, (image + 1) % 12] for image in range(12)])
    assert not neighbors.neighbors(IMAGES_NCHW, table_NK, np.full(12, -1)).axes[0].lines


def test_the_sheet_of_prototypes_leaves_an_empty_cluster_white() -> None:
    figure = neighbors.prototypes(IMAGES_NCHW, np.array([3, -1]))
    sheet_HWC = np.asarray(figure.axes[0].images[0].get_array())
    assert int(sheet_HWC[0, 0, 0]) == 60 and bool((sheet_HWC[:, 5:] == 255).all())


def test_cluster_sizes_are_drawn_largest_first_with_the_fair_size() -> None:
    rows_NC = torch.eye(3)[torch.tensor([1, 1, 1, 0])]
    axes = neighbors.cluster_sizes(rows_NC).axes[0]
    assert [patch.get_height() for patch in axes.patches] == [3, 1, 0]  # type: ignore[attr-defined]
    assert axes.lines[0].get_ydata()[0] == 4 / 3  # type: ignore[index]


def test_confusion_puts_classes_of_one_group_together_with_a_line_between_groups() -> None:
    # Classes a, b, c of groups 1, 0, 1: b comes first; each class is one cluster of the same number.
    figure = clusters.confusion(np.diag([5, 6, 7]), ["a", "b", "c"], (1, 0, 1))
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a", "c"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "0", "2"]
    assert [line.get_xdata()[0] for line in axes.lines if line.get_ydata()[0] != line.get_ydata()[1]] == [0.5]  # type: ignore[index]
    assert [line.get_ydata()[0] for line in axes.lines if line.get_ydata()[0] == line.get_ydata()[1]] == [0.5]  # type: ignore[index]
