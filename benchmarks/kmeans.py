"""What the shared service's k-means costs, and how good it is, against FAISS called directly and scikit-learn.

Run: python -m benchmarks.kmeans          (about ten minutes on two cores)

All three cluster the same 100,000 points of 256 dimensions into 1,000 clusters with 20 iterations and one start, and
end with the cluster and the squared distance of every point, which the stages need. Ours goes the whole way: from an
array of this process through Ray to the actor, k-means++ starts, FAISS's iterations, and back. "direct" is
``faiss.Kmeans`` and one search in its index, here, with the same threads and FAISS's own starts (random points).
scikit-learn runs with its defaults but for ``n_init=1``, ``max_iter=20`` and ``tol=0``. Each round has a seed of its
own, so that the service's memory of answers does not help it; rounds alternate between the three.

The points lie as whitened features do: rows of length 1 around 1,000 planted directions of unequal share, so near to
each other that they overlap. The ratio is direct / ours in seconds; inertia and empty clusters are printed beside it.
Axes: N points, D dimensions, C clusters.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable

import faiss
import numpy as np
import ray
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from trainables.vector_search import service

NUM_POINTS, WIDTH, NUM_CLUSTERS, ITERATIONS = 100_000, 256, 1_000, 20
SPREAD = 1.5
"""Length of the noise beside a direction of length 1."""

Found = tuple[float, int]
"""Inertia, and how many clusters have no point."""


def planted(num_points: int) -> NDArray[np.float32]:
    """(N, D)"""
    rng = np.random.default_rng(0)
    directions_CD = rng.normal(size=(NUM_CLUSTERS, WIDTH)) / np.sqrt(WIDTH)
    shares_C = rng.dirichlet(np.full(NUM_CLUSTERS, 2.0))
    points_ND = directions_CD[rng.choice(NUM_CLUSTERS, num_points, p=shares_C)]
    points_ND = points_ND + SPREAD * rng.normal(size=(num_points, WIDTH)) / np.sqrt(WIDTH)
    rows_ND: NDArray[np.float32] = (points_ND / np.linalg.norm(points_ND, axis=1, keepdims=True)).astype(np.float32)
    return rows_ND


def judged(labels_N: NDArray[np.int64], distances_N: NDArray[np.float32]) -> Found:
    return float(distances_N.sum(dtype=np.float64)), NUM_CLUSTERS - len(np.unique(labels_N))


def ours(search: service.SharedSearch, points_ND: NDArray[np.float32], seed: int) -> Found:
    found = search.kmeans(points_ND, NUM_CLUSTERS, seed, ITERATIONS, 1)
    return judged(found.labels_N, found.distances_N)


def direct(points_ND: NDArray[np.float32], seed: int) -> Found:
    clustering = faiss.Kmeans(
        WIDTH, NUM_CLUSTERS, niter=ITERATIONS, seed=seed, max_points_per_centroid=len(points_ND), gpu=False
    )
    clustering.train(points_ND)
    distances_N1, labels_N1 = clustering.index.search(points_ND, 1)
    return judged(labels_N1[:, 0], distances_N1[:, 0])


def with_sklearn(points_ND: NDArray[np.float32], seed: int) -> Found:
    clustering = KMeans(NUM_CLUSTERS, n_init=1, max_iter=ITERATIONS, tol=0, random_state=seed).fit(points_ND)
    difference_ND = points_ND - clustering.cluster_centers_[clustering.labels_]
    return judged(clustering.labels_, np.einsum("nd,nd->n", difference_ND, difference_ND))


def main() -> None:
    parse = argparse.ArgumentParser(description="The service's k-means against FAISS and scikit-learn.")
    parse.add_argument("--rounds", type=int, default=5, help="rounds counted, after one that is not")
    parse.add_argument("--points", type=int, default=NUM_POINTS)
    given = parse.parse_args()
    threads = os.cpu_count() or 1
    faiss.omp_set_num_threads(threads)
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        ray.init(num_cpus=threads, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        running, search = service.start(0), service.SharedSearch(threads)
        points_ND = planted(given.points)
        sides: dict[str, Callable[[int], Found]] = {
            "ours": lambda seed: ours(search, points_ND, seed),
            "direct": lambda seed: direct(points_ND, seed),
            "scikit-learn": lambda seed: with_sklearn(points_ND, seed),
        }
        spent: dict[str, list[float]] = {side: [] for side in sides}
        found: dict[str, list[Found]] = {side: [] for side in sides}
        for seed in range(given.rounds + 1):
            for side, cluster in sides.items():
                began_s = time.perf_counter()
                found[side].append(cluster(seed))
                spent[side].append(time.perf_counter() - began_s)
        del running
        ray.shutdown()
    medians = {side: statistics.median(seconds[1:]) for side, seconds in spent.items()}
    inertia = {side: statistics.median(each for each, _ in results) for side, results in found.items()}
    empty = {side: max(each for _, each in results) for side, results in found.items()}
    for side in sides:
        print(f"{side:12}  {medians[side]:6.2f} s  inertia {inertia[side]:,.1f}  empty clusters at most {empty[side]}")
    record = {
        "claim": f"k-means of {given.points:,} x {WIDTH} into {NUM_CLUSTERS:,} clusters through the service, against "
        f"faiss.Kmeans called directly, {ITERATIONS} iterations",
        "ratio": round(medians["direct"] / medians["ours"], 3),
        "ours": round(medians["ours"], 2),
        "baseline": round(medians["direct"], 2),
        "unit": "s",
        "inertia": {side: round(each, 1) for side, each in inertia.items()},
        "empty": empty,
        "scikit-learn": round(medians["scikit-learn"], 2),
        "machine": f"{threads} cores, {os.uname().machine}, faiss {faiss.__version__}",
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
