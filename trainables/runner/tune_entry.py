"""The function Ray Tune runs: one trial after another in a warm process.

With ``reuse_actors`` this process outlives its trials, so torch, the data set on the device and the stage results of
earlier trials are still there. Everything a trial computes depends on its TrialSpec alone, warm or cold.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import ray
import torch
from ray import tune

from .. import cuda_errors
from ..interfaces import Epoch
from ..store import object_store
from ..store.leases import SharedLeases
from ..vector_search.service import SharedSearch
from . import messages
from .guards import Collapsed
from .messages import DeviceBroken, EpochRecord, Failed, Outcome, Report, TrialSpec, WorkerInfo
from .pipeline_runner import PipelineRunner
from .runtime import SingleProcess

TRIAL_SPEC = "trial_spec"
"""The key of Tune's config under which the TrialSpec stands."""
REPORT = "report"
"""The key of Tune's results under which a Report stands."""

Send = Callable[[Report], None]

_runners: dict[str, PipelineRunner] = {}


class NoUsableGpu(RuntimeError):
    """A trial was given a GPU that torch cannot use; on the CPU it would take days without a word."""


class Reporter:
    """Collects the epochs of one trial and sends them together, because the driver reads the reports of all trials.

    Tune's ``report`` returns when the driver has read it, so a trial never runs ahead of a decision to stop it.
    """

    def __init__(self, send: Send, watched_slot: str = "", every_s: float = 0.5) -> None:
        """
        Args:
            watched_slot: the slot of which each epoch is sent at once.
            every_s: seconds between two reports of all other epochs.
        """
        self._send, self._watched_slot, self._every_s = send, watched_slot, every_s
        self._epochs: list[EpochRecord] = []
        self._sent_at = 0.0

    def epoch(self, slot: str, epoch: Epoch) -> None:
        """Take an epoch, and send what is collected if it is time to."""
        self._epochs.append(EpochRecord(slot, epoch.number, epoch.total, dict(epoch.metrics)))
        if slot == self._watched_slot or time.monotonic() - self._sent_at >= self._every_s:
            self.flush()

    def begin(self) -> None:
        """Say that the trial has begun, for a driver that enforces its time limit."""
        self._send(Report())

    def flush(self, outcome: Outcome | None = None) -> None:
        """Send what is collected; with ``outcome`` it is the last report of this trial."""
        epochs, self._epochs = self._epochs, []
        self._sent_at = time.monotonic()
        if epochs or outcome is not None:
            self._send(Report(epochs, outcome))


def runner_of(storage: str, threads: int) -> PipelineRunner:
    """This process's runner for a storage; torch is set to ``threads`` threads."""
    torch.set_num_threads(threads)
    if storage not in _runners:
        own = SingleProcess(given_device())
        keep_to_share(own.device)
        _runners[storage] = PipelineRunner(storage, own, SharedSearch(threads), leases_of(storage))
    return _runners[storage]


def given_device() -> torch.device:
    """The device that Ray has given to this process: a trial that asked for no GPU takes none.

    Outside of Ray it is the machine's own, as in ``SingleProcess``.

    Raises:
        NoUsableGpu: Ray gave a GPU, and torch cannot use it.
    """
    if not ray.is_initialized():
        return SingleProcess().device
    given = ray.get_gpu_ids()
    if not given:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise NoUsableGpu(
            f"{socket.gethostname()}: Ray gave GPU {given[0]} to this trial, but {cuda_errors.why_no_gpu()}"
        )
    return torch.device("cuda")


def keep_to_share(device: torch.device) -> None:
    """Limit this process to its share of a GPU's memory: who takes more fails by itself, and not the others there."""
    if device.type == "cuda" and ray.is_initialized():
        share = float(ray.get_runtime_context().get_assigned_resources().get("GPU", 1.0))
        if share < 1:
            torch.cuda.set_per_process_memory_fraction(share)


def leases_of(storage: str) -> SharedLeases | None:
    """The leases of a storage by URI; None for a folder, where file locks serve."""
    return SharedLeases(storage) if object_store.is_uri(storage) else None


def worker_info() -> WorkerInfo:
    """The process and device that this trial ran on."""
    device = torch.cuda.get_device_name() if given_device().type == "cuda" else "cpu"
    return {"host": socket.gethostname(), "pid": os.getpid(), "device": device, "torch": torch.__version__}


def collapse_outcome(collapsed: Collapsed) -> messages.Collapsed:
    """What is reported of a trial that a guard stopped because its clustering collapsed."""
    return messages.Collapsed(str(collapsed), collapsed.metrics)


def run_and_report(trial_spec: TrialSpec, reporter: Reporter) -> None:
    """Run a trial and report its outcome. A stage that raises fails the trial; only a lost process is retried.

    Where the GPU itself has failed, this reports DeviceBroken and never returns: the process keeps the GPU, for Ray
    would give it to the next trial. The driver ends the process with the sweep.

    Raises:
        DeviceLost: this process can use its GPU no more. Tune then ends the process and starts the trial in another.
    """
    if trial_spec.get("time_limit_s") is not None:
        reporter.begin()
    outcome: Outcome
    try:
        done = runner_of(trial_spec["storage"], trial_spec["threads"]).walk(trial_spec, reporter.epoch)
        outcome = replace(done, worker=worker_info())
    except Collapsed as collapsed:
        outcome = collapse_outcome(collapsed)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if cuda_errors.is_broken(error):
            reporter.flush(DeviceBroken(f"{socket.gethostname()}: {text}"))
            _wait_forever()
        if cuda_errors.is_lost(error):
            raise cuda_errors.DeviceLost(f"{socket.gethostname()}: {text}") from error
        outcome = Failed(text)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    reporter.flush(outcome)


def _wait_forever() -> None:
    threading.Event().wait()


def send_to_tune(report: Report) -> None:
    """Report to the Tune session of this process; returns when the driver has read it."""
    tune.report({REPORT: report})


def run_trial(config: Mapping[str, Any]) -> None:
    """Ray Tune's trainable. The TrialSpec is JSON text: Tune would take a nested dict apart at its dots."""
    trial_spec: TrialSpec = json.loads(config[TRIAL_SPEC])
    reporter = Reporter(send_to_tune, trial_spec.get("watched_slot", ""), trial_spec["report_every_s"])
    run_and_report(trial_spec, reporter)
