"""The order in which a gallery shows images: clusters by size, in each the most typical first; and the least certain.

Axes: N images, K clusters that hold an image, U least certain images.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.maths.assignments import TopTwo

MOST_UNCERTAIN = 480
"""Images on the sheet of the least certain ones."""


@dataclass(frozen=True, eq=False)
class Arrangement:
    """clusters: that hold an image, largest first, equal ones by number. sizes: of these.

    rows_N: int64, the rows of the table, cluster after cluster, most typical (probable) first.
    uncertain_U: places in rows_N of the images of the smallest margin, smallest first.
    """

    clusters: tuple[int, ...]
    sizes: tuple[int, ...]
    rows_N: NDArray[np.int64]
    uncertain_U: NDArray[np.int64]


def arranged(top_two: TopTwo, num_clusters: int) -> Arrangement:
    """The order of a clustering; of equal images the earlier row first."""
    sizes_C = np.bincount(top_two.cluster_N, minlength=num_clusters)
    order_C = np.argsort(-sizes_C, kind="stable")
    rank_C = np.argsort(order_C)
    rows_N = np.lexsort((-top_two.probability_N, rank_C[top_two.cluster_N])).astype(np.int64)
    uncertain_U = np.argsort(top_two.margin_N[rows_N], kind="stable")[:MOST_UNCERTAIN].astype(np.int64)
    held = [int(cluster) for cluster in order_C if sizes_C[cluster]]
    return Arrangement(tuple(held), tuple(int(sizes_C[cluster]) for cluster in held), rows_N, uncertain_U)


def shares(sizes: tuple[int, ...], most: int) -> tuple[int, ...]:
    """How many images of each cluster may have a thumbnail when ``most`` may in all: as many of each as there is room.

    Args:
        sizes: of the clusters.
        most: at least 0.
    """
    if sum(sizes) <= most:
        return sizes
    low, high = 0, max(sizes)
    while low < high:  # the largest number that every cluster may have
        middle = (low + high + 1) // 2
        if sum(min(size, middle) for size in sizes) <= most:
            low = middle
        else:
            high = middle - 1
    return tuple(min(size, low) for size in sizes)
