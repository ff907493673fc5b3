"""Power iteration clustering: graphs worked by hand, and a plain loop over images as an oracle."""

import math

import numpy as np
from numpy.typing import NDArray

from trainables.maths import power_iteration
from trainables.vector_search.faiss_search import FaissSearch


def blobs(seed: int = 0, num_blobs: int = 4, per_blob: int = 30) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    centers = np.eye(num_blobs, 8) * 3
    labels_N = np.repeat(np.arange(num_blobs), per_blob)
    points_ND = centers[labels_N] + 0.05 * rng.standard_normal((len(labels_N), 8))
    return (points_ND / np.linalg.norm(points_ND, axis=1, keepdims=True)).astype(np.float32), labels_N


def slow_clusters(
    distances_NK: NDArray[np.float32], neighbors_NK: NDArray[np.int64], sigma: float, damping: float
) -> list[int]:
    """The same, image by image, up to the numbering."""
    num = len(neighbors_NK)
    weight = np.zeros((num, num))
    for i in range(num):
        for d, j in zip(distances_NK[i], neighbors_NK[i], strict=True):
            weight[i, j] += math.exp(-float(d) / sigma**2)
            weight[j, i] += math.exp(-float(d) / sigma**2)
    value = np.full(num, 1 / num)
    for _ in range(200):
        value = damping * weight @ value + (1 - damping) / num
        value /= np.abs(value).sum()
    roots = []
    for i in range(num):
        here = i
        while True:
            gains = weight[here] * (value - value[here])
            best = int(gains.argmax())
            if gains[best] <= 0:
                break
            here = best
        roots.append(here)
    joined = list(roots)
    for i in range(num):
        if roots.count(roots[i]) == 1:
            crowded = [j for j in neighbors_NK[i] if roots.count(roots[j]) > 1]
            if crowded:
                joined[i] = roots[crowded[0]]
    return joined


def test_it_equals_a_loop_over_images() -> None:
    points_ND, _ = blobs(1, per_blob=12)
    distances_NK, neighbors_NK = FaissSearch(1, "cpu").knn(points_ND, None, 4, "l2")
    found_N = power_iteration.clusters(distances_NK[:, 1:], neighbors_NK[:, 1:], sigma=0.2, damping=0.001)
    slow = slow_clusters(distances_NK[:, 1:], neighbors_NK[:, 1:], 0.2, 0.001)
    pairs = set(zip(found_N.tolist(), slow, strict=True))
    assert len(pairs) == len(set(slow)) == len(set(found_N.tolist())) > 3


def test_no_cluster_spans_two_blobs_and_numbers_have_no_gaps() -> None:
    points_ND, labels_N = blobs()
    found = FaissSearch(1, "cpu").pic(points_ND, 5, 0.2, 0.001)
    pairs = set(zip(found.labels_N.tolist(), labels_N.tolist(), strict=True))
    assert len(pairs) == len(found.centroids_CD) == len(set(found.labels_N.tolist()))
    assert set(found.labels_N.tolist()) == set(range(len(found.centroids_CD)))


def test_its_centroids_are_means_and_its_distances_are_to_them() -> None:
    points_ND, _ = blobs()
    found = FaissSearch(1, "cpu").pic(points_ND, 5, 0.2, 0.001)
    for cluster in range(len(found.centroids_CD)):
        own_ND = points_ND[found.labels_N == cluster]
        np.testing.assert_allclose(found.centroids_CD[cluster], own_ND.mean(0), atol=1e-6)
    expected_N = ((points_ND - found.centroids_CD[found.labels_N]) ** 2).sum(1)
    np.testing.assert_allclose(found.distances_N, expected_N, atol=1e-7)
    assert found.num_empty == 0


def test_an_image_alone_joins_its_nearest_neighbor_s_cluster() -> None:
    # 1 and 2 climb to 0, which has three edges. 3 is far: its only edge, to 1, has a weight that rounds to nothing.
    distances_NK = np.array([[0.01], [0.01], [0.01], [100.0]], np.float32)
    neighbors_NK = np.array([[1], [0], [0], [1]])
    labels_N = power_iteration.clusters(distances_NK, neighbors_NK, sigma=0.2, damping=0.5)
    assert labels_N.tolist() == [0, 0, 0, 0]


def test_images_without_any_rise_each_stay_their_own_cluster() -> None:
    # A ring of equal distances: the stationary vector is uniform, nobody climbs, and nobody has a larger cluster near.
    neighbors_NK = np.array([[1], [2], [3], [0]])
    labels_N = power_iteration.clusters(np.ones((4, 1), np.float32), neighbors_NK, sigma=1.0, damping=0.5)
    assert sorted(labels_N.tolist()) == [0, 1, 2, 3]
