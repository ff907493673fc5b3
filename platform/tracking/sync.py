"""What of a launch a tracker does not have yet, sent in an order that survives a kill between any two calls.

The ledger's ``exports`` say what has arrived: per trial the run's id, the last epoch sent, and whether it is closed.
A note is written after the call it is about, so the newest call may be unnoted; whatever was begun by another process,
or before an error, is therefore compared with what the tracker has before more is added to it.

Knows no tracker by name: see ``TrackerBackend``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from ..ledger.ledger import Ledger
from ..ledger.rows import COLLAPSED, DONE, ENDED, FAILED, PENDING, PRUNED, EpochRow, Trial
from . import run_metadata
from .run_metadata import KEY, KIND, REASON, STATUS, Point

TARGET = "mlflow"
"""The name under which the ledger keeps what was sent."""
PARENT = "parent"
"""The key of the run that stands for the launch."""


@dataclass(frozen=True)
class Unsent:
    """What MLflow does not have when a tracker closes.

    error: the last one, in words, without passwords. is_outage: it lies with MLflow, its database or the network.
    """

    trials: int = 0
    epochs: int = 0
    reports: int = 0
    error: str = ""
    is_outage: bool = True

    def __bool__(self) -> bool:
        return bool(self.error)

    def __str__(self) -> str:
        lost = f"{self.trials} trials, {self.epochs} epochs and {self.reports} reports"
        if not self.is_outage:
            return (
                f"MLflow does not have {lost}, by an error of this program's: {self.error}. Nothing is lost: the "
                "ledger has it, and the same command sends it once the error is mended."
            )
        return (
            f"MLflow did not take {lost}: {self.error}. "
            "Nothing is lost: the ledger has it, and the same command sends it when MLflow is back."
        )


Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

_BATCH = 1_000
_SETTLED: Mapping[str, Status] = {DONE: "FINISHED", PRUNED: "KILLED", COLLAPSED: "KILLED"}
"""How the runs of trials end that are not run again."""
_FAILURES = 3
"""Trials that may fail in one pass before the tracker is taken to be down."""


@dataclass(frozen=True)
class Run:
    """A run as the tracker has it. key: of the trial, or PARENT."""

    id: str
    key: str
    status: Status


class TrackerBackend(Protocol):
    """A tracker. Every method may raise anything, before or after it took effect."""

    def runs(self, study: str, launch_id: str) -> Sequence[Run]:
        """All runs of a launch; the place for the study's runs is made if there is none."""
        ...

    def create(self, name: str, tags: Mapping[str, str], started_s: float, parent: str) -> str:
        """A new run, RUNNING; its id. parent: a run's id, or empty."""
        ...

    def log(self, run: str, points: Sequence[Point] = (), tags: Mapping[str, str] | None = None) -> None: ...

    def describe(self, run: str, params: Mapping[str, str]) -> None:
        """Parameters; the same ones again change nothing."""
        ...

    def steps(self, run: str, metric: str) -> set[int]:
        """The steps at which a metric has a value."""
        ...

    def mark(self, run: str, status: Status, ended_s: float | None = None) -> None: ...

    def draw(self, run: str, trial: Trial) -> None:
        """The trial's figures, as files of the run; those already there are replaced."""
        ...


class TrackerSync:
    """One launch on its way to one tracker. Not for several threads."""

    def __init__(self, ledger: Ledger, launch: int, backend: TrackerBackend) -> None:
        self._ledger, self._launch, self._backend = ledger, launch, backend
        self._runs: dict[str, Run] = {}
        self._compared: set[str] = set()
        """Trials of which the tracker is known to have what was sent."""
        self._there: dict[str, dict[str, set[int]]] = {}
        """Of trials whose run was there before: the steps that the tracker has, by metric. The ledger may be an older
        copy, so every point of them is compared, not the newest alone."""
        self._closed: dict[str, int | None] = {}
        self._all_closed_to = 0
        """The place in the order of ending up to which every trial is closed: they are not looked at again."""
        self._opened = False
        self.parent = ""

    def send(self) -> None:
        """Bring the tracker up to date.

        Raises:
            Exception: the first of what the backend raised. What it concerned is compared and sent by the next call.
        """
        if not self._opened:
            self._open()
        errors: list[Exception] = []
        for trial in self._ledger.trials_since(self._launch, self._all_closed_to):
            try:
                if _begun(trial) and not self._is_closed(trial):
                    self._send(trial)
            except Exception as error:
                self._compared.discard(trial.key)
                errors.append(error)
                if len(errors) >= _FAILURES:
                    break
            if not errors and trial.state in ENDED:
                self._all_closed_to = trial.sequence or 0
        if errors:
            # A run may have been made although the answer was lost: look for it before another one is.
            self._opened = False
            raise errors[0]

    def settle(self) -> None:
        """Leave no run RUNNING: what has not ended was interrupted, and a later launch of the command goes on with it.

        Raises:
            Exception: the backend raised it.
        """
        if not self._opened:
            self._open()
        trials = [trial for trial in self._ledger.trials(self._launch) if _begun(trial)]
        for trial in trials:
            run = self._runs.get(trial.key)
            if trial.state not in ENDED and run is not None and run.status == "RUNNING":
                self._backend.log(run.id, tags={STATUS: "interrupted"})
                self._mark(run, "KILLED", None)
        counts = run_metadata.counts(trials)
        self._backend.log(
            self.parent, tags={f"{run_metadata.PREFIX}num_{name}": str(count) for name, count in counts.items()}
        )
        self._mark(self._runs[PARENT], self._launch_status(trials), None)

    def run_of(self, key: str) -> str | None:
        """The id of a trial's run; None if it has none yet."""
        run = self._runs.get(key)
        return None if run is None else run.id

    def _launch_status(self, trials: Sequence[Trial]) -> Status:
        status = self._ledger.launch(self._launch).status
        # A launch that is still open at the end was left by a driver that something stopped.
        if status in ("RUNNING", "interrupted") or any(trial.state not in ENDED for trial in trials):
            return "KILLED"
        return "FAILED" if status == "failed" or any(trial.state == FAILED for trial in trials) else "FINISHED"

    def _open(self) -> None:
        launch = self._ledger.launch(self._launch)
        runs = self._backend.runs(launch.study, run_metadata.launch_id(launch))
        self._runs = {run.key: run for run in runs}
        self._compared.clear()
        parent = self._runs.get(PARENT)
        if parent is None:
            tags = run_metadata.launch_tags(launch) | {KEY: PARENT, KIND: "launch"}
            created = self._backend.create(run_metadata.launch_name(launch), tags, launch.started, "")
            parent = self._runs[PARENT] = Run(created, PARENT, "RUNNING")
        elif parent.status != "RUNNING":
            self._mark(parent, "RUNNING", None)
        self.parent = parent.id
        if self._noted(PARENT)[0] != self.parent:
            # Another tracker than the one the notes are about, or its database was taken away: they hold no longer.
            self._closed.clear()
            self._all_closed_to = 0
            for trial in self._ledger.trials(self._launch):
                if self._noted(trial.key) != ("", 0, False):
                    self._note(trial.key, "", 0)
            self._note(PARENT, self.parent, 0)
        self._opened = True

    def _is_closed(self, trial: Trial) -> bool:
        """Whether nothing is left to send of a trial, as it now is."""
        if trial.key in self._closed:
            return self._closed[trial.key] == trial.sequence or trial.state == PENDING
        _, _, closed = self._noted(trial.key)
        if not closed:
            return False
        run = self._runs.get(trial.key)
        # A closed run that is gone was taken away by its owner. A failed one that waits to be run again stays closed.
        settled = run is None or trial.state == PENDING or _SETTLED.get(trial.state) == run.status
        if settled and trial.state in ENDED:
            self._closed[trial.key] = trial.sequence
        return settled

    def _send(self, trial: Trial) -> None:
        run = self._runs.get(trial.key)
        if run is None:
            run = self._create(trial)
        elif trial.key not in self._compared:
            self._backend.describe(run.id, run_metadata.parameters(trial.trial_spec))
            noted, last_id, _ = self._noted(trial.key)
            self._note(trial.key, run.id, last_id if noted == run.id else 0)
        if run.status != "RUNNING" and trial.state != PENDING:
            self._backend.log(run.id, tags={STATUS: "running", REASON: ""})
            run = self._mark(run, "RUNNING", None)
        self._send_epochs(trial, run)
        if trial.state in ENDED:
            self._end(trial, run)

    def _create(self, trial: Trial) -> Run:
        launch = self._ledger.launch(self._launch)
        configuration = (
            None if trial.configuration is None else self._ledger.configuration(self._launch, trial.configuration)
        )
        rows = self._ledger.configurations(self._launch) if configuration is not None and configuration.variant else []
        tags = run_metadata.trial_tags(launch, trial, configuration, run_metadata.baseline(rows))
        started = trial.started or trial.ended or launch.started
        created = self._backend.create(run_metadata.trial_name(trial, configuration), tags, started, self.parent)
        run = self._runs[trial.key] = Run(created, trial.key, "RUNNING")
        self._note(trial.key, run.id, 0)
        self._backend.describe(run.id, run_metadata.parameters(trial.trial_spec))
        self._compared.add(trial.key)
        return run

    def _send_epochs(self, trial: Trial, run: Run) -> None:
        rows = self._ledger.epochs(self._launch, trial.key, after_id=self._noted(trial.key)[1])
        for last_id, points in _batches(rows):
            self._log(trial, run, points)
            self._note(trial.key, run.id, last_id)

    def _end(self, trial: Trial, run: Run) -> None:
        self._backend.draw(run.id, trial)
        points = run_metadata.final_points(trial, self._ledger.epochs(self._launch, trial.key))
        self._log(trial, run, points, run_metadata.end_tags(trial))
        self._mark(
            run, "FINISHED" if trial.state == DONE else "FAILED" if trial.state == FAILED else "KILLED", trial.ended
        )
        self._note(trial.key, run.id, self._noted(trial.key)[1], closed=True)
        self._closed[trial.key] = trial.sequence
        self._there.pop(trial.key, None)

    def _log(self, trial: Trial, run: Run, points: Sequence[Point], tags: Mapping[str, str] | None = None) -> None:
        if trial.key not in self._compared:
            self._there[trial.key] = {}
        if (there := self._there.get(trial.key)) is not None:
            for metric in {point.key for point in points} - there.keys():
                there[metric] = self._backend.steps(run.id, metric)
            points = [point for point in points if point.step not in there[point.key]]
        if points or tags:
            self._backend.log(run.id, points, tags)
        # Only the newest call can be unnoted, and this was it.
        self._compared.add(trial.key)

    def _mark(self, run: Run, status: Status, ended_s: float | None) -> Run:
        self._backend.mark(run.id, status, ended_s)
        self._runs[run.key] = replace(run, status=status)
        return self._runs[run.key]

    def _noted(self, key: str) -> tuple[str, int, bool]:
        return self._ledger.export(TARGET, self._launch, key)

    def _note(self, key: str, run: str, last_id: int, closed: bool = False) -> None:
        self._ledger.note_export(TARGET, self._launch, key, run, last_id, closed)


def unsent(ledger: Ledger, launch: int) -> tuple[int, int]:
    """(trials, epochs) of a launch that no tracker is known to have. A trial that has not ended counts too."""
    trials, epochs = 0, 0
    for trial in ledger.trials(launch):
        _, last_id, closed = ledger.export(TARGET, launch, trial.key)
        if _begun(trial) and not closed:
            trials += 1
            epochs += len(ledger.epochs(launch, trial.key, after_id=last_id))
    return trials, epochs


def _begun(trial: Trial) -> bool:
    return trial.attempts > 0 or trial.state in ENDED


def _batches(rows: Sequence[EpochRow]) -> Iterator[tuple[int, list[Point]]]:
    """Whole epochs, as many at once as a tracker takes, each with the id of its last one."""
    points: list[Point] = []
    last_id = 0
    for row in rows:
        more = run_metadata.epoch_points(row)
        if points and len(points) + len(more) > _BATCH:
            yield last_id, points
            points = []
        points, last_id = points + more, row.id
    if rows:
        yield last_id, points
