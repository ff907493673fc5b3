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

from trainables.store.artifacts import Store

from ..ledger import stage_metadata
from ..ledger.launches import Place, StudyLost
from ..ledger.ledger import Ledger
from ..ledger.process_lease import BEAT_S
from ..ledger.rows import Launch
from ..ledger.schema import LedgerError
from ..ledger.storage import Storage
from ..search.early_stopping import EarlyStopping
from ..search.searcher import lookahead
from ..study.compatibility import refused
from ..study.placement import Node
from ..study.plan import shared_parts
from ..study.resolved import meaning, resolved
from ..study.study import Study
from . import cluster
from .launch_state import LaunchState
from .trial_queue import TrialQueue


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
            stage_metadata.FACT: stage_metadata.noted(study.method, resolved(study)["pretext"], study.probes),
        },
        same=lambda known, given: not refused(known, given),
    )


@contextmanager
def launch_state(ledger: Ledger, request: Request, launch: Launch, size: cluster.Size) -> Iterator[LaunchState]:
    """The launch's board, held by a heartbeat; closed in the ledger however it ends."""
    study = request.study
    results, shared = request.storage.results, shared_parts(study)
    trial_queue = TrialQueue(ledger, launch, study, fingerprints=request.fingerprints, shared=shared, storage=results)
    running = LaunchState(
        launch, trial_queue, max(1, size.slots(study.resources.trial)), judge=EarlyStopping(study, ledger, launch)
    )
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


def run(request: Request, launch_state: LaunchState) -> None:
    """Run what is left of a launch. Ray is running.

    Raises:
        Interrupted: by a signal; running trials have saved their last epochs.
    """
    began = time.monotonic()
    _mark_prepared(launch_state, Store(request.storage.results))
    if request.study.resources.prepare.workers and launch_state.trial_queue.prepare_cells:
        from . import worker_group

        worker_group.prepare(request.study, launch_state)
    launch_state.seconds["prepare"] = time.monotonic() - began
    if not launch_state.trial_queue.finished:
        from . import tune

        with tempfile.TemporaryDirectory(prefix="clustersweep-") as scratch:
            tune.run_trials(request.study, launch_state, Path(scratch))
    launch_state.seconds["prepare"] = max(launch_state.seconds["prepare"], launch_state.prepared_s - began)
    launch_state.seconds["total"] = time.monotonic() - began
    launch_state.seconds["trials"] = launch_state.seconds["total"] - launch_state.seconds["prepare"]


def _mark_prepared(launch_state: LaunchState, store: Store) -> None:
    """A prepare cell whose stages all exist needs no process."""
    from trainables import pipeline
    from trainables.runner.pipeline_runner import StageRecord, addresses, other_code

    for key, trial_spec in launch_state.trial_queue.prepare_cells:
        found = addresses(trial_spec)
        if all(f"{name}-{address}" in store for name, address in found.values()):
            notes = {
                slot: tuple(other_code(store, f"{name}-{address}", pipeline.load(name)))
                for slot, (name, address) in found.items()
            }
            records = [
                vars(StageRecord(slot, name, address, True, 0.0, notes[slot]))
                for slot, (name, address) in found.items()
            ]
            launch_state.trial_queue.done(key, {"metrics": {}, "stages": records, "seconds": 0.0})


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
