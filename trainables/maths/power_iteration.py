"""Power iteration clustering on a graph of nearest neighbors: every image climbs to a local maximum of its graph.

Source: Lin and Cohen 2010, with the constants of DeepCluster's PIC option (sigma 0.2 on squared distances of unit rows,
damping 0.001, 200 iterations).

Axes: N images, K neighbors, E edges.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

ITERATIONS = 200


def clusters(
    distances_NK: NDArray[np.float32], neighbors_NK: NDArray[np.int64], *, sigma: float, damping: float
) -> NDArray[np.int64]:
    """The cluster of each image, numbered from 0 without gaps.

    Args:
        distances_NK: squared L2 distances to the neighbors, at least 0.
        neighbors_NK: rows of the neighbors, without the image itself.
        sigma: width of the edge weights exp(-distance / sigma^2), above 0.
        damping: share of the graph in each power iteration, in (0, 1).

    Returns:
        (N,) int64. Each image follows the edge of the steepest rise of the stationary vector; where there is none, it
        is a root. A cluster of a single image joins the cluster of its nearest neighbor that is in a larger one, and
        stays alone where it has none.
    """
    num_images, num_neighbors = neighbors_NK.shape
    weights = np.exp(-distances_NK.astype(np.float64) / sigma**2).ravel()
    rows = np.repeat(np.arange(num_images), num_neighbors)
    directed_NN = sparse.csr_matrix((weights, (rows, neighbors_NK.ravel())), shape=(num_images, num_images))
    # A mutual neighbor counts from both sides.
    graph_NN = (directed_NN + directed_NN.T).tocsr()
    graph_NN.sort_indices()
    root_N = _roots(graph_NN, _stationary(graph_NN, damping))
    sizes_N = np.bincount(root_N, minlength=num_images)
    alone_N = sizes_N[root_N] == 1
    crowded_NK = ~alone_N[neighbors_NK]
    nearest_N = neighbors_NK[np.arange(num_images), crowded_NK.argmax(axis=1)]
    joins_N = alone_N & crowded_NK.any(axis=1)
    root_N = np.where(joins_N, root_N[nearest_N], root_N)
    labels_N: NDArray[np.int64] = np.unique(root_N, return_inverse=True)[1].astype(np.int64)
    return labels_N


def means(points_ND: NDArray[np.float32], labels_N: NDArray[np.int64]) -> NDArray[np.float32]:
    """The mean of each cluster's rows, float32 of shape (clusters, D); no cluster may be empty."""
    num_images = len(points_ND)
    member_CN = sparse.csr_matrix((np.ones(num_images), (labels_N, np.arange(num_images))))
    means_CD: NDArray[np.float32] = (member_CN @ points_ND / np.bincount(labels_N)[:, None]).astype(np.float32)
    return means_CD


def _stationary(graph_NN: sparse.csr_matrix, damping: float) -> NDArray[np.float64]:
    num_images = graph_NN.shape[0]
    value_N = np.full(num_images, 1 / num_images)
    for _ in range(ITERATIONS):
        value_N = damping * (graph_NN @ value_N) + (1 - damping) / num_images
        value_N /= value_N.sum()
    return value_N


def _roots(graph_NN: sparse.csr_matrix, value_N: NDArray[np.float64]) -> NDArray[np.int64]:
    """The image at which each image's climb ends."""
    num_images = graph_NN.shape[0]
    from_E = np.repeat(np.arange(num_images), np.diff(graph_NN.indptr))
    to_E = graph_NN.indices.astype(np.int64)
    rise_E = graph_NN.data * (value_N[to_E] - value_N[from_E])
    # The steepest edge of each image comes first, the smaller neighbor where two are equal.
    order_E = np.lexsort((to_E, -rise_E, from_E))
    first_E = order_E[np.unique(from_E[order_E], return_index=True)[1]]
    next_N = np.arange(num_images)
    climbs_E = first_E[rise_E[first_E] > 0]
    next_N[from_E[climbs_E]] = to_E[climbs_E]
    while not np.array_equal(further_N := next_N[next_N], next_N):
        next_N = further_N
    return next_N
