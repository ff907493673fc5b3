"""Figures of what SCAN starts from and ends with: neighbors, prototypes, and how large the clusters are.

Axes: N images, R rows of a sheet, K neighbors, C clusters, D feature width.
"""

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from ..interfaces import Images
from ..palette import BLUE, ORANGE
from .clusters import framed, tile

NEIGHBOR_ROWS, NEIGHBOR_COLUMNS = 12, 10
MOST_PROTOTYPES = 100


def neighbors(images_NCHW: Images, table_NK: NDArray[np.int64], labels_N: NDArray[np.int64]) -> Figure:
    """Twelve images spread over the data set, each with its nearest neighbors from left to right.

    Args:
        table_NK: column 0 is the image itself.
        labels_N: -1 where unknown; a neighbor known to be of another class is framed.
    """
    rows_R = np.unique(np.linspace(0, len(table_NK) - 1, NEIGHBOR_ROWS).astype(np.int64))
    slots_RK = table_NK[rows_R][:, : NEIGHBOR_COLUMNS + 1]
    sheet_HWC, (step_y, step_x) = tile(images_NCHW, slots_RK)
    figure, axes = framed(0.6 * slots_RK.shape[1], 0.6 * len(rows_R), left=0.7, right=0.2, top=0.4, bottom=0.3)
    axes.imshow(sheet_HWC, interpolation="nearest")
    own_R1, theirs_RK = labels_N[slots_RK[:, :1]], labels_N[slots_RK]
    wrong_RK = (own_R1 != theirs_RK) & (own_R1 >= 0) & (theirs_RK >= 0)
    for row, column in zip(*np.nonzero(wrong_RK), strict=True):
        x, y = column * step_x - 0.5, row * step_y - 0.5
        axes.plot([x, x + step_x, x + step_x, x, x], [y, y, y + step_y, y + step_y, y], color=ORANGE, linewidth=1.5)
    axes.set_yticks(np.arange(len(rows_R)) * step_y + step_y / 2, [f"{row:,}" for row in rows_R], fontsize=8)
    axes.set_xticks([])
    axes.set(ylabel="image", xlabel="the image, then its neighbors, nearest first")
    axes.set_title("Mined neighbors; framed: of another class", fontsize=10)
    return figure


def prototypes(images_NCHW: Images, prototype_C: NDArray[np.int64]) -> Figure:
    """One image for each cluster (see ``metrics.prototypes``); a cluster without images stays white."""
    shown = prototype_C[:MOST_PROTOTYPES]
    columns = min(10, len(shown))
    slots = np.full(-(-len(shown) // columns) * columns, -1, dtype=np.int64)
    slots[: len(shown)] = shown
    sheet_HWC, (step_y, step_x) = tile(images_NCHW, slots.reshape(-1, columns))
    rows = len(slots) // columns
    figure, axes = framed(max(3.0, 0.7 * columns), 0.7 * rows, left=0.5, right=0.2, top=0.4, bottom=0.4)
    axes.imshow(sheet_HWC, interpolation="nearest")
    axes.set_yticks(np.arange(rows) * step_y + step_y / 2, [str(columns * row) for row in range(rows)], fontsize=8)
    axes.set_xticks(np.arange(columns) * step_x + step_x / 2, [f"+{each}" for each in range(columns)], fontsize=8)
    of = "" if len(shown) == len(prototype_C) else f", the first {len(shown)} of {len(prototype_C)}"
    axes.set_title(f"Prototype of each cluster{of}", fontsize=10)
    return figure


def cluster_sizes(probabilities_NC: Tensor) -> Figure:
    """How many images each cluster holds, the largest first, beside what each would hold were all alike."""
    num_images, num_clusters = probabilities_NC.shape
    sizes_C = torch.bincount(probabilities_NC.argmax(1), minlength=num_clusters).sort(descending=True).values.numpy()
    figure, axes = framed(min(9.0, max(4.0, 0.2 * num_clusters)), 2.4, left=0.8, right=0.2, top=0.4, bottom=0.6)
    axes.bar(np.arange(num_clusters), sizes_C, color=BLUE, width=0.8)
    axes.axhline(num_images / num_clusters, color=ORANGE, linestyle="--", label="all alike")
    axes.set(xlabel="cluster, largest first", ylabel="images")
    axes.set_title(f"{num_clusters} clusters of {sizes_C[-1]:,} to {sizes_C[0]:,} images", fontsize=10)
    axes.legend(loc="upper right")
    return figure
