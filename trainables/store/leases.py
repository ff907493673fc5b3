"""Turns between the nodes of one cluster: who may compute a stage result that lies in an object store.

On one node, and on a disk that nodes share, a file's lock decides. An object store has none that all of them offer, so
here one actor keeps the leases in its memory. A lease that is not renewed ends: its holder, or its node, is gone. Two
clusters on one URI do not see each other's leases, and an actor that was lost forgets its own: then two may compute the
same, which costs time and never a result, since each publishes a whole one under the same address.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from ..vector_search.service import NAMESPACE

LEASE_S = 15.0
_RENEW_S = LEASE_S / 5
_ASK_LIMIT_S = 10.0
_ATTEMPTS = 3
_NAME = "leases"

_log = logging.getLogger(__name__)


class Book:
    """The leases of a cluster: name of a result -> its holder, and when the lease ends."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: dict[str, tuple[str, float]] = {}

    def take(self, name: str, holder: str) -> bool:
        """Give a lease to a holder, or renew it.

        Returns:
            False while another holder has it.
        """
        now_s = self._clock()
        owner, until_s = self._held.get(name, (holder, now_s))
        if owner != holder and now_s < until_s:
            return False
        self._held[name] = (holder, now_s + LEASE_S)
        return True

    def give_back(self, name: str, holder: str) -> None:
        """End a lease; nothing happens if another holder has it."""
        if self._held.get(name, ("", 0.0))[0] == holder:
            del self._held[name]


class SharedLeases:
    """``artifacts.Leases`` of one storage, through the actor that all processes of the cluster find by name.

    An actor that cannot be reached is asked ATTEMPTS times; then the caller computes without a lease.
    """

    def __init__(self, storage: str) -> None:
        self._storage = storage

    @contextmanager
    def hold(self, name: str, patience_s: float = 0.5) -> Iterator[None]:
        """Context: hold the lease of a result, renewed until the end; waits while another process has it.

        Args:
            name: ``<stage>-<address>``.
            patience_s: pause between two attempts.
        """
        whole, holder, ended = f"{self._storage}/{name}", uuid.uuid4().hex, threading.Event()
        while not self._ask("take", whole, holder):
            time.sleep(patience_s)

        def renew() -> None:
            while not ended.wait(_RENEW_S):
                self._ask("take", whole, holder)

        renewing = threading.Thread(target=renew, daemon=True)
        renewing.start()
        try:
            yield
        finally:
            ended.set()
            renewing.join()
            self._ask("give_back", whole, holder)

    def _ask(self, method: str, name: str, holder: str) -> Any:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return ray.get(getattr(start(), method).remote(name, holder), timeout=_ASK_LIMIT_S)
            except (RayActorError, GetTimeoutError) as error:
                _log.info("%s of %s, attempt %d of %d: %r", method, name, attempt, _ATTEMPTS, error)
        _log.warning("No leases can be had; %s may be computed twice.", name)
        return True


def start() -> Any:
    """The actor that keeps the leases; started if there is none. It ends with the process that started it."""
    options: dict[str, Any] = {"name": _NAME, "namespace": NAMESPACE, "get_if_exists": True}
    return ray.remote(Book).options(**options, num_cpus=0, num_gpus=0, max_restarts=-1, max_task_retries=0).remote()
