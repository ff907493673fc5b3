"""FAISS for all trials: one actor per GPU, or one on the CPU, found by name and shared across the cluster.

A search that forty trials need is computed once: answers are kept by content, and two trials that ask the same at
the same time share one computation. The actors take no CPU or GPU from Ray's books, so no trial ever waits for a
share that they hold; a request runs with the threads of its caller, who waits meanwhile.

An actor lives as long as someone holds its handle: the driver keeps the ``Service`` that ``start`` returns.

Axes: N base rows or points, M queries, D feature width, K neighbors, C centroids.
"""

import hashlib
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import GetTimeoutError, ObjectLostError, RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainables.contract import Clustering, Metric, Whitening
from trainables.faiss_search import FaissSearch, check_assign, check_kmeans, check_knn, check_pic, check_whiten
from trainables.gauges import SearchGauges

NAMESPACE = "clustersweep"
PREFIX = "faiss-"
NEIGHBOR_STEP = 64
"""A kNN search finds k rounded up to a multiple of this (at most N), so that it serves every smaller k."""
KEPT_BYTES = 512 * 2**20
INLINE_BYTES = 100_000
ATTEMPTS = 3
RESTART_LIMIT_S = 30.0
CALLS_AT_ONCE = 32

Device = int | Literal["auto", "cpu"]
_log = logging.getLogger(__name__)


class SearchLost(ConnectionError):
    """An actor was lost during a request. Asking again is safe: the same request gives the same answer."""


@dataclass(frozen=True)
class Service:
    """The running actors by name; without it they end."""

    actors: dict[str, Any]

    def stats(self) -> dict[str, dict[str, Any]]:
        """The ``SearchActor.stats`` of each actor, by name."""
        asked = {name: actor.stats.remote() for name, actor in self.actors.items()}
        return {name: ray.get(reply) for name, reply in asked.items()}


def start(num_gpus: int | None = None) -> Service:
    """Start (or find) one actor per GPU of the cluster, or exactly one on the CPU where there is none.

    Args:
        num_gpus: use so many GPUs; None means all, 0 means the CPU.

    Raises:
        ValueError: num_gpus is below 0 or above the GPUs that the cluster has.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    places = [(node["NodeID"], gpu) for node in nodes for gpu in range(int(node["Resources"].get("GPU", 0)))]
    if num_gpus is not None and not 0 <= num_gpus <= len(places):
        raise ValueError(f"num_gpus must be at least 0 and at most {len(places)}, the cluster's, but is {num_gpus}.")
    places = places[:num_gpus]
    if not places:
        actors = {f"{PREFIX}0": _open(f"{PREFIX}0", "cpu")}
    else:
        actors = {f"{PREFIX}{i}": _open(f"{PREFIX}{i}", gpu, node) for i, (node, gpu) in enumerate(places)}
    ray.get([actor.ping.remote() for actor in actors.values()])
    return Service(actors)


class SharedSearch:
    """``contract.Search`` through the shared actors; answers equal ``FaissSearch(threads)`` bit by bit on the CPU.

    A lost actor is started again and asked again, ATTEMPTS times in all; after that the answer is computed in this
    process, with one warning. Arrays that come back may be read-only.

    threads: what this caller may use, at least 1.

    Raises:
        RuntimeError: Ray is not running here.
        ValueError: threads below 1.
    """

    def __init__(self, threads: int) -> None:
        if not ray.is_initialized():
            raise RuntimeError("SharedSearch needs a running Ray; call ray.init() first, or use FaissSearch.")
        self._local = FaissSearch(threads, "auto")
        self._threads = threads
        self._actors: dict[str, Any] = {}
        self._warned = False

    def knn(
        self, base_ND: NDArray[np.float32], queries_MD: NDArray[np.float32] | None, k: int, metric: Metric
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """As ``FaissSearch.knn``."""
        check_knn(base_ND, queries_MD, k, metric)
        # Without k: the actor keeps the widest answer, and cuts it.
        key = content_key("knn", (base_ND, queries_MD), (metric, self._threads))
        answer: tuple[NDArray[np.float32], NDArray[np.int64]]
        answer = self._ask(key, "knn", (base_ND, queries_MD), (k, metric))
        return answer

    def kmeans(self, points_ND: NDArray[np.float32], k: int, seed: int, iterations: int, restarts: int) -> Clustering:
        """As ``FaissSearch.kmeans``."""
        check_kmeans(points_ND, k, seed, iterations, restarts)
        rest = (k, seed, iterations, restarts)
        key = content_key("kmeans", (points_ND,), (*rest, self._threads))
        answer: Clustering = self._ask(key, "kmeans", (points_ND,), rest)
        return answer

    def assign(
        self, points_ND: NDArray[np.float32], centroids_CD: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As ``FaissSearch.assign``."""
        check_assign(points_ND, centroids_CD)
        key = content_key("assign", (points_ND, centroids_CD), (self._threads,))
        answer: tuple[NDArray[np.int64], NDArray[np.float32]]
        answer = self._ask(key, "assign", (points_ND, centroids_CD), ())
        return answer

    def pic(self, points_ND: NDArray[np.float32], neighbors: int, sigma: float, damping: float) -> Clustering:
        """As ``FaissSearch.pic``."""
        check_pic(points_ND, neighbors, sigma, damping)
        rest = (neighbors, sigma, damping)
        answer: Clustering = self._ask(
            content_key("pic", (points_ND,), (*rest, self._threads)), "pic", (points_ND,), rest
        )
        return answer

    def whiten(self, points_ND: NDArray[np.float32], dim: int) -> Whitening:
        """As ``FaissSearch.whiten``."""
        check_whiten(points_ND, dim)
        key = content_key("whiten", (points_ND,), (dim, self._threads))
        answer: Whitening = self._ask(key, "whiten", (points_ND,), (dim,))
        return answer

    def _ask(self, key: str, method: str, arrays: tuple[NDArray[np.float32] | None, ...], rest: tuple[Any, ...]) -> Any:
        # Once for all attempts; small arrays travel in the request itself.
        sent = [a if a is None or a.nbytes <= INLINE_BYTES else ray.put(np.ascontiguousarray(a)) for a in arrays]
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._ask_once(key, method, (*sent, *rest))
            except SearchLost as lost:
                _log.info("%s attempt %d of %d: %s", method, attempt, ATTEMPTS, lost)
        if not self._warned:
            self._warned = True
            _log.warning(
                "The shared search was lost %d times in a row during %s; this trial now computes it itself.",
                ATTEMPTS,
                method,
            )
        return getattr(self._local, method)(*arrays, *rest)

    def _ask_once(self, key: str, method: str, arguments: tuple[Any, ...]) -> Any:
        """One request to the actor that this key belongs to.

        Raises:
            SearchLost: the actor died; it is running again, or a new one was asked for.
        """
        name, actor = self._actor(key)
        try:
            return ray.get(getattr(actor, method).remote(key, self._threads, *arguments))
        except RayTaskError as error:
            raise error.cause from None
        except (RayActorError, ObjectLostError) as error:
            self._await_restart(name)
            raise SearchLost(f"{name} was lost ({type(error).__name__}).") from error

    def _actor(self, key: str) -> tuple[str, Any]:
        listed = ray.util.list_named_actors(all_namespaces=True)
        found = [entry["name"] for entry in listed if entry["namespace"] == NAMESPACE]
        names = sorted(name for name in found if name.startswith(PREFIX)) or [f"{PREFIX}0"]
        name = names[int(key, 16) % len(names)]
        if name not in self._actors:
            self._actors[name] = _open(name, "auto")
        return name, self._actors[name]

    def _await_restart(self, name: str) -> None:
        try:
            ray.get(self._actors[name].ping.remote(), timeout=RESTART_LIMIT_S)
        except (RayActorError, GetTimeoutError):
            # Beyond restarting: the next attempt finds or opens another one under the name.
            self._actors.pop(name, None)


def _open(name: str, device: Device, node: str | None = None) -> Any:
    """The actor of that name, started if there is none."""
    options: dict[str, Any] = {"name": name, "namespace": NAMESPACE, "get_if_exists": True}
    # Nothing booked: a trial that asks for a whole GPU would wait for ever beside an actor that holds a part of it.
    options |= {"num_cpus": 0, "num_gpus": 0, "max_concurrency": CALLS_AT_ONCE}
    # Requests are repeated by the client, which counts; Ray would repeat without end one that kills the actor.
    options |= {"max_restarts": -1, "max_task_retries": 0}
    if node is not None:
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=True)
    return ray.remote(SearchActor).options(**options).remote(device)


def content_key(method: str, arrays: tuple[NDArray[np.float32] | None, ...], rest: tuple[Any, ...]) -> str:
    """Hexadecimal digest of a request: the arrays' shapes and bytes, and the other arguments."""
    digest = hashlib.blake2b(repr((method, rest)).encode(), digest_size=16)
    for array in arrays:
        digest.update(repr(None if array is None else array.shape).encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


class Answers:
    """Answers kept by key up to a number of bytes, the longest unused going first; each computed by one caller.

    changed: called with this when a request comes and when it goes.
    """

    def __init__(self, limit_bytes: int, changed: "Callable[[Answers], None]" = lambda _: None) -> None:
        self._limit_bytes = limit_bytes
        self._changed = changed
        self._kept: OrderedDict[str, tuple[int, Any]] = OrderedDict()
        self._running: dict[str, tuple[int, Future[Any]]] = {}
        self._lock = threading.Lock()
        self.counts = {"requests": 0, "hits": 0, "joined": 0, "computed": 0}
        self.busy_s = 0.0
        self.kept_bytes = 0
        self.queue = 0

    def get(self, key: str, width: int, compute: Callable[[], Any]) -> Any:
        """The answer for ``key`` that is at least ``width`` wide: kept, being computed by another caller, or new."""
        with self._lock:
            self.counts["requests"] += 1
            self.queue += 1
        self._changed(self)
        try:
            while True:
                with self._lock:
                    if key in self._kept and self._kept[key][0] >= width:
                        self.counts["hits"] += 1
                        self._kept.move_to_end(key)
                        return self._kept[key][1]
                    running = self._running.get(key)
                    if running is None:
                        mine: Future[Any] = Future()
                        self._running[key] = (width, mine)
                        break
                    if running[0] >= width:
                        self.counts["joined"] += 1
                # Outside the lock. A narrower answer is of no use here, but only one computation runs per key.
                if running[0] >= width:
                    return running[1].result()
                running[1].exception()
            return self._compute(key, width, compute, mine)
        finally:
            with self._lock:
                self.queue -= 1
            self._changed(self)

    def _compute(self, key: str, width: int, compute: Callable[[], Any], mine: "Future[Any]") -> Any:
        began_s = time.monotonic()
        try:
            answer = compute()
        except BaseException as error:
            with self._lock:
                del self._running[key]
            mine.set_exception(error)
            raise
        with self._lock:
            self.counts["computed"] += 1
            self.busy_s += time.monotonic() - began_s
            self._keep(key, width, answer)
            del self._running[key]
        mine.set_result(answer)
        return answer

    def _keep(self, key: str, width: int, answer: Any) -> None:
        size_bytes = _num_bytes(answer)
        if key in self._kept:
            self.kept_bytes -= _num_bytes(self._kept.pop(key)[1])
        if size_bytes > self._limit_bytes:
            return
        self._kept[key] = (width, answer)
        self.kept_bytes += size_bytes
        while self.kept_bytes > self._limit_bytes:
            _, (_, oldest) = self._kept.popitem(last=False)
            self.kept_bytes -= _num_bytes(oldest)


def _num_bytes(answer: Any) -> int:
    parts = vars(answer).values() if isinstance(answer, Clustering | Whitening) else answer
    return sum(part.nbytes for part in parts if isinstance(part, np.ndarray))


class SearchActor:
    """What runs in the actor; made by ``start`` and ``SharedSearch`` only. device: as in ``FaissSearch``."""

    def __init__(self, device: Device, kept_bytes: int = KEPT_BYTES) -> None:
        self._device: Device = device
        self._threads = 0
        self._gpu = FaissSearch(1, device).gpu
        gauges = SearchGauges("cpu" if self._gpu is None else str(self._gpu))
        self._answers = Answers(kept_bytes, lambda now: gauges.show(now.counts, now.queue, now.kept_bytes))

    def ping(self) -> None:
        """Returns once the actor runs."""

    def knn(self, key: str, threads: int, base_ND: Any, queries_MD: Any, k: int, metric: Metric) -> Any:
        wide = min(len(base_ND), -(-k // NEIGHBOR_STEP) * NEIGHBOR_STEP)
        answer = self._answers.get(key, wide, lambda: self._search(threads).knn(base_ND, queries_MD, wide, metric))
        return tuple(np.ascontiguousarray(part[:, :k]) for part in answer)

    def kmeans(self, key: str, threads: int, points_ND: Any, *rest: int) -> Clustering:
        answer: Clustering = self._answers.get(key, 0, lambda: self._search(threads).kmeans(points_ND, *rest))
        return answer

    def assign(self, key: str, threads: int, points_ND: Any, centroids_CD: Any) -> Any:
        return self._answers.get(key, 0, lambda: self._search(threads).assign(points_ND, centroids_CD))

    def pic(self, key: str, threads: int, points_ND: Any, *rest: Any) -> Clustering:
        answer: Clustering = self._answers.get(key, 0, lambda: self._search(threads).pic(points_ND, *rest))
        return answer

    def whiten(self, key: str, threads: int, points_ND: Any, dim: int) -> Whitening:
        answer: Whitening = self._answers.get(key, 0, lambda: self._search(threads).whiten(points_ND, dim))
        return answer

    def stats(self) -> dict[str, Any]:
        """requests = hits + joined (waited for a running one) + computed; queue: requests inside now;
        threads: of the last computation; gpu: number or None."""
        now = {"busy_s": self._answers.busy_s, "queue": self._answers.queue, "kept_bytes": self._answers.kept_bytes}
        return self._answers.counts | now | {"threads": self._threads, "gpu": self._gpu, "pid": os.getpid()}

    def _search(self, threads: int) -> FaissSearch:
        self._threads = threads
        return FaissSearch(threads, self._device)
