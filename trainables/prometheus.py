"""What Prometheus sees of sweeps, through the metrics ports of Ray's nodes, where ``ray_`` stands before each name.

Dashboards and alert rules on these names are in ``infra/monitoring``. A gauge keeps its last value for as long as its
process lives; nothing here waits for anybody.
"""

import threading
import time
from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge

_EVERY_S = 5.0


class SearchGauges:
    """Of one search actor. device: "cpu", or the number of its GPU on its node."""

    def __init__(self, device: str) -> None:
        self._lock = threading.Lock()
        self._counted: dict[str, int] = {}
        self._queue = Gauge("clustersweep_search_queue", "Search requests inside the actor now.", ("device",))
        self._kept = Gauge("clustersweep_search_kept_bytes", "Answers kept in the actor's memory.", ("device",))
        self._answers = Counter(
            "clustersweep_search_answers",
            "Search requests by how they were answered: hits (kept), joined (being computed) or computed.",
            ("device", "how"),
        )
        for metric in (self._queue, self._kept, self._answers):
            metric.set_default_tags({"device": device})

    def show(self, counts: Mapping[str, int], queue: int, kept_bytes: int) -> None:
        """counts: hits, joined and computed since the actor began; other keys are left out."""
        with self._lock:
            self._queue.set(queue)
            self._kept.set(kept_bytes)
            for how in ("hits", "joined", "computed"):
                if (new := counts[how] - self._counted.get(how, 0)) > 0:
                    self._answers.inc(new, {"how": how})
                    self._counted[how] = counts[how]


class SweepGauges:
    """Of one launch, shown by its driver.

    gpus: that one trial books.
    """

    def __init__(self, study: str, gpus: float) -> None:
        self._due_s = 0.0
        self._trials = Gauge("clustersweep_trials", "Trials of the launch by state.", ("study", "state"))
        self._stages = Gauge(
            "clustersweep_stages",
            "Stages that the finished trials needed, by how they got them: cached (found) or computed.",
            ("study", "how"),
        )
        booked = Gauge("clustersweep_trial_gpus", "GPUs that each trial books.", ("study",))
        for metric in (self._trials, self._stages, booked):
            metric.set_default_tags({"study": study})
        booked.set(gpus)

    def show(self, states: Mapping[str, int], stages: Mapping[str, int]) -> None:
        """Once in a few seconds; what comes between is left out.

        states: trials by state, an empty one with its zero. stages: of the finished ones, "cached" and "computed".
        """
        now_s = time.monotonic()
        if now_s < self._due_s:
            return
        self._due_s = now_s + _EVERY_S
        for state, number in states.items():
            self._trials.set(number, {"state": state.lower()})
        for how in ("cached", "computed"):
            self._stages.set(stages.get(how, 0), {"how": how})
