"""One launch of a study, from the ledger's first row to its last: prepare phase, trials, and what interrupts them."""

import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from trainables.artifacts import Store

from ..study.extension import refused
from ..study.placing import Node
from ..study.plan import shared_parts
from ..study.resolve import meaning, resolved
from ..study.schema import Study
from . import cluster, vocabulary
from .board import Board
from .course import Course
from .ledger import Ledger
from .ledger_launches import Place, StudyLost
from .ledger_tables import LedgerError
from .owner import BEAT_S
from .rows import Launch
from .searcher import lookahead
from .stopping import Judge
from .storage import Storage


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM: stop now, nothing is lost.

    A KeyboardInterrupt: no library takes it for a failed trial, and Ray's waiting calls, which turn any other exception
    of a signal handler into a SystemError, let it pass.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Stopped(RuntimeError):
    """A launch that had begun cannot go on, though nothing is wrong with the study. Its text is for the user."""


@dataclass(frozen=True)
class Request:
    """What the command line asks of a launch."""

    study: Study
    fingerprint: str
    storage: Storage
    probe_fingerprint: str = ""
    address: str = ""
    grows: Sequence[Node] = ()
    fresh: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of the data set, and of the probes' where it is another one."""
        own = {"fingerprint": self.fingerprint}
        return own | ({"probe_fingerprint": self.probe_fingerprint} if self.probe_fingerprint else {})


def open_launch(ledger: Ledger, request: Request, size: cluster.Size) -> Launch:
    """Take the study in the ledger. Raises StudyHeld, StudyChanged: see there."""
    study = request.study
    return ledger.open_launch(
        study.name,
        {**meaning(study), **request.fingerprints},
        resolved(study),
        lookahead=lookahead(max(1, size.slots(study.resources.trial)), len(study.seeds)),
        fresh=request.fresh,
        facts={
            **request.facts,
            vocabulary.FACT: vocabulary.noted(study.method, resolved(study)["pretext"], study.probes),
        },
        same=lambda known, given: not refused(known, given),
    )


@contextmanager
def course(ledger: Ledger, request: Request, launch: Launch, size: cluster.Size) -> Iterator[Course]:
    """The launch's board, held by a heartbeat; closed in the ledger however it ends."""
    study = request.study
    results, shared = request.storage.results, shared_parts(study)
    board = Board(ledger, launch, study, fingerprints=request.fingerprints, shared=shared, storage=results)
    running = Course(launch, board, max(1, size.slots(study.resources.trial)), judge=Judge(study, ledger, launch))
    stop = threading.Event()
    beats = threading.Thread(target=_beat, args=(ledger.place, launch.id, stop), daemon=True)
    beats.start()
    status = "interrupted"
    try:
        yield running
        status = running.status
    finally:
        stop.set()
        beats.join()
        ledger.close_launch(launch.id, status)


def _beat(place: Place, launch: int, stop: threading.Event) -> None:
    ledger = Ledger(place)
    while not stop.wait(BEAT_S):
        try:
            ledger.heartbeat(launch)
        except StudyLost:
            os.kill(os.getpid(), signal.SIGTERM)  # the main thread may be waiting for a trial for hours
            break
        except LedgerError:
            continue  # busy or full for the moment; the next write of the main thread says so if it lasts
    ledger.close()


def run(request: Request, course: Course) -> None:
    """Run what is left of a launch. Ray is running.

    Raises:
        Interrupted: by a signal; running trials have saved their last epochs.
    """
    began = time.monotonic()
    _mark_prepared(course, Store(request.storage.results))
    if request.study.resources.prepare.workers and course.board.prepare_cells:
        from . import group

        group.prepare(request.study, course)
    course.seconds["prepare"] = time.monotonic() - began
    if not course.board.finished:
        from . import trials

        with tempfile.TemporaryDirectory(prefix="clustersweep-") as scratch:
            trials.run(request.study, course, Path(scratch))
    course.seconds["prepare"] = max(course.seconds["prepare"], course.prepared_s - began)
    course.seconds["total"] = time.monotonic() - began
    course.seconds["trials"] = course.seconds["total"] - course.seconds["prepare"]


def _mark_prepared(course: Course, store: Store) -> None:
    """A prepare cell whose stages all exist needs no process."""
    from trainables.walk import StageRecord, addresses

    for key, cell in course.board.prepare_cells:
        found = addresses(cell)
        if all(f"{name}-{address}" in store for name, address in found.values()):
            records = [vars(StageRecord(slot, name, address, True, 0.0)) for slot, (name, address) in found.items()]
            course.board.done(key, {"metrics": {}, "stages": records, "seconds": 0.0})


@contextmanager
def signals() -> Iterator[None]:
    """The first SIGINT or SIGTERM raises Interrupted in the main thread; a second one ends the process at once.

    Raises:
        Interrupted: a signal came, whatever a library made of it on the way here.
    """
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        received.append(number)
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except BaseException as error:
        # Ray raises a KeyboardInterrupt of its own in the place of ours.
        if received and not isinstance(error, Interrupted):
            raise Interrupted(received[0]) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
