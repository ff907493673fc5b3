"""The loop Ray Train runs: one worker group runs the shared stages of all seeds, one trial after another.

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
from .messages import Failed, Report, TrialSpec
from .pipeline_runner import PipelineRunner
from .runtime import TrainWorker
from .tune_entry import TRIAL_SPEC, Reporter, collapse_outcome, leases_of, send_to_tune

_POLL_S = 0.5


class GroupLost(RuntimeError):
    """A worker group lost a worker or its GPU; another group may succeed."""


def run_group(config: Mapping[str, Any]) -> None:
    """Run every trial of ``config["trial_specs"]`` (JSON texts) with all workers of this group.

    Rank 0 puts its reports, as (number of the trial, Report), into the ``ray.util.queue.Queue`` under
    ``config["queue"]``.
    """
    trial_specs: list[TrialSpec] = [json.loads(text) for text in config["trial_specs"]]
    process_group = TrainWorker()
    torch.set_num_threads(config["threads"])
    storage = trial_specs[0]["storage"]
    runner = PipelineRunner(storage, process_group, SharedSearch(config["threads"]), leases_of(storage))
    for number, trial_spec in enumerate(trial_specs):

        def send(report: Report, number: int = number) -> None:
            if process_group.rank == 0:
                config["queue"].put((number, report))

        reporter = Reporter(send)
        try:
            reporter.flush(runner.walk(trial_spec, reporter.epoch))
        except Collapsed as collapsed:  # on every rank alike, so the group goes on
            reporter.flush(collapse_outcome(collapsed))
    train.report({"trials": len(trial_specs)})


def run_trial_in_group(config: Mapping[str, Any], workers: int, cpu: float, gpu: float) -> None:
    """A Tune trainable that runs one trial in a worker group of its own (``resources.trial.workers``).

    Epochs are reported as they come. If the group fails, so does its trial, with the first worker's error.

    Args:
        workers: processes of the group. cpu, gpu: the share of each.

    Raises:
        GroupLost: the group lost a worker or its GPU; Tune then starts the trial again.
    """
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.util.queue import Empty, Queue

    messages = Queue(actor_options=beside_me())
    each = {"CPU": cpu} | ({"GPU": gpu} if gpu else {})
    trainer = TorchTrainer(
        run_group,
        train_loop_config={"trial_specs": [config[TRIAL_SPEC]], "queue": messages, "threads": max(1, int(cpu))},
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
                send_to_tune(messages.get(timeout=_POLL_S if not ended else 0.0)[1])
        except Empty:
            pass
    messages.shutdown()
    if failed and was_lost(failed[0]):
        raise GroupLost(last_words(failed[0]))
    if failed:
        send_to_tune(Report(outcome=Failed(last_words(failed[0]))))


def beside_me() -> dict[str, Any]:
    """Options of an actor that reserves no resources and ends only with this node."""
    node = ray.get_runtime_context().get_node_id()
    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}


def _fit(trainer: Any, failed: list[BaseException]) -> None:
    try:
        trainer.fit()
    except BaseException as error:  # reported by the caller's thread
        failed.append(error)


def was_lost(error: BaseException) -> bool:
    """Whether a group ended because a worker, its node or its GPU was lost, and not because of what it computed."""
    workers: Mapping[int, BaseException] = getattr(error, "worker_failures", None) or {}
    gone = any(type(each).__name__.startswith("WorkerHealthCheck") for each in workers.values())
    # Without a word of any worker it was the group itself that could not go on.
    return gone or not workers or any(map(cuda_errors.is_lost, workers.values()))


def last_words(error: BaseException) -> str:
    """The type and last line of what the first worker raised, or else of the trainer's own error."""
    workers: Mapping[int, BaseException] = getattr(error, "worker_failures", None) or {}
    first = workers[min(workers)] if workers else error
    # Ray may put the worker's whole stack into the text; its last line is the error itself.
    return ": ".join([type(first).__name__, *str(first).strip().splitlines()[-1:]])
