"""The loop Ray Train runs: one worker group carries the shared stages of all seeds, one cell after another.

A group takes seconds to start and to stop, so there is one for the whole prepare phase.
"""

import json
import threading
from collections.abc import Mapping
from typing import Any

import ray
import torch
from ray import train
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from .. import cuda_errors
from ..vector_search.service import SharedSearch
from .guards import Collapsed
from .pipeline_runner import PipelineRunner
from .runtime import TrainWorker
from .tune_entry import Reporter, collapse_outcome, leases_of

_POLL_S = 0.5


class GroupLost(RuntimeError):
    """A worker group lost a worker or its GPU; another group may succeed."""


def run_group(config: Mapping[str, Any]) -> None:
    """Walk every cell of ``config["cells"]`` (JSON text) with all workers of this group.

    Rank 0 sends its parcels, (cell number, parcel), into the ``ray.util.queue.Queue`` under ``config["queue"]``.
    """
    cells = [json.loads(text) for text in config["cells"]]
    process_group = TrainWorker()
    torch.set_num_threads(config["threads"])
    storage = cells[0]["storage"]
    runner = PipelineRunner(storage, process_group, SharedSearch(config["threads"]), leases_of(storage))
    for number, trial_spec in enumerate(cells):

        def send(parcel: dict[str, Any], number: int = number) -> None:
            if process_group.rank == 0:
                config["queue"].put((number, parcel))

        reporter = Reporter(send)
        try:
            reporter.flush({"status": "done", **runner.walk(trial_spec, reporter.epoch).as_dict()})
        except Collapsed as collapsed:  # on every rank alike, so the group goes on
            reporter.flush(collapse_outcome(collapsed))
    train.report({"cells": len(cells)})


def run_trial_in_group(config: Mapping[str, Any], workers: int, cpu: float, gpu: float) -> None:
    """A Tune trainable that carries one cell in a worker group of its own (``resources.trial.workers``).

    Epochs are reported as they come. A group that fails does so for its cell, with the first worker's last words; one
    that lost a worker is an error, so that Tune starts the cell again.

    Raises:
        GroupLost: see there.
    """
    from ray import tune
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.util.queue import Empty, Queue

    messages = Queue(actor_options=beside_me())
    each = {"CPU": cpu} | ({"GPU": gpu} if gpu else {})
    trainer = TorchTrainer(
        run_group,
        train_loop_config={"cells": [config["cell"]], "queue": messages, "threads": max(1, int(cpu))},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpu > 0, resources_per_worker=each),
        run_config=RunConfig(),
    )
    failed: list[BaseException] = []
    # Tune wants its reports from this thread, and the trainer blocks.
    fitting = threading.Thread(target=_fit, args=(trainer, failed), daemon=True)
    fitting.start()
    ended = False
    while not ended:
        ended = not fitting.is_alive()
        try:
            while True:
                tune.report(messages.get(timeout=_POLL_S if not ended else 0.0)[1])
        except Empty:
            pass
    messages.shutdown()
    if failed and was_lost(failed[0]):
        raise GroupLost(last_words(failed[0]))
    if failed:
        tune.report({"epochs": [], "outcome": {"status": "failed", "error": last_words(failed[0])}})


def beside_me() -> dict[str, Any]:
    """Options of an actor that books nothing and ends with this node alone."""
    node = ray.get_runtime_context().get_node_id()
    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}


def _fit(trainer: Any, failed: list[BaseException]) -> None:
    try:
        trainer.fit()
    except BaseException as error:  # told by the caller's thread
        failed.append(error)


def was_lost(error: BaseException) -> bool:
    """Whether a group ended because a worker, its node or its GPU did, and not for what the workers computed."""
    workers: Mapping[int, BaseException] = getattr(error, "worker_failures", None) or {}
    gone = any(type(each).__name__.startswith("WorkerHealthCheck") for each in workers.values())
    # Without a word of any worker it was the group itself that could not go on.
    return gone or not workers or any(map(cuda_errors.is_lost, workers.values()))


def last_words(error: BaseException) -> str:
    """What the first worker raised, or the trainer's own error."""
    workers: Mapping[int, BaseException] = getattr(error, "worker_failures", None) or {}
    first = workers[min(workers)] if workers else error
    # Ray may put the worker's whole stack into the text; its last line is the error itself.
    return ": ".join([type(first).__name__, *str(first).strip().splitlines()[-1:]])
