"""Answers of a search actor, kept by content, each computed by one caller while the others wait for it."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np

from ..interfaces import Clustering, Whitening


class Answers:
    """Keeps answers by key up to a number of bytes; the longest unused goes first, and one caller computes each.

    Args:
        limit_bytes: the most that all answers may take.
        changed: called with this object when a request comes and when it goes.
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
        """Return an answer that is kept, that another caller is computing, or that is computed now.

        Args:
            key: digest of the request.
            width: the answer must be at least so wide, such as the number of neighbors.
            compute: returns the answer.

        Raises:
            Exception: what ``compute`` raises, here or in the caller that is waited for.
        """
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
