"""Where k-means starts: points far apart, found at a cost that is small beside the iterations.

Axes: N points, D feature width, K clusters, L candidates of one step.
"""

from collections.abc import Callable

import faiss
import numpy as np
from numpy.typing import NDArray

from . import blocks

ALL_MULTIPLY_ADDS = 1e9
"""What choosing among all points may cost, a tenth of a second; its products are too narrow to be quick."""
SAMPLE, SAMPLE_PER_CLUSTER = 4096, 5
KEPT_DISTANCES = 2**26
"""So many are computed at once and kept, in one quick product; beyond, those of each step in a slow one."""

_FROM_AT_ONCE = 512

From = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""(L,) points -> (L, N) squared distances of all points from them."""


def first_centroids(
    points_ND: NDArray[np.float32], k: int, rng: np.random.Generator, threads: int = 1
) -> NDArray[np.float32]:
    """Choose the points from which k-means starts.

    Args:
        points_ND: float32, finite.
        k: clusters, at least 1 and at most N.
        rng: advanced by the draws.
        threads: at least 1.

    Returns:
        float32 of shape (K, D), rows of ``points_ND``.

    Source: greedy k-means++ (Arthur and Vassilvitskii 2007) with 2 + log k candidates a step. Differs: where that costs
    more than ALL_MULTIPLY_ADDS on all points, it chooses among a sample. FAISS's own starts, random points, leave 3 to
    80 % more inertia on separated clusters.
    """
    num_points, width = points_ND.shape
    sample = max(SAMPLE, SAMPLE_PER_CLUSTER * k)
    if num_points * width * k * _num_candidates(k) > ALL_MULTIPLY_ADDS and sample < num_points:
        points_ND = points_ND[np.sort(rng.choice(num_points, sample, replace=False))]
    return points_ND[_greedy(_distances(points_ND, k, threads), len(points_ND), k, rng)]


def _distances(points_ND: NDArray[np.float32], k: int, threads: int) -> From:
    if k * _num_candidates(k) > len(points_ND) and len(points_ND) ** 2 <= KEPT_DISTANCES:
        all_NN = np.empty((len(points_ND), len(points_ND)), dtype=np.float32)

        def fill(block: slice) -> None:
            all_NN[block] = _squared_distances(points_ND[block], points_ND)

        blocks.each(len(points_ND), threads, fill, rows=_FROM_AT_ONCE)
        return lambda from_L: all_NN[from_L]
    return lambda from_L: _squared_distances(points_ND[from_L], points_ND)


def _greedy(distances: From, num_points: int, k: int, rng: np.random.Generator) -> list[int]:
    """Numbers of k points; each step takes that of a few candidates which leaves the least inertia."""
    chosen = [int(rng.integers(num_points))]
    closest_N = distances(np.array(chosen))[0].copy()
    closest_N[chosen[0]] = 0
    while len(chosen) < k:
        reach_N = np.cumsum(closest_N, dtype=np.float64)
        draws_L = rng.random(_num_candidates(k))
        if reach_N[-1] > 0:
            candidates_L = np.minimum(np.searchsorted(reach_N, draws_L * reach_N[-1], side="right"), num_points - 1)
        else:
            # Fewer distinct points than clusters: the rest of the clusters will stay empty.
            candidates_L = (draws_L * num_points).astype(np.int64)
        left_LN = np.minimum(closest_N, distances(candidates_L))
        best = int(left_LN.sum(axis=1, dtype=np.float64).argmin())
        chosen.append(int(candidates_L[best]))
        closest_N = left_LN[best]
        closest_N[chosen[-1]] = 0
    return chosen


def _num_candidates(k: int) -> int:
    return 2 + int(np.log(k))


def _squared_distances(from_LD: NDArray[np.float32], to_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    distances_LN: NDArray[np.float32] = faiss.pairwise_distances(from_LD, to_ND)
    return np.maximum(distances_LN, 0, out=distances_LN)
