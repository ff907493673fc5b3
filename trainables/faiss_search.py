"""Exact neighbor search, k-means and PCA with FAISS, on the GPU where there is one: the only module that imports it.

FAISS answers quickly but forgives too much: it returns -1 for neighbors that do not exist, drops rows with NaN,
clusters a sample of the points without a word, and leaves the order of ties to chance. Here each of these is
either settled or refused. Results repeat bit by bit for the same arrays, arguments, threads and kind of device.

Axes: N base rows or points, M queries, D feature width, K neighbors, C centroids, L candidates.
"""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from trainables.contract import Clustering, Metric, Whitening
from trainables.maths import power_iteration
from trainables.maths.moments import FLAT_SHARE

ROWS_PER_SEARCH = 4096
SPARE_NEIGHBORS = 8
"""Fetched beyond k, so that a tie at the last place is usually seen whole and broken by index."""
DEEPEST_SEARCH = 2048
"""Fetched where those do not suffice; the most a GPU index gives. Longer ties are broken as FAISS leaves them."""
GPU_SCRATCH_BYTES = 256 * 2**20
SEEDING_MULTIPLY_ADDS = 1e11
"""Work that choosing first centroids may cost, a few seconds on one core."""

# FAISS's GPU resources are large and not thread-safe: one each per process and GPU, and one call at a time.
_GPU_RESOURCES: dict[int, Any] = {}
_GPU_LOCKS: dict[int, threading.Lock] = defaultdict(threading.Lock)


class FaissSearch:
    """``contract.Search`` in this process.

    threads: OpenMP threads for each call, at least 1. device: number of a visible GPU, "cpu", or "auto" for GPU 0
    where there is one. May be used from several threads; calls on the same GPU wait for each other.

    Raises:
        ValueError: threads below 1, or no such GPU.
    """

    def __init__(self, threads: int, device: int | Literal["auto", "cpu"] = "auto") -> None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, but is {threads}.")
        num_gpus = faiss.get_num_gpus()
        if isinstance(device, int) and not 0 <= device < num_gpus:
            raise ValueError(f"device must be cpu, auto or below {num_gpus}, the visible GPUs, but is {device}.")
        self.threads = threads
        self.gpu: int | None = device if isinstance(device, int) else None
        if device == "auto" and num_gpus:
            self.gpu = 0

    def knn(
        self, base_ND: NDArray[np.float32], queries_MD: NDArray[np.float32] | None, k: int, metric: Metric
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k nearest base rows of each query, nearest first; equal values by index.

        Args:
            base_ND: float32 of shape (N, D), finite; for inner_product without zero rows.
            queries_MD: the same of shape (M, D); None takes the base, and puts each row itself into column 0.
            k: neighbors per query, the row itself included, at least 1 and at most N.
            metric: "inner_product" (larger is nearer) or "l2" (squared distance, smaller is nearer).

        Returns:
            (M, k) float32 values and (M, k) int64 rows of the base, none twice in a row. The values do not
            depend on k, so a smaller k is a prefix of a larger one. Copies of a row may differ in their last bit.

        Raises:
            ValueError: a bad array (name, row), k out of range, or values beyond float32.
        """
        check_knn(base_ND, queries_MD, k, metric)
        with self._running():
            index = self._index(base_ND.shape[1], metric, k + SPARE_NEIGHBORS)
            index.add(np.ascontiguousarray(base_ND))
            search_MD = base_ND if queries_MD is None else queries_MD
            parts = []
            for first in range(0, len(search_MD), ROWS_PER_SEARCH):
                rows_BD = np.ascontiguousarray(search_MD[first : first + ROWS_PER_SEARCH])
                if queries_MD is None:
                    parts.append(_with_self_first(index, rows_BD, k, metric, first))
                else:
                    parts.append(_nearest(index, rows_BD, k, metric, None))
        return np.concatenate([values for values, _ in parts]), np.concatenate([rows for _, rows in parts])

    def kmeans(self, points_ND: NDArray[np.float32], k: int, seed: int, iterations: int, restarts: int) -> Clustering:
        """k-means on all points: the best of several starts by inertia.

        Starts are greedy k-means++ (Arthur and Vassilvitskii 2007, with 2 + log k candidates a step), on a sample
        where the whole set would cost more than SEEDING_MULTIPLY_ADDS, and k random points where that sample would
        hold fewer than 20 points a cluster. FAISS's own starts leave 3 to 80 % more inertia on separated clusters.
        The iterations are FAISS's, which re-seed an empty cluster beside a large one (+-1/1024), and stop early
        once the inertia stands still.

        Args:
            points_ND: float32 of shape (N, D), finite.
            k: clusters, at least 1 and at most N.
            seed: at least 0; with k and the points it decides everything.
            iterations: at most so many, at least 1.
            restarts: starts, at least 1.

        Returns:
            Labels and distances belong to the returned centroids; a cluster that stayed empty keeps its number
            and is counted.

        Raises:
            ValueError: a bad array (name, row), an argument out of range, or values beyond float32.
        """
        check_kmeans(points_ND, k, seed, iterations, restarts)
        points_ND = np.ascontiguousarray(points_ND)
        best: Clustering | None = None
        with self._running():
            for restart in range(restarts):
                start_CD = _first_centroids(points_ND, k, np.random.default_rng([seed, restart]))
                found = self._measured(points_ND, self._lloyd(points_ND, start_CD, seed, iterations))
                if best is None or found.inertia < best.inertia:
                    best = found
        assert best is not None
        return best

    def assign(
        self, points_ND: NDArray[np.float32], centroids_CD: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Nearest centroid of each point: (N,) int64 labels and (N,) float32 squared distances.

        Raises:
            ValueError: a bad array (name, row), or arrays of different width.
        """
        check_assign(points_ND, centroids_CD)
        with self._running():
            found = self._measured(np.ascontiguousarray(points_ND), np.ascontiguousarray(centroids_CD))
        return found.labels_N, found.distances_N

    def pic(self, points_ND: NDArray[np.float32], neighbors: int, sigma: float, damping: float) -> Clustering:
        """Power iteration clustering (Lin and Cohen 2010, as DeepCluster uses it) on the graph of nearest neighbors.

        Args:
            points_ND: float32 of shape (N, D), finite.
            neighbors: edges that leave each point, at least 1 and below N.
            sigma: width of the edge weights exp(-squared distance / sigma^2), above 0.
            damping: share of the graph in each power iteration, above 0 and below 1.

        Returns:
            As many clusters as the graph has local maxima, none empty; their centroids are the means of their points,
            and distances are to these.

        Raises:
            ValueError: a bad array (name, row), or an argument out of range.
        """
        check_pic(points_ND, neighbors, sigma, damping)
        distances_NK, neighbors_NK = self.knn(points_ND, None, neighbors + 1, "l2")
        labels_N = power_iteration.clusters(distances_NK[:, 1:], neighbors_NK[:, 1:], sigma=sigma, damping=damping)
        centroids_CD = power_iteration.means(points_ND, labels_N)
        difference_ND = points_ND - centroids_CD[labels_N]
        distances_N = np.einsum("nd,nd->n", difference_ND, difference_ND)
        return Clustering(centroids_CD, labels_N, distances_N, float(distances_N.sum(dtype=np.float64)), 0)

    def whiten(self, points_ND: NDArray[np.float32], dim: int) -> Whitening:
        """PCA with whitening, fitted on all points; see ``Whitening``.

        Args:
            points_ND: float32 of shape (N, D), finite.
            dim: E, at least 1 and at most N and D.

        Raises:
            ValueError: a bad array (name, row), dim out of range, or points that are all the same.
        """
        check_whiten(points_ND, dim)
        num_points, width = points_ND.shape
        with self._running():
            pca = faiss.PCAMatrix(width, dim, 0.0)
            # Above D times this number FAISS fits a sample instead.
            pca.max_points_per_d = num_points
            pca.train(np.ascontiguousarray(points_ND))
        axes_ED = faiss.vector_to_array(pca.A).reshape(dim, width)
        variance_E = faiss.vector_to_array(pca.eigenvalues)[:dim].astype(np.float64) / num_points
        flat_E = variance_E <= FLAT_SHARE * variance_E[0]
        if not variance_E[0] > 0:
            raise ValueError("points_ND are all the same, so they have no direction to whiten; the network collapsed.")
        scale_E = np.where(flat_E, 0.0, 1 / np.sqrt(np.where(flat_E, 1.0, variance_E)))
        matrix_DE = np.ascontiguousarray((axes_ED * scale_E[:, None]).T.astype(np.float32))
        offset_E = (faiss.vector_to_array(pca.b) * scale_E).astype(np.float32)
        return Whitening(matrix_DE, offset_E, int(flat_E.sum()))

    @contextmanager
    def _running(self) -> Iterator[None]:
        # OpenMP keeps the number per calling thread, so concurrent calls do not see each other's.
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(self.threads)
        try:
            with nullcontext() if self.gpu is None else _GPU_LOCKS[self.gpu]:
                yield
        finally:
            faiss.omp_set_num_threads(before)

    def _index(self, width: int, metric: Metric, neighbors: int) -> Any:
        flat = faiss.IndexFlatIP(width) if metric == "inner_product" else faiss.IndexFlatL2(width)
        if self.gpu is None or neighbors > DEEPEST_SEARCH:
            return flat
        if self.gpu not in _GPU_RESOURCES:
            _GPU_RESOURCES[self.gpu] = faiss.StandardGpuResources()
            # The default is 1.5 GiB, which trials that share the GPU would miss.
            _GPU_RESOURCES[self.gpu].setTempMemory(GPU_SCRATCH_BYTES)
        return faiss.index_cpu_to_gpu(_GPU_RESOURCES[self.gpu], self.gpu, flat)

    def _lloyd(
        self, points_ND: NDArray[np.float32], start_CD: NDArray[np.float32], seed: int, iterations: int
    ) -> NDArray[np.float32]:
        k, width = start_CD.shape
        parameters = faiss.ClusteringParameters()
        parameters.niter = iterations
        parameters.seed = seed
        parameters.min_points_per_centroid = 1
        # Above k times this number FAISS clusters a sample instead.
        parameters.max_points_per_centroid = len(points_ND)
        clustering = faiss.Clustering(width, k, parameters)
        faiss.copy_array_to_vector(start_CD.ravel(), clustering.centroids)
        clustering.train(points_ND, self._index(width, "l2", 1))
        centroids_CD: NDArray[np.float32] = faiss.vector_to_array(clustering.centroids).reshape(k, width)
        _check_overflow("centroids", centroids_CD)
        return centroids_CD

    def _measured(self, points_ND: NDArray[np.float32], centroids_CD: NDArray[np.float32]) -> Clustering:
        index = self._index(points_ND.shape[1], "l2", 1)
        index.add(centroids_CD)
        labels_N = np.empty(len(points_ND), dtype=np.int64)
        distances_N = np.empty(len(points_ND), dtype=np.float32)
        for first in range(0, len(points_ND), ROWS_PER_SEARCH):
            part = slice(first, first + ROWS_PER_SEARCH)
            _, nearest_B1 = index.search(points_ND[part], 1)
            _check_overflow("squared distances", points_ND[:0], nearest_B1)
            labels_N[part] = nearest_B1[:, 0]
            # FAISS expands the square, which loses the small distances to rounding.
            difference_BD = points_ND[part] - centroids_CD[labels_N[part]]
            distances_N[part] = np.einsum("bd,bd->b", difference_BD, difference_BD)
        _check_overflow("squared distances", distances_N)
        num_empty = len(centroids_CD) - len(np.unique(labels_N))
        return Clustering(centroids_CD, labels_N, distances_N, float(distances_N.sum(dtype=np.float64)), num_empty)


def check_knn(base_ND: Any, queries_MD: Any, k: int, metric: str) -> None:
    """Refuse what ``knn`` cannot answer; ValueError names the array, the row and the rule."""
    if metric not in ("inner_product", "l2"):
        raise ValueError(f"metric must be one of inner_product, l2, but is {metric!r}.")
    arrays = {"base_ND": base_ND} | ({} if queries_MD is None else {"queries_MD": queries_MD})
    for name, rows_ND in arrays.items():
        _check_rows(name, rows_ND)
        zero_N = ~rows_ND.any(axis=1)
        if metric == "inner_product" and zero_N.any():
            raise ValueError(
                f"{name} row {zero_N.argmax()} is all zeros and has no direction, which inner_product compares "
                f"({zero_N.sum()} such rows). Its network may have collapsed; metric l2 takes such rows."
            )
    if queries_MD is not None:
        _check_same_width("queries_MD", queries_MD, "base_ND", base_ND)
    if not 1 <= k <= len(base_ND):
        raise ValueError(f"k must be at least 1 and at most {len(base_ND)}, the rows of base_ND, but is {k}.")


def check_kmeans(points_ND: Any, k: int, seed: int, iterations: int, restarts: int) -> None:
    """Refuse what ``kmeans`` cannot answer; ValueError names the array, the row and the rule."""
    _check_rows("points_ND", points_ND)
    if not 1 <= k <= len(points_ND):
        raise ValueError(f"k must be at least 1 and at most {len(points_ND)}, the rows of points_ND, but is {k}.")
    if not 0 <= seed < 2**31:
        raise ValueError(f"seed must be at least 0 and below 2**31, but is {seed}.")
    for name, value in (("iterations", iterations), ("restarts", restarts)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, but is {value}.")


def check_assign(points_ND: Any, centroids_CD: Any) -> None:
    """Refuse what ``assign`` cannot answer; ValueError names the array, the row and the rule."""
    _check_rows("points_ND", points_ND)
    _check_rows("centroids_CD", centroids_CD)
    _check_same_width("points_ND", points_ND, "centroids_CD", centroids_CD)


def check_pic(points_ND: Any, neighbors: int, sigma: float, damping: float) -> None:
    """Refuse what ``pic`` cannot answer; ValueError names the array, the row and the rule."""
    _check_rows("points_ND", points_ND)
    if not 1 <= neighbors < len(points_ND):
        rule = f"at least 1 and below {len(points_ND)}, the rows of points_ND"
        raise ValueError(f"neighbors must be {rule}, but is {neighbors}.")
    if not (sigma > 0 and 0 < damping < 1):
        raise ValueError(
            f"sigma must be above 0, and damping above 0 and below 1, but they are {sigma:g} and {damping:g}."
        )


def check_whiten(points_ND: Any, dim: int) -> None:
    """Refuse what ``whiten`` cannot answer; ValueError names the array, the row and the rule."""
    _check_rows("points_ND", points_ND)
    if not 1 <= dim <= min(points_ND.shape):
        rule = f"at least 1 and at most {min(points_ND.shape)}, the smaller side of points_ND"
        raise ValueError(f"dim must be {rule}, but is {dim}.")


def _check_rows(name: str, rows_ND: Any) -> None:
    if not isinstance(rows_ND, np.ndarray) or rows_ND.dtype != np.float32 or rows_ND.ndim != 2 or not rows_ND.size:
        kind = type(rows_ND).__name__
        shown = f"{rows_ND.dtype} of shape {rows_ND.shape}" if isinstance(rows_ND, np.ndarray) else f"a {kind}"
        raise ValueError(f"{name} must be a float32 NumPy array of shape (rows, width), not empty, but is {shown}.")
    bad_N = ~np.isfinite(rows_ND).all(axis=1)
    if bad_N.any():
        raise ValueError(
            f"{name} row {bad_N.argmax()} holds nan or inf ({bad_N.sum()} such rows). "
            "Every value must be finite; the network that made it has diverged."
        )


def _check_same_width(name: str, rows: NDArray[np.float32], other: str, other_rows: NDArray[np.float32]) -> None:
    if rows.shape[1] != other_rows.shape[1]:
        raise ValueError(
            f"{name} must be as wide as {other}, but its rows have {rows.shape[1]} values instead of "
            f"{other_rows.shape[1]}."
        )


def _check_overflow(what: str, values: NDArray[np.float32], found: NDArray[np.int64] | None = None) -> None:
    # FAISS answers -1 where every comparison was with nan.
    if not np.isfinite(values).all() or (found is not None and found.min() < 0):
        raise ValueError(f"{what} are beyond float32; normalize the rows first.")


def _nearest(
    index: Any, rows_BD: NDArray[np.float32], k: int, metric: Metric, own_B: NDArray[np.int64] | None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """k neighbors of each row without its own number; the second, deep search serves long ties."""
    width = min(index.ntotal, k + SPARE_NEIGHBORS)
    deeper = min(index.ntotal, max(width, DEEPEST_SEARCH))
    own_B = np.full(len(rows_BD), -1) if own_B is None else own_B
    values_BK, neighbors_BK = index.search(rows_BD, width)
    values_BK, neighbors_BK, cut_B = _ranked(values_BK, neighbors_BK, own_B, k, metric)
    if cut_B.any() and width < deeper:
        # All rows again: in another batch the same row may come out a bit different.
        deep_values_BK, deep_neighbors_BK = index.search(rows_BD, deeper)
        found = _ranked(deep_values_BK[cut_B], deep_neighbors_BK[cut_B], own_B[cut_B], k, metric)
        values_BK[cut_B], neighbors_BK[cut_B] = found[:2]
    return values_BK, neighbors_BK


def _ranked(
    values_BK: NDArray[np.float32],
    neighbors_BK: NDArray[np.int64],
    own_B: NDArray[np.int64],
    k: int,
    metric: Metric,
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
    """The first k in order, and whether a tie at the last place may go on beyond what was fetched."""
    _check_overflow(f"{metric} values", values_BK, neighbors_BK)
    rank_BK = -values_BK if metric == "inner_product" else values_BK
    order_BK = np.lexsort((neighbors_BK, rank_BK, neighbors_BK == own_B[:, None]), axis=1)[:, :k]
    last_place_BK = np.take_along_axis(rank_BK, order_BK[:, -1:], axis=1)
    cut_B = (last_place_BK == rank_BK.max(axis=1, keepdims=True)).any(axis=1)
    return np.take_along_axis(values_BK, order_BK, axis=1), np.take_along_axis(neighbors_BK, order_BK, axis=1), cut_B


def _with_self_first(
    index: Any, rows_BD: NDArray[np.float32], k: int, metric: Metric, first: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    # By number and not by column: a copy of the row may come before it, and so may a longer row.
    own_B = np.arange(first, first + len(rows_BD))
    values_BK, neighbors_BK = _nearest(index, rows_BD, k - 1, metric, own_B)
    to_self_B = np.einsum("bd,bd->b", rows_BD, rows_BD) if metric == "inner_product" else np.zeros(len(rows_BD))
    values = np.concatenate([to_self_B[:, None].astype(np.float32), values_BK], axis=1)
    return values, np.concatenate([own_B[:, None], neighbors_BK], axis=1)


def _first_centroids(points_ND: NDArray[np.float32], k: int, rng: np.random.Generator) -> NDArray[np.float32]:
    num_points, width = points_ND.shape
    candidates = 2 + int(np.log(k))
    sample = min(num_points, int(SEEDING_MULTIPLY_ADDS / (width * k * candidates)))
    if sample < num_points and sample < 20 * k:
        return points_ND[rng.choice(num_points, k, replace=False)]
    if sample < num_points:
        points_ND = points_ND[np.sort(rng.choice(num_points, sample, replace=False))]
    chosen = [int(rng.integers(len(points_ND)))]
    closest_N = _squared_distances(points_ND[chosen], points_ND)[0]
    closest_N[chosen[0]] = 0
    while len(chosen) < k:
        reach_N = np.cumsum(closest_N, dtype=np.float64)
        draws_L = rng.random(candidates)
        if reach_N[-1] > 0:
            candidates_L = np.minimum(np.searchsorted(reach_N, draws_L * reach_N[-1], side="right"), len(reach_N) - 1)
        else:
            # Fewer distinct points than clusters: the rest of the clusters will stay empty.
            candidates_L = (draws_L * len(reach_N)).astype(np.int64)
        left_LN = np.minimum(closest_N, _squared_distances(points_ND[candidates_L], points_ND))
        best = int(left_LN.sum(axis=1, dtype=np.float64).argmin())
        chosen.append(int(candidates_L[best]))
        closest_N = left_LN[best]
        closest_N[chosen[-1]] = 0
    return points_ND[chosen]


def _squared_distances(from_LD: NDArray[np.float32], to_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    distances_LN: NDArray[np.float32] = faiss.pairwise_distances(from_LD, to_ND)
    return np.maximum(distances_LN, 0)
