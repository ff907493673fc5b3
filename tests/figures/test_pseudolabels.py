"""Figures of pseudo-labels and probes: what they show."""

import numpy as np
import torch
from matplotlib.figure import Figure

from trainables.figures import of_results
from trainables.figures import pseudolabels as drawing
from trainables.interfaces import ImageData, Result, Split

# Ten images, gray 0, 20, ..., 180. Cluster 3 holds six of them, cluster 1 four; 0 and 2 are empty.
IMAGES_NCHW = torch.arange(10, dtype=torch.uint8).mul(20).view(10, 1, 1, 1).expand(10, 1, 4, 4)
LABELS_N = np.array([3, 3, 3, 3, 3, 3, 1, 1, 1, 1])
WEIGHTS_N = np.array([1.5, 0.5, 1.0, 0.9, 0.8, 0.7, 0.6, 1.2, 0.5, 1.5], np.float32)


def data() -> ImageData:
    part = Split(IMAGES_NCHW, torch.zeros(10, dtype=torch.int64))
    return ImageData("gray", part, part, ("a",), (0.3,), (0.3,), "gray")


def tick_names(figure: Figure, which: str) -> list[str]:
    axis = figure.axes[0].xaxis if which == "x" else figure.axes[0].yaxis
    return [label.get_text() for label in axis.get_ticklabels()]


def test_boxes_stand_for_the_largest_clusters_first_and_empty_ones_have_none() -> None:
    figure = drawing.weights_by_cluster(WEIGHTS_N, LABELS_N)
    assert tick_names(figure, "x") == ["3", "1"]
    # The median of cluster 3 is (0.8 + 0.9) / 2, that of cluster 1 (0.6 + 1.2) / 2.
    medians = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_color() == drawing.ORANGE]
    np.testing.assert_allclose(medians, [0.85, 0.9], rtol=1e-6)


def test_a_row_has_the_largest_weights_left_and_the_smallest_right_and_no_image_twice() -> None:
    figure = drawing.trusted_and_not(IMAGES_NCHW, WEIGHTS_N, LABELS_N, each=2)
    sheet_HWC = np.asarray(figure.axes[0].images[0].get_array())
    # A slot is 4 px and a gap of 1; the middle one is empty.
    grays = [int(sheet_HWC[0, 5 * column, 0]) for column in range(5)]
    assert grays == [0, 40, 255, 100, 20]
    assert [int(sheet_HWC[5, 5 * column, 0]) for column in range(5)] == [180, 140, 255, 120, 160]
    assert tick_names(figure, "y") == ["3 (6)", "1 (4)"]


def test_a_small_cluster_shows_each_image_once() -> None:
    figure = drawing.trusted_and_not(IMAGES_NCHW, WEIGHTS_N, LABELS_N, each=3)
    sheet_HWC = np.asarray(figure.axes[0].images[0].get_array())
    row = [int(sheet_HWC[5, 5 * column, 0]) for column in range(7)]
    assert sorted(gray for gray in row if gray != 255) == [120, 140, 160, 180]


def test_agreement_draws_both_lines_at_their_epochs() -> None:
    history = [{"epoch": 1, "pseudo_nmi": 0.2}, {"epoch": 2, "pseudo_nmi": 0.3, "assignment_nmi": 0.7}]
    lines = drawing.agreement(history).axes[0].lines
    assert [list(map(float, line.get_xdata())) for line in lines] == [[2.0], [1.0, 2.0]]
    assert [list(map(float, line.get_ydata())) for line in lines] == [[0.7], [0.2, 0.3]]


def test_accuracy_by_layer_has_two_bars_for_each() -> None:
    metrics = {"conv1_acc": 0.2, "conv1_train_acc": 0.3, "output_acc": 0.5, "output_train_acc": 0.6}
    figure = drawing.accuracy_by_layer(Result(facts={"layers": ["conv1", "output"]}, metrics=metrics))
    assert [bar.get_height() for bar in figure.axes[0].patches] == [0.2, 0.5, 0.3, 0.6]
    assert tick_names(figure, "x") == ["conv1", "output"]


def test_only_what_there_are_numbers_for_is_drawn() -> None:
    ones = Result(arrays={"weights": np.ones(10, np.float32), "pseudo_labels": LABELS_N})
    assert of_results.pseudo_labels(ones, data(), []) == {}
    assert set(of_results.pseudo_labels(ones, data(), [{"assignment_nmi": 0.5}])) == {"assignment_nmi"}
    weighted = Result(arrays={"weights": WEIGHTS_N, "pseudo_labels": LABELS_N})
    assert set(of_results.pseudo_labels(weighted, data(), [])) == {"weights_by_cluster", "trusted_and_not"}
