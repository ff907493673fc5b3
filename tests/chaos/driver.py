"""A driver without Ray: ledger, board, tracker and Optuna's file as in a sweep, and one process that does the trials.

Many of them fit where one cluster does. Started as ``python -m tests.chaos.driver``; see ``main``.
"""

import argparse
import math
import os
import random
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from platform.run import launch, mirror
from platform.run.cluster import Size
from platform.run.course import Course
from platform.run.ledger import Ledger, place_of
from platform.run.ledger_launches import StudyHeld
from platform.run.storage import Storage
from platform.run.tracking import Tracker
from platform.study.schema import load_study
from typing import Any

import torch

from trainables import diary
from trainables.data import sets
from trainables.faiss_search import FaissSearch
from trainables.session import Alone
from trainables.walk import Walker

SIZE = Size(cpus=2.0, gpus=0.0)
HELD = 3


def request_of(page: Path, name: str, storage: Path) -> launch.Request:
    study = load_study(page, [f"name={name}"] if name else [])
    return launch.Request(
        study=study, fingerprint=sets.load(sets.Spec(**study.dataset)).fingerprint, storage=Storage(storage)
    )


def run(course: Course, walker: Walker | None) -> None:
    """Every trial, one after another; without a walker each does nothing and has a value that its settings decide."""
    while (found := course.board.next()) is not None:
        key, cell = found
        course.starts(key)
        if walker is not None:
            outcome = {"status": "done", **walker.walk(cell, lambda slot, epoch: None).as_dict()}
        else:
            diary.note(diary.START, key)
            metrics = {course.board.study.objective.metric: value(cell)} if cell["kind"] == "trial" else {}
            outcome = {"status": "done", "metrics": metrics, "stages": [], "seconds": 0.0}
        course.hears(key, {"epochs": [], "outcome": outcome})


def value(cell: Mapping[str, Any]) -> float:
    numbers = [number for number in cell["changes"].values() if isinstance(number, float)]
    return math.fmod(sum(numbers) * 1e4, 1.0) + cell["seed"]


def drive(request: launch.Request, uri: str, walker: Walker | None) -> None:
    """One launch from its first row to its last, or from where another driver was killed."""
    ledger = Ledger(place_of(request.storage))
    opened = launch.open_launch(ledger, request, SIZE)
    tracker = Tracker(ledger.place, request.storage.folder, opened.id, uri) if uri else None
    if tracker is not None:
        tracker.start()
    with launch.course(ledger, request, opened, SIZE) as course:
        run(course, walker)
    mirror.mirror(ledger, opened.id, request.storage.folder / mirror.DATABASE)
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
            drive(request, given.uri, Walker(str(given.storage), Alone(), FaissSearch(1)))
    except StudyHeld as held:
        print(held)
        return HELD
    return 0


if __name__ == "__main__":
    sys.exit(main())
