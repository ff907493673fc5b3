"""A driver without Ray: ledger, queue, tracker and Optuna's file as in a sweep, and one process that does the trials.

Many of them fit where one cluster does. Started as ``python -m tests.chaos.driver``; see ``main``.
"""

import argparse
import math
import os
import random
import signal
import sys
import time
from pathlib import Path
from platform.ledger.launches import StudyHeld
from platform.ledger.ledger import Ledger, place_of
from platform.ledger.storage import Storage
from platform.run import launch
from platform.run.cluster import Size
from platform.run.launch_state import LaunchState
from platform.study.study import load_study
from platform.tracking import optuna_export
from platform.tracking.mlflow import Tracker

import torch

from trainables import event_log
from trainables.data import datasets
from trainables.runner.messages import Done, Report, TrialSpec
from trainables.runner.pipeline_runner import PipelineRunner
from trainables.runner.runtime import SingleProcess
from trainables.vector_search.faiss_search import FaissSearch

SIZE = Size(cpus=2.0, gpus=0.0)
HELD = 3


def request_of(page: Path, name: str, storage: Path) -> launch.Request:
    study = load_study(page, [f"name={name}"] if name else [])
    return launch.Request(
        study=study, fingerprint=datasets.load(datasets.Spec(**study.dataset)).fingerprint, storage=Storage(storage)
    )


def run(state: LaunchState, runner: PipelineRunner | None) -> None:
    """Every trial, one after another; without a runner each does nothing and has a value that its settings decide."""
    while (found := state.trial_queue.next()) is not None:
        key, trial_spec = found
        state.on_start(key)
        if runner is not None:
            done = runner.walk(trial_spec, lambda slot, epoch: None)
        else:
            event_log.note(event_log.START, key)
            metrics = (
                {state.trial_queue.study.objective.metric: value(trial_spec)} if trial_spec["kind"] == "trial" else {}
            )
            done = Done(metrics, [], 0.0)
        state.on_report(key, Report(outcome=done))


def value(trial_spec: TrialSpec) -> float:
    numbers = [number for number in trial_spec["changes"].values() if isinstance(number, float)]
    return math.fmod(sum(numbers) * 1e4, 1.0) + trial_spec["seed"]


def drive(request: launch.Request, uri: str, runner: PipelineRunner | None) -> None:
    """One launch from its first row to its last, or from where another driver was killed."""
    ledger = Ledger(place_of(request.storage))
    opened = launch.open_launch(ledger, request, SIZE)
    tracker = Tracker(ledger.place, request.storage.folder, opened.id, uri) if uri else None
    if tracker is not None:
        tracker.start()
    with launch.leased(ledger, request, opened, SIZE) as state:
        run(state, runner)
    optuna_export.export(ledger, opened.id, request.storage.folder / optuna_export.DATABASE)
    if tracker is not None:
        unsent = tracker.close(300)
        assert not unsent, unsent
    ledger.close()


def be_killed(request: launch.Request, kills: int, seed: int) -> None:
    """Drive no-op trials in processes that are killed one after another at random, and then to the end."""
    chance = random.Random(seed)
    for _ in range(kills):
        child = os.fork()
        if not child:
            drive(request, "", None)
            os._exit(0)
        time.sleep(chance.uniform(0.0, 0.4))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    drive(request, "", None)


def main() -> int:
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("page", type=Path)
    parse.add_argument("storage", type=Path)
    parse.add_argument("--name", default="")
    parse.add_argument("--uri", default="", help="where MLflow keeps its runs; none without it")
    parse.add_argument("--kills", type=int, default=0, help="do nothing in the trials, and be killed so often")
    parse.add_argument("--seed", type=int, default=0)
    given = parse.parse_args()
    torch.set_num_threads(1)
    request = request_of(given.page, given.name, given.storage)
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        if given.kills:
            be_killed(request, given.kills, given.seed)
        else:
            drive(request, given.uri, PipelineRunner(str(given.storage), SingleProcess(), FaissSearch(1)))
    except StudyHeld as held:
        print(held)
        return HELD
    return 0


if __name__ == "__main__":
    sys.exit(main())
