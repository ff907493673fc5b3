"""Exact neighbor search, k-means and PCA with FAISS, on the GPU where there is one.

FAISS answers quickly but forgives too much: it returns -1 for neighbors that do not exist, drops rows with NaN,
clusters a sample of the points without a word, and leaves the order of ties to chance. Here each of these is
either settled or refused. Results repeat bit by bit for the same arrays, arguments, threads and kind of device.

Axes: N base rows or points, M queries, D feature width, K neighbors, C centroids.
"""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from ..interfaces import Clustering, Metric, Whitening
from ..maths import power_iteration
from ..maths.streaming_pca import FLAT_SHARE
from . import blocks, checks
from .kmeans_init import first_centroids

ROWS_PER_SEARCH = 4096
SPARE_NEIGHBORS = 8
"""Fetched beyond k, so that a tie at the last place is usually seen whole and broken by index."""
DEEPEST_SEARCH = 2048
"""Fetched where those do not suffice; the most a GPU index gives. Longer ties are broken as FAISS leaves them."""
GPU_SCRATCH_BYTES = 256 * 2**20

# FAISS's GPU resources are large and not thread-safe: one each per process and GPU, and one call at a time.
_GPU_RESOURCES: dict[int, Any] = {}
_GPU_LOCKS: dict[int, threading.Lock] = defaultdict(threading.Lock)


def free_scratch(gpu: int) -> None:
    """Give back what FAISS holds of a GPU's memory in this process; the next search there takes it anew."""
    with _GPU_LOCKS[gpu]:
        _GPU_RESOURCES.pop(gpu, None)


class FaissSearch:
    """``interfaces.Search`` in this process. Several threads may use it; calls on the same GPU wait for each other.

    Args:
        threads: OpenMP threads for each call, at least 1.
        device: number of a visible GPU, "cpu", or "auto" for GPU 0 where there is one.

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

    def knn(  # noqa: PLR0913 - what decides a search
        self,
        base_ND: NDArray[np.float32],
        queries_MD: NDArray[np.float32] | None,
        k: int,
        metric: Metric,
        half: bool = False,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k nearest base rows of each query, nearest first; equal values by index.

        Args:
            base_ND: float32 of shape (N, D), finite; for inner_product without zero rows.
            queries_MD: the same of shape (M, D); None takes the base, and puts each row itself into column 0.
            k: neighbors per query, the row itself included, at least 1 and at most N.
            metric: "inner_product" (larger is nearer) or "l2" (squared distance, smaller is nearer).
            half: keep the base in float16; its values are rounded to 11 bits, everything else is as without.

        Returns:
            (M, k) float32 values and (M, k) int64 rows of the base, none twice in a row. The values do not
            depend on k, so a smaller k is a prefix of a larger one. Copies of a row may differ in their last bit.

        Raises:
            ValueError: a bad array (name, row), k out of range, or values beyond float32 (float16 with ``half``).
        """
        checks.knn(base_ND, queries_MD, k, metric, half=half)
        with self._running():
            index = self._index(base_ND.shape[1], metric, k + SPARE_NEIGHBORS, half)
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

        The starts are those of ``kmeans_init``.
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
        checks.kmeans(points_ND, k, seed, iterations, restarts)
        points_ND = np.ascontiguousarray(points_ND)
        best: Clustering | None = None
        with self._running():
            for restart in range(restarts):
                start_CD = first_centroids(points_ND, k, np.random.default_rng([seed, restart]), self.threads)
                clustering = self._measured(points_ND, self._lloyd(points_ND, start_CD, seed, iterations))
                if best is None or clustering.inertia < best.inertia:
                    best = clustering
        assert best is not None
        return best

    def assign(
        self, points_ND: NDArray[np.float32], centroids_CD: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the nearest centroid of each point.

        Args:
            points_ND: float32 of shape (N, D), finite.
            centroids_CD: float32 of shape (C, D), finite.

        Returns:
            (N,) int64 labels and (N,) float32 squared distances.

        Raises:
            ValueError: a bad array (name, row), or arrays of different width.
        """
        checks.assign(points_ND, centroids_CD)
        with self._running():
            clustering = self._measured(np.ascontiguousarray(points_ND), np.ascontiguousarray(centroids_CD))
        return clustering.labels_N, clustering.distances_N

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
        checks.pic(points_ND, neighbors, sigma, damping)
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
        checks.whiten(points_ND, dim)
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

    def _index(self, width: int, metric: Metric, neighbors: int, half: bool = False) -> Any:
        flat = faiss.IndexFlatIP(width) if metric == "inner_product" else faiss.IndexFlatL2(width)
        if self.gpu is None or neighbors > DEEPEST_SEARCH:
            # The same rounding, without a matrix product for it: half the memory costs time on a CPU.
            kept = faiss.ScalarQuantizer.QT_fp16
            return faiss.IndexScalarQuantizer(width, kept, flat.metric_type) if half else flat
        if self.gpu not in _GPU_RESOURCES:
            _GPU_RESOURCES[self.gpu] = faiss.StandardGpuResources()
            # The default is 1.5 GiB, which trials that share the GPU would miss.
            _GPU_RESOURCES[self.gpu].setTempMemory(GPU_SCRATCH_BYTES)
        options = faiss.GpuClonerOptions()
        options.useFloat16 = half
        return faiss.index_cpu_to_gpu(_GPU_RESOURCES[self.gpu], self.gpu, flat, options)

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

        def measure(part: slice) -> None:
            # FAISS expands the square, which loses the small distances to rounding.
            difference_BD = points_ND[part] - centroids_CD[labels_N[part]]
            distances_N[part] = np.einsum("bd,bd->b", difference_BD, difference_BD)

        blocks.each(len(points_ND), self.threads, measure)
        _check_overflow("squared distances", distances_N)
        num_empty = len(centroids_CD) - len(np.unique(labels_N))
        return Clustering(centroids_CD, labels_N, distances_N, float(distances_N.sum(dtype=np.float64)), num_empty)


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
