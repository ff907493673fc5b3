"""The object inside an actor: FAISS on one GPU or on the CPU, with the answers that it has given.

Axes: N base rows or points, M queries, D feature width, C centroids.
"""

import logging
import os
import socket
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import ray

from .. import cuda_errors
from ..interfaces import Clustering, Metric, Whitening
from ..prometheus import SearchGauges
from . import faiss_search
from .faiss_search import FaissSearch
from .result_cache import Answers
from .routing import Load, Router

NEIGHBOR_STEP = 64
"""A kNN search finds k rounded up to a multiple of this (at most N), so that it serves every smaller k."""
KEPT_BYTES = 512 * 2**20

Device = int | Literal["auto", "cpu"]
_log = logging.getLogger(__name__)


class SearchActor:
    """The object inside an actor; created by ``start`` and ``SharedSearch`` only.

    Args:
        device: as in ``FaissSearch``.
    """

    def __init__(self, device: Device, kept_bytes: int = KEPT_BYTES) -> None:
        self._device, self._remark = _usable(device)
        self._threads = 0
        self._gpu = FaissSearch(1, self._device).gpu
        gauges = SearchGauges("cpu" if self._gpu is None else str(self._gpu))
        self._answers = Answers(kept_bytes, lambda now: gauges.show(now.counts, now.queue, now.kept_bytes))
        self._router = Router()

    def ping(self) -> str:
        """Return once the actor runs: why it does not use its GPU; empty if it does, or has none."""
        return self._remark

    def load(self) -> Load:
        """Queue length and node id of this actor."""
        return Load(self._answers.queue, ray.get_runtime_context().get_node_id())

    def route(self, key: str, node: str, loads: dict[str, Load]) -> str:
        """The name of the actor that a process should ask; see ``routing``.

        Args:
            key: digest of the request.
            node: node id of the process.
            loads: name of an actor -> its load.
        """
        return self._router.choose(key, node, loads)

    def knn(  # noqa: PLR0913 - what decides a search
        self, key: str, threads: int, base_ND: Any, queries_MD: Any, k: int, metric: Metric, half: bool
    ) -> Any:
        """As ``FaissSearch.knn``; ``key`` is the digest of the request without k."""
        wide = min(len(base_ND), -(-k // NEIGHBOR_STEP) * NEIGHBOR_STEP)

        answer = self._answer(key, wide, threads, lambda on: on.knn(base_ND, queries_MD, wide, metric, half))
        return tuple(np.ascontiguousarray(part[:, :k]) for part in answer)

    def kmeans(self, key: str, threads: int, points_ND: Any, *rest: int) -> Clustering:
        """As ``FaissSearch.kmeans``; ``key`` is the digest of the request."""
        answer: Clustering = self._answer(key, 0, threads, lambda on: on.kmeans(points_ND, *rest))
        return answer

    def assign(self, key: str, threads: int, points_ND: Any, centroids_CD: Any) -> Any:
        """As ``FaissSearch.assign``; ``key`` is the digest of the request."""
        return self._answer(key, 0, threads, lambda on: on.assign(points_ND, centroids_CD))

    def pic(self, key: str, threads: int, points_ND: Any, *rest: Any) -> Clustering:
        """As ``FaissSearch.pic``; ``key`` is the digest of the request."""
        answer: Clustering = self._answer(key, 0, threads, lambda on: on.pic(points_ND, *rest))
        return answer

    def whiten(self, key: str, threads: int, points_ND: Any, dim: int) -> Whitening:
        """As ``FaissSearch.whiten``; ``key`` is the digest of the request."""
        answer: Whitening = self._answer(key, 0, threads, lambda on: on.whiten(points_ND, dim))
        return answer

    def _answer(self, key: str, width: int, threads: int, ask: Callable[[FaissSearch], Any]) -> Any:
        def compute() -> Any:
            try:
                return ask(self._search(threads))
            except RuntimeError as error:
                if self._gpu is None or not cuda_errors.is_out_of_memory(error):
                    raise
                _log.warning("The memory of GPU %d is full; a search is computed on the CPU: %s", self._gpu, error)
                faiss_search.free_scratch(self._gpu)
                return ask(FaissSearch(threads, "cpu"))

        try:
            return self._answers.get(key, width, compute)
        except Exception as error:
            if cuda_errors.is_lost(error):
                # No request would succeed in this process any more. Ray starts another one, and the caller asks again.
                _log.error("The GPU of this search actor failed: %s", error)
                os._exit(1)
            raise

    def stats(self) -> dict[str, Any]:
        """requests = hits + joined (waited for a running one) + computed; queue: requests inside now;
        threads: of the last computation; gpu: number or None."""
        now = {"busy_s": self._answers.busy_s, "queue": self._answers.queue, "kept_bytes": self._answers.kept_bytes}
        return self._answers.counts | now | {"threads": self._threads, "gpu": self._gpu, "pid": os.getpid()}

    def _search(self, threads: int) -> FaissSearch:
        self._threads = threads
        return FaissSearch(threads, self._device)


def _usable(device: Device) -> tuple[Device, str]:
    """The device, or the CPU and why: FAISS sees fewer GPUs than Ray counts, or cannot compute on this one."""
    if not isinstance(device, int):
        return device, ""
    place = f"GPU {device} of {socket.gethostname()}"
    try:
        FaissSearch(1, device).knn(np.eye(2, dtype=np.float32), None, 1, "l2")
    except (ValueError, RuntimeError) as error:
        if cuda_errors.is_lost(error):
            raise
        text = " ".join(str(error).split())[:200]
        return "cpu", f"FAISS cannot use {place} ({text}); neighbor search and k-means run there on the CPU"
    return device, ""
