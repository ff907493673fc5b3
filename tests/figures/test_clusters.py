"""Figures: what they show, and that equal numbers give equal files."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from trainables.figures import clusters

IMAGES_NCHW = torch.arange(12, dtype=torch.uint8).mul(20).view(12, 1, 1, 1).expand(12, 1, 4, 4)
PROBABILITIES_NC = torch.tensor([[0.5 + 0.04 * image, 0.5 - 0.04 * image] for image in range(12)])
COUNTS_CY = np.array([[0, 8], [6, 2], [0, 0]])


def picture(figure: Figure) -> np.ndarray:
    return np.asarray(figure.axes[0].images[0].get_array())


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in [*figure.texts, *figure.axes[0].texts]]


def tick_names(figure: Figure, which: str) -> list[str]:
    axis = figure.axes[0].xaxis if which == "x" else figure.axes[0].yaxis
    return [label.get_text() for label in axis.get_ticklabels()]


def test_confusion_divides_rows_by_the_class_and_orders_columns_by_the_best_map() -> None:
    # Class 0 is all in cluster 1; class 1 has 8 of 10 in cluster 0 and 2 in cluster 1; cluster 2 is left over.
    figure = clusters.confusion(COUNTS_CY, ["cat", "dog"])
    np.testing.assert_allclose(picture(figure), [[1.0, 0.0, 0.0], [0.2, 0.8, 0.0]])
    assert tick_names(figure, "x") == ["1", "0", "2"]
    assert tick_names(figure, "y") == ["cat", "dog"]


def test_confusion_writes_shares_in_percent() -> None:
    assert sorted(texts(clusters.confusion(COUNTS_CY, ["cat", "dog"]))) == ["100", "20", "80"]


def test_confusion_of_a_class_without_images_is_blank_there() -> None:
    figure = clusters.confusion(np.array([[3, 0], [0, 0]]), ["cat", "dog"])
    assert picture(figure).tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_confusion_of_many_classes_names_at_most_thirty() -> None:
    figure = clusters.confusion(np.eye(200, dtype=np.int64), [f"class {number}" for number in range(200)])
    assert len(tick_names(figure, "y")) <= 30


GROUPS_CY = np.array([[0, 6, 0, 1], [9, 0, 0, 0], [0, 0, 3, 5], [1, 4, 7, 0], [0, 0, 0, 4]])
"""Clusters 0 to 3 are those of the classes b, a, d and c; cluster 4 is left over. All classes have 10 images."""


def lines(figure: Figure) -> list[tuple[float, float]]:
    """Of each line its place: (x, x) of a vertical one is two equal numbers, as is (y, y) of a horizontal one."""
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in figure.axes[0].lines]


def test_classes_of_a_super_class_stand_together_with_a_line_between_two() -> None:
    figure = clusters.confusion(GROUPS_CY, ["a", "b", "c", "d"], [1, 0, 1, 0])
    assert tick_names(figure, "y") == ["b", "d", "a", "c"] and tick_names(figure, "x") == ["0", "2", "1", "3", "4"]
    # Two rows and two columns before the line.
    assert lines(figure) == [(0.0, 1.5), (1.5, 0.0)]
    assert "accuracy 67.5%" in figure.axes[0].get_title()


def test_classes_in_no_super_class_are_left_out_and_shares_stay_those_of_all_images() -> None:
    figure = clusters.confusion(GROUPS_CY, ["a", "b", "c", "d"], [1, 0, -1, -1])
    assert tick_names(figure, "y") == ["b", "a"] and tick_names(figure, "x") == ["0", "1"]
    # Of b's ten images 6 are in cluster 0 and 4 in cluster 3, which is not shown.
    np.testing.assert_allclose(picture(figure), [[0.6, 0.0], [0.0, 0.9]])
    assert lines(figure) == [(0.0, 0.5), (0.5, 0.0)]
    assert "accuracy of all 4 67.5%" in figure.axes[0].get_title()


def test_classes_without_a_cluster_of_their_own_are_shown_against_all_clusters() -> None:
    figure = clusters.confusion(np.array([[9, 0, 1], [1, 8, 0]]), ["a", "b", "c"], [-1, -1, 0])
    np.testing.assert_allclose(picture(figure), [[1.0, 0.0]])


def test_cluster_sheet_starts_a_row_with_the_most_confident_image_and_leaves_missing_ones_white() -> None:
    # Cluster 0 holds images 0..11 (image 0 by index at one half), image 11 the surest, of gray 220; cluster 1 none.
    figure = clusters.cluster_sheet(IMAGES_NCHW, PROBABILITIES_NC, per_cluster=3)
    sheet_HWC = picture(figure)
    assert [int(sheet_HWC[0, column, 0]) for column in (0, 5, 10)] == [220, 200, 180]
    assert bool((sheet_HWC[5:] == 255).all())
    assert tick_names(figure, "y") == ["0 (12)", "1 (0)"]


def test_cluster_sheet_says_how_many_clusters_it_leaves_out() -> None:
    figure = clusters.cluster_sheet(IMAGES_NCHW, PROBABILITIES_NC, most_clusters=1)
    assert figure.axes[0].get_title() == "first 1 of 2 clusters"


def test_cluster_sheet_keeps_colors() -> None:
    red_NCHW = torch.tensor([200, 10, 30], dtype=torch.uint8).view(1, 3, 1, 1).expand(12, 3, 4, 4)
    assert picture(clusters.cluster_sheet(red_NCHW, PROBABILITIES_NC))[0, 0].tolist() == [200, 10, 30]


def test_least_confident_images_come_lowest_first_with_their_cluster_and_class() -> None:
    labels_N = torch.tensor([1, -1] + [0] * 10)
    figure = clusters.least_confident(IMAGES_NCHW, PROBABILITIES_NC, labels_N, ["cat", "dog"], count=3)
    assert texts(figure) == ["0.50\ncluster 0\ndog", "0.54\ncluster 0\n?", "0.58\ncluster 0\ncat"]
    assert [int(picture(figure)[0, column, 0]) for column in (0, 5, 10)] == [0, 20, 40]


def test_epochs_draws_what_is_there() -> None:
    rows = [{"acc": 0.2, "confident_fraction": 0.1}, {"acc": 0.5, "confident_fraction": 0.4}]
    lines = clusters.epochs(rows).axes[0].lines
    assert [np.asarray(line.get_ydata()).tolist() for line in lines] == [[0.2, 0.5], [0.1, 0.4]]
    assert len(clusters.epochs([{"loss": 1.0}]).axes[0].lines) == 0


def test_epochs_uses_the_numbers_of_the_epochs() -> None:
    rows = [{"epoch": 5, "acc": 0.2}, {"epoch": 10, "acc": 0.5}]
    assert np.asarray(clusters.epochs(rows).axes[0].lines[0].get_xdata()).tolist() == [5, 10]


def test_equal_numbers_give_equal_bytes_without_dates_or_versions(tmp_path: Path) -> None:
    hashes = []
    for folder in ("first", "second"):
        drawn = {
            "confusion": clusters.confusion(COUNTS_CY, ["cat", "dog"]),
            "clusters": clusters.cluster_sheet(IMAGES_NCHW, PROBABILITIES_NC),
        }
        paths = clusters.save(drawn, tmp_path / folder / "figures")
        assert [path.name for path in paths] == ["confusion.png", "clusters.png"]
        assert all(b"Matplotlib" not in path.read_bytes() and b"tIME" not in path.read_bytes() for path in paths)
        hashes.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in paths])
    assert hashes[0] == hashes[1]


def test_nothing_here_imports_pyplot() -> None:
    script = "import sys, trainables.figures.clusters; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_both_gray_and_color_images_are_drawn(channels: int, tmp_path: Path) -> None:
    images_NCHW = torch.zeros(12, channels, 4, 4, dtype=torch.uint8)
    labels_N = torch.zeros(12, dtype=torch.int64)
    figure = clusters.least_confident(images_NCHW, PROBABILITIES_NC, labels_N, ["cat"])
    assert clusters.save({"least": figure}, tmp_path)[0].stat().st_size > 1000
