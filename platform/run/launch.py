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

from trainables.runner.messages import Done, StageRecord, result_name
from trainables.store.artifacts import Store

from ..ledger import stage_metadata
from ..ledger.deferred_signals import deliver
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
        """Fingerprints of the data set, and of the probes' where it is another one."""
        study = {"fingerprint": self.fingerprint}
        return study | ({"probe_fingerprint": self.probe_fingerprint} if self.probe_fingerprint else {})


def open_launch(ledger: Ledger, request: Request, size: cluster.Size) -> Launch:
    """Take the study in the ledger.

    Raises:
        StudyHeld, StudyChanged: as ``Launches.open_launch``.
    """
    study = request.study
    return ledger.open_launch(
        study.name,
        {**meaning(study), **request.fingerprints},
        resolved(study),
        lookahead=lookahead(max(1, size.slots(study.resources.trial)), len(study.seeds)),
        fresh=request.fresh,
        facts={
            **request.facts,
            stage_metadata.FACT: stage_metadata.record(study.method, resolved(study)["pretext"], study.probes),
        },
        same=lambda known, given: not refused(known, given),
    )


@contextmanager
def leased(ledger: Ledger, request: Request, launch: Launch, size: cluster.Size) -> Iterator[LaunchState]:
    """The launch's state; a thread renews its lease, and on exit, whatever the reason, it is closed in the ledger."""
    study = request.study
    results, shared = request.storage.results, shared_parts(study)
    trial_queue = TrialQueue(ledger, launch, study, fingerprints=request.fingerprints, shared=shared, storage=results)
    slots = max(1, size.slots(study.resources.trial))
    state = LaunchState(launch, trial_queue, slots, early_stopping=EarlyStopping(study, ledger, launch))
    stop = threading.Event()
    renewal = threading.Thread(target=_renew_lease, args=(ledger.place, launch.id, stop), daemon=True)
    renewal.start()
    status = "interrupted"
    try:
        yield state
        status = state.status
    finally:
        stop.set()
        renewal.join()
        ledger.close_launch(launch.id, status)


def _renew_lease(place: Place, launch: int, stop: threading.Event) -> None:
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


def run(request: Request, state: LaunchState) -> None:
    """Run what is left of a launch. Ray is running.

    Raises:
        Interrupted: by a signal; running trials have saved their last epochs.
    """
    began = time.monotonic()
    _mark_prepared(state, Store(request.storage.results))
    if request.study.resources.prepare.workers and state.trial_queue.prepare_trials:
        from . import worker_group

        worker_group.prepare(request.study, state)
    state.seconds["prepare"] = time.monotonic() - began
    if not state.trial_queue.finished:
        from . import tune

        with tempfile.TemporaryDirectory(prefix="clustersweep-") as scratch:
            tune.run_trials(request.study, state, Path(scratch))
    state.seconds["prepare"] = max(state.seconds["prepare"], state.prepared_at - began)
    state.seconds["total"] = time.monotonic() - began
    state.seconds["trials"] = state.seconds["total"] - state.seconds["prepare"]


def _mark_prepared(state: LaunchState, store: Store) -> None:
    """Mark the trials of shared stages as done whose results are all in the store: they need no process."""
    from trainables import pipeline
    from trainables.runner.pipeline_runner import addresses, other_code

    for key, trial_spec in state.trial_queue.prepare_trials:
        stages = addresses(trial_spec)
        if not all(result_name(*stage) in store for stage in stages.values()):
            continue
        records = []
        for slot, (name, address) in stages.items():
            notes = other_code(store, result_name(name, address), pipeline.load(name))
            records.append(StageRecord(slot, name, address, cached=True, seconds=0.0, notes=tuple(notes)))
        state.trial_queue.on_done(key, Done({}, records, 0.0))


@contextmanager
def signals() -> Iterator[None]:
    """The first SIGINT or SIGTERM raises Interrupted in the main thread; a second one ends the process at once.

    A transaction of the ledger that the main thread is in comes to its end first.

    Raises:
        Interrupted: a signal came, even where a library turned it into another exception.
    """
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        received.append(number)
        deliver(Interrupted(number))

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
