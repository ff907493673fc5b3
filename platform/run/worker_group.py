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

from ..study.file_schema import Share
from ..study.study import Study
from .launch_state import LaunchState

_POLL_S = 0.5
_TRIAL_BYTES = 1e6


def scaling(share: Share) -> ScalingConfig:
    """A group of ``share.workers`` workers, each with the share's CPU and GPU."""
    each = {"CPU": share.cpu} | ({"GPU": share.gpu} if share.gpu else {})
    return ScalingConfig(num_workers=share.workers, use_gpu=share.gpu > 0, resources_per_worker=each)


def prepare(study: Study, launch_state: LaunchState) -> None:
    """Run the prepare cells of all seeds in one worker group; what the group reports goes to the course as it comes.

    A group that loses a worker, or its node, is followed by another one for what is unfinished, ``retries`` times. One
    that fails in any other way leaves its unfinished cells failed, with the reason.
    """
    cells = launch_state.trial_queue.prepare_cells
    for key, _ in cells:
        launch_state.starts(key)
    for attempt in range(study.retries + 1):
        left = [(key, trial_spec) for key, trial_spec in cells if key in launch_state.trial_queue.running]
        error = _run(study.resources.prepare, launch_state, left) if left else None
        if error is None or attempt == study.retries or not worker.was_lost(error):
            break
    for key, _ in cells:
        if key in launch_state.trial_queue.running:
            launch_state.ends(key, f"process lost: the prepare group ended: {error or 'without a result'}")


def _run(share: Share, launch_state: LaunchState, cells: list[tuple[str, dict[str, Any]]]) -> BaseException | None:
    """One group, for these cells; what ended it before its time."""
    messages = Queue(actor_options=worker.beside_me())
    trainer = TorchTrainer(
        worker.run_group,
        train_loop_config={
            "cells": [json.dumps(trial_spec) for _, trial_spec in cells],
            "queue": messages,
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
            number, parcel = messages.get(timeout=_POLL_S)
            launch_state.hears(cells[number][0], parcel)
            continue
        except Empty:
            launch_state.changed()
        try:
            error = ended.get_nowait()
            break
        except queue.Empty:
            pass
    messages.shutdown()
    return error


def _fit(trainer: TorchTrainer, ended: "queue.Queue[BaseException | None]") -> None:
    try:
        trainer.fit()
        ended.put(None)
    except BaseException as error:
        ended.put(error)


def trainable(share: Share) -> tuple[Any, Any]:
    """A Tune function that carries its cell in a worker group, and the resources of the function itself.

    The group's own resources are not in the trial's placement group: Train asks for them. So no more trials may run at
    once than the cluster has room for, which the caller sees to.
    """
    bound = tune.with_parameters(worker.run_trial_in_group, workers=share.workers, cpu=share.cpu, gpu=share.gpu)
    # Tune takes no trial without resources; a CPU, however small a share, would be missing where a group wants all.
    return bound, tune.PlacementGroupFactory([{"CPU": 0, "memory": _TRIAL_BYTES}])
