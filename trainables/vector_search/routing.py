"""Which of several search actors gets a request: who has the answer, or works on it; else the nearest free one."""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

KEPT_KEYS = 10_000
UNDERWAY_S = 1.0
"""A request that was sent off counts for so long, until it shows in the queue of the actor that it was sent to."""


@dataclass(frozen=True)
class Load:
    """The load of one actor.

    Attributes:
        queue: number of requests inside it now.
        node: node id of its machine, as Ray names it.
    """

    queue: int
    node: str


class Router:
    """Sends equal requests to one actor, and all others to the actor with the shortest queue, the own node first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._homes: OrderedDict[str, str] = OrderedDict()
        self._underway: deque[tuple[float, str]] = deque()
        self._lock = threading.Lock()

    def choose(self, key: str, node: str, loads: Mapping[str, Load]) -> str:
        """Choose the actor for a request.

        Args:
            key: digest of the request.
            node: node id of the process that asks.
            loads: name of an actor -> its load; at least one.

        Returns:
            One of the names in ``loads``.
        """
        with self._lock:
            if self._homes.get(key) not in loads:
                self._homes[key] = self._freest(node, loads)
                self._underway.append((self._clock(), self._homes[key]))
            self._homes.move_to_end(key)
            while len(self._homes) > KEPT_KEYS:
                self._homes.popitem(last=False)
            return self._homes[key]

    def _freest(self, node: str, loads: Mapping[str, Load]) -> str:
        while self._underway and self._clock() - self._underway[0][0] > UNDERWAY_S:
            self._underway.popleft()
        sent = [name for _, name in self._underway]
        return min(loads, key=lambda name: (loads[name].queue + sent.count(name), loads[name].node != node, name))
