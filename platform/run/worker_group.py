"""Worker groups: the prepare phase as one Ray Train group, and trials that each start a group of their own."""

import json
import queue
import threading
from typing import Any

from ray import tune
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.util.queue import Empty, Queue

from trainables.runner import train_group as worker
from trainables.runner.messages import TrialSpec

from ..study.file_schema import Share
from ..study.study import Study
from .launch_state import LaunchState

_POLL_S = 0.5
_TRIAL_BYTES = 1e6


def scaling(share: Share) -> ScalingConfig:
    """A group of ``share.workers`` workers, each with the share's CPU and GPU."""
    each = {"CPU": share.cpu} | ({"GPU": share.gpu} if share.gpu else {})
    return ScalingConfig(num_workers=share.workers, use_gpu=share.gpu > 0, resources_per_worker=each)


def prepare(study: Study, state: LaunchState) -> None:
    """Run the shared stages of all seeds in one worker group; its reports go to the launch's state as they come.

    A group that loses a worker, or its node, is followed by another one for what is unfinished, ``retries`` times. One
    that fails in any other way leaves its unfinished trials failed, with the reason.
    """
    trials = state.trial_queue.prepare_trials
    for key, _ in trials:
        state.on_start(key)
    for attempt in range(study.retries + 1):
        unfinished = [(key, trial_spec) for key, trial_spec in trials if key in state.trial_queue.running]
        error = _run_group(study.resources.prepare, state, unfinished) if unfinished else None
        if error is None or attempt == study.retries or not worker.was_lost(error):
            break
    for key, _ in trials:
        if key in state.trial_queue.running:
            state.on_failed(key, f"process lost: the prepare group ended: {error or 'without a result'}")


def _run_group(share: Share, state: LaunchState, trials: list[tuple[str, TrialSpec]]) -> BaseException | None:
    """Run these trials in one group. Returns the error that ended it early, or None."""
    reports = Queue(actor_options=worker.beside_me())
    trainer = TorchTrainer(
        worker.run_group,
        train_loop_config={
            "trial_specs": [json.dumps(trial_spec) for _, trial_spec in trials],
            "queue": reports,
            "threads": max(1, int(share.cpu)),
        },
        scaling_config=scaling(share),
        run_config=RunConfig(),
    )
    ended: queue.Queue[BaseException | None] = queue.Queue()
    # The trainer blocks, and the ledger's connection belongs to this thread: so the trainer gets a thread of its own.
    threading.Thread(target=_fit, args=(trainer, ended), daemon=True).start()
    while True:
        try:
            number, report = reports.get(timeout=_POLL_S)
            state.on_report(trials[number][0], report)
            continue
        except Empty:
            state.changed()
        try:
            error = ended.get_nowait()
            break
        except queue.Empty:
            pass
    reports.shutdown()
    return error


def _fit(trainer: TorchTrainer, ended: "queue.Queue[BaseException | None]") -> None:
    try:
        trainer.fit()
        ended.put(None)
    except BaseException as error:
        ended.put(error)


def trainable(share: Share) -> tuple[Any, Any]:
    """A Tune function that runs its trial in a worker group, and the resources of the function itself.

    The group's own resources are not in the trial's placement group: Train asks for them. So the caller must see to it
    that no more trials run at once than the cluster has room for.
    """
    bound = tune.with_parameters(worker.run_trial_in_group, workers=share.workers, cpu=share.cpu, gpu=share.gpu)
    # Tune takes no trial without resources; a CPU, however small a share, would be missing where a group wants all.
    return bound, tune.PlacementGroupFactory([{"CPU": 0, "memory": _TRIAL_BYTES}])
