"""FAISS for all trials: one actor per GPU, or one on the CPU, found by name and shared across the cluster.

A search that forty trials need is computed once: answers are kept by content, and two trials that ask the same at
the same time share one computation. The actors take no CPU or GPU from Ray's books, so no trial ever waits for a
share that they hold; a request runs with the threads of its caller, who waits meanwhile.

Where there are several actors, one of them keeps the list of who has which answer and sends a new request to the
nearest free one (see ``routing``). An actor whose GPU fails ends its process and comes back in a fresh one; one whose
node is lost stays away, and the others, or the asking process itself, do its work.

An actor lives as long as someone holds its handle: the driver keeps the ``Service`` that ``start`` returns.

Axes: N base rows or points, M queries, D feature width, K neighbors, C centroids.
"""

import hashlib
import logging
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from ray.exceptions import (
    ActorUnavailableError,
    ActorUnschedulableError,
    GetTimeoutError,
    ObjectLostError,
    RayActorError,
    RayTaskError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..interfaces import Clustering, Metric, Whitening
from . import blocks, checks
from .faiss_search import FaissSearch
from .routing import Load
from .search_actor import Device, SearchActor

NAMESPACE = "clustersweep"
PREFIX = "faiss-"
ANYWHERE = f"{PREFIX}0"
"""The one actor of a cluster without GPUs; it goes where there is room."""
INLINE_BYTES = 100_000
_HASHED_AT_ONCE = 2**20
ATTEMPTS = 3
RESTART_LIMIT_S = 30.0
_BETWEEN_PINGS_S = 0.2
CALLS_AT_ONCE = 32

FOLLOW_EVERY_S = 10.0
LOAD_LIMIT_S = 2.0
GPU = "GPU"

_GONE = (RayActorError, ActorUnschedulableError)
_log = logging.getLogger(__name__)


class SearchLost(ConnectionError):
    """An actor was lost during a request. Asking again is safe: the same request gives the same answer."""


@dataclass
class Service:
    """The running actors by name; they end with this object.

    Attributes:
        num_gpus: as in ``start``.
        resource: as in ``start``.
    """

    actors: dict[str, Any]
    num_gpus: int | None = None
    resource: str = GPU
    _looked_at_s: float = field(default_factory=time.monotonic)

    def stats(self) -> dict[str, dict[str, Any]]:
        """The ``SearchActor.stats`` of each actor by name; an actor whose node is gone is left out."""
        asked, found = {name: actor.stats.remote() for name, actor in self.actors.items()}, {}
        for name, reply in asked.items():
            with suppress(RayActorError, ActorUnschedulableError):
                found[name] = ray.get(reply)
        return found

    def follow(self, now_s: float | None = None) -> None:
        """Start an actor for each GPU that joined the cluster, and drop those whose GPU has left.

        It may be called at any time: it looks only every FOLLOW_EVERY_S, and waits for nothing.

        Args:
            now_s: the monotonic time; None reads the clock.
        """
        now_s = time.monotonic() if now_s is None else now_s
        if now_s - self._looked_at_s < FOLLOW_EVERY_S:
            return
        self._looked_at_s = now_s
        places = _places(self.resource)
        wanted = list(places)[: self.num_gpus]
        for name in [name for name in self.actors if name not in places and name != ANYWHERE]:
            del self.actors[name]
        self.actors |= {name: _placed(name, *places[name]) for name in wanted if name not in self.actors}


def start(num_gpus: int | None = None, resource: str = GPU) -> Service:
    """Start (or find) one actor per GPU of the cluster, or exactly one on the CPU where there is none.

    An actor whose GPU FAISS cannot use works on the CPU; a warning says so.

    Args:
        num_gpus: use so many GPUs; None means all, 0 means the CPU.
        resource: what an actor is started for, by Ray's name; for any other one than GPU it computes on the CPU.

    Raises:
        ValueError: num_gpus is below 0 or above the GPUs that the cluster has.
    """
    places = _places(resource)
    if num_gpus is not None and not 0 <= num_gpus <= len(places):
        raise ValueError(f"num_gpus must be at least 0 and at most {len(places)}, the cluster's, but is {num_gpus}.")
    wanted = list(places)[:num_gpus]
    for attempt in range(ATTEMPTS):
        actors = {name: _placed(name, *places[name]) for name in wanted} or {ANYWHERE: _open(ANYWHERE, "cpu")}
        try:
            remarks = ray.get([actor.ping.remote() for actor in actors.values()])
            break
        except RayActorError:
            # One that was found while it went, because whoever held it had just ended.
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(1)
    for remark in filter(None, remarks):
        warnings.warn(remark, stacklevel=2)
    return Service(actors, num_gpus, resource)


def _places(resource: str) -> dict[str, tuple[str, Device]]:
    """Name -> (node, device) of every actor that this cluster could have."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return {
        f"{PREFIX}{node['NodeID'][:12]}-{number}": (node["NodeID"], number if resource == GPU else "cpu")
        for node in nodes
        for number in range(int(node["Resources"].get(resource, 0)))
    }


def _placed(name: str, node: str, device: Device) -> Any:
    # Not elsewhere when the node is lost: it would meet another node's GPU, or none.
    return _open(name, device, NodeAffinitySchedulingStrategy(node, soft=False))


class SharedSearch:
    """``interfaces.Search`` through the shared actors; answers equal ``FaissSearch(threads)`` bit by bit on the CPU.

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
        # Not the GPU: where three actors have died of a full one, this trial would die of it too.
        self._local = FaissSearch(threads, "cpu")
        self._threads = threads
        self._actors: dict[str, Any] = {}
        self._warned = False

    def knn(  # noqa: PLR0913 - what decides a search
        self,
        base_ND: NDArray[np.float32],
        queries_MD: NDArray[np.float32] | None,
        k: int,
        metric: Metric,
        half: bool = False,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """As ``FaissSearch.knn``."""
        checks.knn(base_ND, queries_MD, k, metric, half=half)
        # Without k: the actor keeps the widest answer, and cuts it.
        key = content_key("knn", (base_ND, queries_MD), (metric, half, self._threads), self._threads)
        answer: tuple[NDArray[np.float32], NDArray[np.int64]]
        answer = self._ask(key, "knn", (base_ND, queries_MD), (k, metric, half))
        return answer

    def kmeans(self, points_ND: NDArray[np.float32], k: int, seed: int, iterations: int, restarts: int) -> Clustering:
        """As ``FaissSearch.kmeans``."""
        checks.kmeans(points_ND, k, seed, iterations, restarts)
        rest = (k, seed, iterations, restarts)
        key = content_key("kmeans", (points_ND,), (*rest, self._threads), self._threads)
        answer: Clustering = self._ask(key, "kmeans", (points_ND,), rest)
        return answer

    def assign(
        self, points_ND: NDArray[np.float32], centroids_CD: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As ``FaissSearch.assign``."""
        checks.assign(points_ND, centroids_CD)
        key = content_key("assign", (points_ND, centroids_CD), (self._threads,), self._threads)
        answer: tuple[NDArray[np.int64], NDArray[np.float32]]
        answer = self._ask(key, "assign", (points_ND, centroids_CD), ())
        return answer

    def pic(self, points_ND: NDArray[np.float32], neighbors: int, sigma: float, damping: float) -> Clustering:
        """As ``FaissSearch.pic``."""
        checks.pic(points_ND, neighbors, sigma, damping)
        rest = (neighbors, sigma, damping)
        answer: Clustering = self._ask(
            content_key("pic", (points_ND,), (*rest, self._threads), self._threads), "pic", (points_ND,), rest
        )
        return answer

    def whiten(self, points_ND: NDArray[np.float32], dim: int) -> Whitening:
        """As ``FaissSearch.whiten``."""
        checks.whiten(points_ND, dim)
        key = content_key("whiten", (points_ND,), (dim, self._threads), self._threads)
        answer: Whitening = self._ask(key, "whiten", (points_ND,), (dim,))
        return answer

    def _ask(self, key: str, method: str, arrays: tuple[NDArray[np.float32] | None, ...], rest: tuple[Any, ...]) -> Any:
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # an actor on this trial's GPU needs what the trial only keeps for later
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
        """One request to the actor that has this answer, or else is the nearest free one.

        Raises:
            SearchLost: the actor died; it is running again, or a new one was asked for.
        """
        name = ANYWHERE
        try:
            name = self._route(key)
            return ray.get(getattr(self._actor(name), method).remote(key, self._threads, *arguments))
        except RayTaskError as error:
            raise error.cause from None
        except (*_GONE, ObjectLostError, GetTimeoutError) as error:
            self._await_restart(name)
            raise SearchLost(f"{name} was lost ({type(error).__name__}).") from error

    def _route(self, key: str) -> str:
        """The name of the actor to ask; with several, one of them decides, so that equal requests meet."""
        listed = ray.util.list_named_actors(all_namespaces=True)
        found = [entry["name"] for entry in listed if entry["namespace"] == NAMESPACE]
        names = sorted(name for name in found if name.startswith(PREFIX))
        names = [name for name in names if name != ANYWHERE] or names
        if len(names) < 2:
            return names[0] if names else ANYWHERE
        loads = self._loads(names)
        if not loads:
            return ANYWHERE
        here = ray.get_runtime_context().get_node_id()
        deciding = self._actor(min(loads)).route.remote(key, here, loads)
        return str(ray.get(deciding, timeout=RESTART_LIMIT_S))

    def _loads(self, names: Sequence[str]) -> dict[str, Load]:
        """Of every actor that answers at once; the others are down, or have more to do than they can say."""
        asked = {self._actor(name).load.remote(): name for name in names}
        answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=LOAD_LIMIT_S)
        loads = {}
        for reply in answered:
            try:
                loads[asked[reply]] = ray.get(reply)
            except _GONE:
                self._actors.pop(asked[reply], None)
        return loads

    def _actor(self, name: str) -> Any:
        if name not in self._actors:
            # A placed one is only found, since its device is not known here.
            self._actors[name] = _open(name, "auto") if name == ANYWHERE else _found(name)
        return self._actors[name]

    def _await_restart(self, name: str) -> None:
        """Return when the actor answers again, or is known to be beyond restarting: then the next attempt finds or
        opens another one under the name."""
        until = time.monotonic() + RESTART_LIMIT_S
        while name in self._actors:
            try:
                ray.get(self._actors[name].ping.remote(), timeout=max(0.0, until - time.monotonic()))
                return
            except ActorUnavailableError:
                # Its process has gone, and the next one is not there yet.
                if time.monotonic() > until:
                    self._actors.pop(name, None)
                time.sleep(_BETWEEN_PINGS_S)
            except (*_GONE, GetTimeoutError):
                self._actors.pop(name, None)


def _found(name: str) -> Any:
    """The actor of that name.

    Raises:
        SearchLost: there is none any more.
    """
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError as gone:
        raise SearchLost(f"{name} is gone.") from gone


def _open(name: str, device: Device, place: NodeAffinitySchedulingStrategy | None = None) -> Any:
    """The actor of that name, started if there is none."""
    options: dict[str, Any] = {"name": name, "namespace": NAMESPACE, "get_if_exists": True}
    # Nothing booked: a trial that asks for a whole GPU would wait for ever beside an actor that holds a part of it.
    options |= {"num_cpus": 0, "num_gpus": 0, "max_concurrency": CALLS_AT_ONCE}
    # Requests are repeated by the client, which counts; Ray would repeat without end one that kills the actor.
    options |= {"max_restarts": -1, "max_task_retries": 0}
    if place is not None:
        options["scheduling_strategy"] = place
    return ray.remote(SearchActor).options(**options).remote(device)


def content_key(
    method: str, arrays: tuple[NDArray[np.float32] | None, ...], rest: tuple[Any, ...], threads: int = 1
) -> str:
    """A digest that is equal for equal requests.

    Args:
        method: name of the search.
        arrays: float32; None for an argument that is left out.
        rest: the other arguments.
        threads: used to hash large arrays.

    Returns:
        Hexadecimal digits.
    """
    digest = hashlib.blake2b(repr((method, rest)).encode(), digest_size=16)
    for array in arrays:
        digest.update(repr(None if array is None else array.shape).encode())
        if array is not None:
            for part in _digests(np.ascontiguousarray(array).reshape(-1), threads):
                digest.update(part)
    return digest.hexdigest()


def _digests(values_N: NDArray[np.float32], threads: int) -> list[bytes]:
    """Of each block of values, several at once."""
    found = [b""] * -(-len(values_N) // _HASHED_AT_ONCE)

    def note(block: slice) -> None:
        found[block.start // _HASHED_AT_ONCE] = hashlib.blake2b(values_N[block].data, digest_size=16).digest()

    blocks.each(len(values_N), threads, note, rows=_HASHED_AT_ONCE)
    return found
