"""What speaks for a number of clusters where no label is known: repeated clusterings that agree, and clusters merged.

Agreement of repeated clusterings as a sign of the right number: Lange et al. 2004 (stability-based validation).

Axes: N images, C clusters.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import metrics

Labels = NDArray[np.integer[Any]]


def adjusted_rand(one_N: Labels, other_N: Labels) -> float:
    """Adjusted Rand index of two clusterings of the same images, 0 by chance and 1 at best; no label is needed.

    Raises:
        ValueError: they are of different numbers of images.
    """
    one, other = int(one_N.max()) + 1, int(other_N.max()) + 1
    return metrics.ari(metrics.contingency(one_N, other_N, one, other))


def agreements(clusterings: Sequence[Labels]) -> tuple[float, ...]:
    """The adjusted Rand index of every pair, in [-0.5, 1]; empty for fewer than two clusterings."""
    return tuple(adjusted_rand(one_N, other_N) for one_N, other_N in combinations(clusterings, 2))


def merged(probabilities_NC: NDArray[np.floating[Any]], sizes: Sequence[int]) -> dict[int, NDArray[np.int64]]:
    """A clustering with fewer clusters for each size: the two that share most of their images are merged, repeatedly.

    How much two clusters share is the cosine of their columns; a merged cluster's column is the sum of both. Clusters
    that are no image's most probable one are left out before.

    Args:
        probabilities_NC: rows sum to one.
        sizes: numbers of clusters, each at least 1.

    Returns:
        Size -> (N,) cluster of each image, 0 .. size - 1; fewer clusters where not so many hold an image.

    Raises:
        ValueError: a size is below 1.
    """
    if any(size < 1 for size in sizes):
        raise ValueError(f"a clustering has at least 1 cluster, but sizes are {list(sizes)}.")
    used_C, own_N = np.unique(probabilities_NC.argmax(axis=1), return_inverse=True)
    columns_NC = probabilities_NC[:, used_C].astype(np.float64)
    shared_CC = columns_NC.T @ columns_NC
    group_C, alive = np.arange(len(used_C)), list(range(len(used_C)))
    by_size: dict[int, NDArray[np.int64]] = {}
    for size in sorted(set(sizes), reverse=True):
        while len(alive) > size:
            kept, gone = _most_alike(shared_CC, alive)
            shared_CC[kept] += shared_CC[gone]
            shared_CC[:, kept] += shared_CC[:, gone]
            group_C[group_C == gone] = kept
            alive.remove(gone)
        by_size[size] = np.searchsorted(alive, group_C)[own_N].astype(np.int64)
    return by_size


def _most_alike(shared_CC: NDArray[np.float64], alive: Sequence[int]) -> tuple[int, int]:
    """The two clusters whose columns point most nearly the same way; of equal pairs the first."""
    part_AA = shared_CC[np.ix_(alive, alive)]
    lengths_A = np.sqrt(part_AA.diagonal())
    cosines_AA = np.triu(part_AA / np.outer(lengths_A, lengths_A) + 1, k=1)  # every pair above the empty half
    one, other = np.unravel_index(int(cosines_AA.argmax()), cosines_AA.shape)
    return alive[int(one)], alive[int(other)]
