"""A launch in MLflow: one thread of the driver that copies the ledger there, and can fail without harm.

Study = experiment, one parent run per launch, one child per trial. The thread reads the ledger with a connection of its
own, retries by itself, and never blocks or ends a sweep. This is the one home of mlflow, which is imported in the
thread because that takes seconds.
"""

import getpass
import logging
import os
import tempfile
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray

from ..ledger.databases import check_connection, creation_lock
from ..ledger.launches import Place
from ..ledger.ledger import Ledger
from ..ledger.rows import Trial
from ..ledger.schema import LedgerError
from ..study.errors import redacted
from . import mlflow_model, own_database, run_metadata
from .mlflow_model import DATABASE, MODEL
from .run_metadata import KEY, LAUNCH_ID, Point
from .sync import Run, Status, TrackerSync, Unsent, unsent

ARTIFACTS = "artifacts"

_EVERY_S = 3.0
_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_PARAMS, _TAGS = 100, 100
_LONGEST_NOTE = 7_500
_PAGE = 1_000

# MLflow's own patience (seven retries, two minutes each) would hold the thread for minutes; it retries itself. MLflow
# logs a database that is away as an error with its whole stack, across the live table; the tracker says so once.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "GIT_PYTHON_REFRESH": "quiet",
    "PGCONNECT_TIMEOUT": "10",
}
_T = TypeVar("_T")
_Job = Callable[[TrackerSync, "MlflowRuns"], None]


# No database, server or network raises these.
_OWN_ERRORS = (LookupError, TypeError, AttributeError, NameError, AssertionError, ArithmeticError)


class ModelError(RuntimeError):
    """A model cannot be built or exported: no fault of the tracker's, and no repetition cures it."""


class Tracker:
    """Copies one launch to MLflow until it is closed."""

    def __init__(self, ledger: Place, storage: Path, launch: int, uri: str = "") -> None:
        """
        Args:
            uri: where the runs are kept; "": ``<storage>/mlflow.db``.
        """
        self._place, self._launch = ledger, launch
        self._storage = storage.resolve()
        self._uri = uri or f"sqlite:///{self._storage / DATABASE}"
        self._wake, self._closing = threading.Event(), threading.Event()
        self._deadline = float("inf")
        self._jobs: deque[_Job] = deque()
        self._ids: dict[str, str | None] = {"uri": redacted(self._uri), "experiment_id": None, "parent_run_id": None}
        self._error, self._is_outage = "it was never reached", True
        self._num_unsent = 0
        self.note = ""
        """What the user should know of the place of MLflow's files; empty if nothing."""
        self.model_error = ""
        """Why the best model is not logged, in one sentence; empty while nothing is wrong with it."""
        self._thread = threading.Thread(target=self._run, name="tracker", daemon=True)

    def start(self) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self._wake.set()
        self._thread.start()

    def nudge(self) -> None:
        """There is something new in the ledger."""
        self._wake.set()

    def num_unsent(self) -> int:
        """How many trials MLflow does not have because it fails to take them; 0 while it takes what is sent."""
        return self._num_unsent

    def ids(self) -> dict[str, str | None]:
        """uri (without password), experiment_id and parent_run_id; None while MLflow has not given them."""
        return dict(self._ids)

    def log_parent(self, files: Sequence[Path], note: str, metrics: Mapping[str, float]) -> None:
        """Put the launch's report on its parent run: files, the note shown on top (Markdown), and metrics."""
        kept, values = tuple(files), dict(metrics)
        self._jobs.append(lambda sync, runs: runs.report(sync.parent, kept, note, values))
        self.nudge()

    def log_best_model(
        self,
        trial_key: str,
        build: Callable[[], torch.nn.Module],
        example_BCHW: NDArray[Any],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Put a trial's model on its run, as "model", so that ``mlflow.pytorch.load_model`` gives it back.

        Args:
            build: makes the model, images (B, C, H, W) to (B, K) probabilities; called in the tracker's thread.
            example_BCHW: images that it takes. The model is exported for their dtype and size and any B.
            metadata: what ``mlflow_model.save`` keeps with it.
        """

        def log(sync: TrackerSync, runs: MlflowRuns) -> None:
            run = sync.run_of(trial_key)
            if run is None:
                raise RuntimeError(f"trial {trial_key} has no run in MLflow yet, so its model has no place there")
            runs.put_model(run, _ours("built", build), example_BCHW, metadata or {})

        self._jobs.append(log)
        self.nudge()

    def close(self, timeout_s: float) -> Unsent:
        """Send the rest, leave no run RUNNING, and say what MLflow did not take within ``timeout_s``."""
        self._deadline = time.monotonic() + timeout_s
        self._closing.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        error = self._error or ("it took longer than the time given" if self._thread.is_alive() else "")
        if not error:
            return Unsent()
        ledger = Ledger(self._place)
        trials, epochs = unsent(ledger, self._launch)
        ledger.close()
        return Unsent(trials, epochs, len(self._jobs), error, self._is_outage)

    def _run(self) -> None:
        failures, runs, ledger, sync = 0, None, None, None
        while True:
            self._wake.wait(_EVERY_S)
            self._wake.clear()
            closing = self._closing.is_set()
            try:
                if sync is None or runs is None:
                    ledger = ledger or Ledger(self._place)
                    runs = MlflowRuns(self._uri, self._storage)
                    sync = TrackerSync(ledger, self._launch, runs)
                    if runs.made_anew:
                        self._jobs.extendleft(_send_again(ledger, self._launch))
                self._pass(sync, runs, closing)
                failures, self._error, self._num_unsent = 0, "", 0
                if closing:
                    return
            except Exception as error:  # whatever MLflow or the network does, the sweep goes on
                failures += 1
                self._error, self._is_outage = _words(error), not isinstance(error, _OWN_ERRORS)
                self._num_unsent = self._count_unsent(ledger)
                if closing and time.monotonic() >= self._deadline:
                    return
            pause_s = _PAUSE_S * 2 ** min(failures, 10)
            if closing:
                time.sleep(min(pause_s, 1.0))
                self._wake.set()
            else:
                self._closing.wait(min(pause_s, _LONGEST_PAUSE_S))

    def _count_unsent(self, ledger: Ledger | None) -> int:
        try:
            return unsent(ledger, self._launch)[0] if ledger is not None else 0
        except LedgerError:  # it was the ledger that failed, not MLflow
            return 0

    def _pass(self, sync: TrackerSync, runs: "MlflowRuns", closing: bool) -> None:
        """Each step is tried even if the one before failed; the first error is raised."""
        errors = list(_errors_of(sync.send))
        for job in list(self._jobs) if sync.parent else []:
            failed = list(_errors_of(partial(job, sync, runs)))
            of_model = [error for error in failed if isinstance(error, ModelError)]
            if of_model:
                self.model_error = str(of_model[0])
            errors += [error for error in failed if error not in of_model]
            if not failed or of_model:
                self._jobs.remove(job)
        if closing:
            errors += _errors_of(sync.settle)
        self.note = runs.note
        self._ids |= {"experiment_id": runs.experiment or None, "parent_run_id": sync.parent or None}
        if errors:
            raise errors[0]


class MlflowRuns:
    """MLflow at one URI, as a ``TrackerBackend``. Raises what MLflow raises."""

    def __init__(self, uri: str, storage: Path) -> None:
        self._artifacts = storage / ARTIFACTS
        self._served = uri.startswith(("http://", "https://"))
        self.experiment = ""
        # MLflow's own attempts at a database server that is down sleep for up to a minute and cannot be interrupted.
        check_connection(uri)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        # SQLAlchemy's word to MLflow's authors, at every start.
        warnings.filterwarnings("ignore", message="The ``noload`` loader strategy", module="mlflow")
        self._own = storage / DATABASE if uri == f"sqlite:///{storage / DATABASE}" else None
        self.note = ""
        """What the user should know of the place of the files; empty if nothing."""
        self.made_anew = self._own is not None and own_database.ensure(self._own)
        """Whether the storage's own database was damaged, so that nothing of earlier launches is in it."""
        with creation_lock(uri):
            from mlflow import MlflowClient, entities

            # It writes the whole stack of every attempt at a database that is away, across the live table.
            logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
            self._entities = entities
            if self._own is not None:
                own_database.follow_move(self._own, self._artifacts)
            self._client = MlflowClient(uri)

    def runs(self, study: str, launch_id: str) -> list[Run]:
        self.experiment = self._experiment(study)
        runs, page = list[Run](), None
        while True:
            batch = self._client.search_runs(
                [self.experiment], f"tags.`{LAUNCH_ID}` = '{launch_id}'", max_results=_PAGE, page_token=page
            )
            runs += [Run(each.info.run_id, each.data.tags[KEY], each.info.status) for each in batch]
            page = batch.token
            if not page:
                return runs

    def _experiment(self, name: str) -> str:
        known = self._client.get_experiment_by_name(name)
        if known is None:
            # A server has its own place for files; a database alone would put them into the current directory.
            place = None if self._served else (self._artifacts / name).as_uri()
            return str(self._client.create_experiment(name, artifact_location=place))
        if known.lifecycle_stage != "active":
            raise RuntimeError(
                f"experiment {name!r} is deleted; bring it back with `mlflow experiments restore -x "
                f"{known.experiment_id}`, or give the study another name"
            )
        if self._own is not None:
            self.note = own_database.place_elsewhere(known.artifact_location, self._artifacts)
        return str(known.experiment_id)

    def create(self, name: str, tags: Mapping[str, str], started_s: float, parent: str) -> str:
        # Runs that no `with mlflow.start_run()` made get none of these by themselves.
        standard = {
            "mlflow.user": _user(),
            "mlflow.source.name": "platform.sweep",
            "mlflow.source.type": "LOCAL",
            "mlflow.source.git.commit": tags.get(f"{run_metadata.PREFIX}commit", ""),
            "mlflow.parentRunId": parent,
        }
        everything = {**tags, **{key: value for key, value in standard.items() if value}}
        run = self._client.create_run(self.experiment, round(started_s * 1000), everything, run_name=name)
        return str(run.info.run_id)

    def log(self, run: str, points: Sequence[Point] = (), tags: Mapping[str, str] | None = None) -> None:
        metrics = [self._entities.Metric(each.key, each.value, each.time_ms, each.step) for each in points]
        set_tags = [self._entities.RunTag(key, value) for key, value in (tags or {}).items()]
        self._client.log_batch(run, metrics=metrics, tags=set_tags)

    def describe(self, run: str, params: Mapping[str, str]) -> None:
        every = [self._entities.Param(key, value) for key, value in params.items()]
        for first in range(0, len(every), _PARAMS):
            self._client.log_batch(run, params=every[first : first + _PARAMS])

    def steps(self, run: str, metric: str) -> set[int]:
        return {each.step for each in self._client.get_metric_history(run, metric)}

    def mark(self, run: str, status: Status, ended_s: float | None = None) -> None:
        if status == "RUNNING":
            self._client.update_run(run, status)
        else:
            self._client.set_terminated(run, status, None if ended_s is None else round(ended_s * 1000))

    def draw(self, run: str, trial: Trial) -> None:
        for file in run_metadata.figures(trial):
            self._client.log_artifact(run, str(file), "figures")

    def report(self, run: str, files: Sequence[Path], note: str, metrics: Mapping[str, float]) -> None:
        """Files (figures into a folder of theirs), note and metrics of a launch; a value that has not changed is not
        added again."""
        for file in files:
            self._client.log_artifact(run, str(file), "figures" if file.parent.name == "figures" else None)
        now_ms = round(time.time() * 1000)
        points = []
        for key, value in metrics.items():
            history = self._client.get_metric_history(run, key)
            if not history or max(history, key=lambda each: each.step).value != value:
                points.append(Point(key, value, len(history), now_ms))
        shown = note if len(note) <= _LONGEST_NOTE else note[:_LONGEST_NOTE] + "\n\n(cut; the whole is in report.md)"
        self.log(run, points, {"mlflow.note.content": shown})

    def put_model(
        self, run: str, model: torch.nn.Module, example_BCHW: NDArray[Any], metadata: Mapping[str, Any]
    ) -> None:
        """The model on a run, once. As an exported program: opening it runs no code of the file's."""
        wanted = f"source_run_id = '{run}' AND name = '{MODEL}'"
        for known in self._client.search_logged_models([self.experiment], filter_string=wanted):
            if str(known.status) == "READY":
                return
            self._client.delete_logged_model(known.model_id)
        logged = self._client.create_logged_model(self.experiment, name=MODEL, source_run_id=run)
        with tempfile.TemporaryDirectory(prefix="clustersweep-") as scratch:
            folder = Path(scratch) / MODEL
            identity = {"run_id": run, "artifact_path": logged.artifact_location}
            identity |= {"model_id": logged.model_id, "model_uuid": logged.model_id}
            try:
                _ours("exported", lambda: mlflow_model.save(folder, model, example_BCHW, metadata, identity))
            except ModelError:
                self._client.delete_logged_model(logged.model_id)
                raise
            self._client.log_model_artifacts(logged.model_id, str(folder))
        self._client.log_outputs(run, [self._entities.LoggedModelOutput(logged.model_id, step=0)])
        self._client.finalize_logged_model(logged.model_id, "READY")


def _send_again(ledger: Ledger, launch: int) -> list[_Job]:
    """Sends every other launch of the ledger that has ended: the database that had it was set aside."""

    def send(other: int, sync: TrackerSync, runs: MlflowRuns) -> None:
        again = TrackerSync(ledger, other, runs)
        again.send()
        again.settle()

    return [partial(send, each.id) for each in ledger.launches() if each.id != launch and each.status != "RUNNING"]


def _ours(what: str, step: Callable[[], _T]) -> _T:
    """The step's result.

    Raises:
        ModelError: it raised anything.
    """
    try:
        return step()
    except Exception as error:
        sentence = f"No model of the best trial is logged: it could not be {what}: {_words(error)}."
        raise ModelError(sentence) from error


def _errors_of(step: Callable[[], None]) -> Iterator[Exception]:
    try:
        step()
    except Exception as error:  # noted by the caller, which goes on with the next step
        yield error


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user whom the machine has no entry of
        return f"uid-{os.getuid()}"


def _words(error: Exception) -> str:
    """An error on one line, without passwords."""
    text = " ".join(str(error).split()) or type(error).__name__
    return redacted(text if len(text) <= 300 else text[:300] + " ...")
