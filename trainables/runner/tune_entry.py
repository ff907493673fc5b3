"""The function Ray Tune runs: one cell after another in a warm process.

With ``reuse_actors`` this process outlives its trials, so torch, the data set on the device and the stage results of
earlier trials are still there. Everything a trial computes depends on its cell alone, warm or cold.
"""

import json
import os
import socket
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any

import torch
from ray import tune

from .. import cuda_errors
from ..interfaces import Epoch
from ..store import object_store
from ..store.leases import SharedLeases
from ..vector_search.service import SharedSearch
from .guards import Collapsed
from .pipeline_runner import PipelineRunner
from .runtime import SingleProcess

_warm: dict[str, PipelineRunner] = {}


class Reporter:
    """Collects epochs and hands them to ``send`` in parcels, since the driver reads those of all trials.

    judged: a slot whose epochs are sent one by one. every_s: between two parcels of the others.
    Tune's ``report`` returns when the driver has read it, so a trial that is judged never runs ahead of its judge.
    """

    def __init__(self, send: Any, judged: str = "", every_s: float = 0.5) -> None:
        self._send, self._judged, self._every_s = send, judged, every_s
        self._epochs: list[dict[str, Any]] = []
        self._sent_at = 0.0

    def epoch(self, slot: str, epoch: Epoch) -> None:
        row = {"slot": slot, "epoch": epoch.number, "total": epoch.total, "metrics": dict(epoch.metrics)}
        self._epochs.append(row)
        if slot == self._judged or time.monotonic() - self._sent_at >= self._every_s:
            self.flush()

    def begin(self) -> None:
        """Say that the cell has begun: for a driver that keeps its time."""
        self._send({"epochs": [], "outcome": None})

    def flush(self, outcome: Mapping[str, Any] | None = None) -> None:
        """Send what is collected; with ``outcome`` it is the last word of this cell."""
        parcel, self._epochs = self._epochs, []
        self._sent_at = time.monotonic()
        if parcel or outcome is not None:
            self._send({"epochs": parcel, "outcome": dict(outcome) if outcome is not None else None})


def runner(storage: str, threads: int) -> PipelineRunner:
    """This process's walker for a storage; torch is set to ``threads`` threads."""
    torch.set_num_threads(threads)
    if storage not in _warm:
        _warm[storage] = PipelineRunner(storage, SingleProcess(), SharedSearch(threads), leases_of(storage))
    return _warm[storage]


def leases_of(storage: str) -> SharedLeases | None:
    """Of a storage by URI; in a folder the locks of its files do."""
    return SharedLeases(storage) if object_store.is_uri(storage) else None


def whereabouts() -> dict[str, Any]:
    """The process and device that this trial ran on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {"host": socket.gethostname(), "pid": os.getpid(), "device": device, "torch": torch.__version__}


def collapse_outcome(collapsed: Collapsed) -> dict[str, Any]:
    """What is reported of a trial whose clustering collapsed."""
    return {"status": "collapsed", "error": str(collapsed), "metrics": collapsed.metrics, "worker": whereabouts()}


def run_cell(trial_spec: Mapping[str, Any], reporter: Reporter) -> None:
    """Walk a cell and report its outcome. A stage that raises fails the cell; only a lost process is retried.

    Where the GPU itself has failed the cell goes back, and this never returns: the process keeps the GPU, for Ray would
    give it to the next trial. The driver ends it with the sweep.

    Raises:
        DeviceLost: the GPU of this process is gone. Tune then ends the process and starts the cell in another one.
    """
    if trial_spec.get("time_limit_s") is not None:
        reporter.begin()
    try:
        done = runner(trial_spec["storage"], trial_spec["threads"]).walk(trial_spec, reporter.epoch)
        outcome: dict[str, Any] = {"status": "done", **done.as_dict(), "worker": whereabouts()}
    except Collapsed as collapsed:
        outcome = collapse_outcome(collapsed)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        if cuda_errors.is_broken(error):
            reporter.flush({"status": cuda_errors.BROKEN, "error": f"{socket.gethostname()}: {said}"})
            _hold()
        if cuda_errors.is_lost(error):
            raise cuda_errors.DeviceLost(f"{socket.gethostname()}: {said}") from error
        outcome = {
            "status": "failed",
            "error": said,
            "traceback": traceback.format_exc(limit=20),
        }
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    reporter.flush(outcome)


def _hold() -> None:
    threading.Event().wait()


def run_trial(config: Mapping[str, Any]) -> None:
    """Ray Tune's trainable. ``config["cell"]`` is JSON text: Tune would take a nested dict apart at its dots."""
    trial_spec = json.loads(config["cell"])
    run_cell(trial_spec, Reporter(tune.report, trial_spec.get("judged", ""), trial_spec["report_every_s"]))
