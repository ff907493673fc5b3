"""From a checked request to an exit code: Ray, the tracker and the screen around a launch, and the last words."""

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from trainables import prometheus
from trainables.interfaces import ImageData
from trainables.nets import models
from trainables.seeds import parts
from trainables.store import leases
from trainables.store.artifacts import Store
from trainables.vector_search import service

from .ledger import databases
from .ledger.launches import StudyChanged, StudyHeld
from .ledger.ledger import Ledger, place_of
from .ledger.outcomes import closing_stages
from .ledger.postgres import Server
from .ledger.rows import PENDING
from .ledger.schema import LedgerError
from .ledger.storage import Storage
from .reports import embeddings, figures, importance, json_view, markdown, terminal, writer
from .reports.summarize import summarize
from .reports.summary import Summary, metrics_of_best
from .run import cluster, display, launch, progress
from .run.launch_state import LaunchState
from .search.importances import importances
from .study.compatibility import refused as differences
from .study.errors import redacted
from .tracking import optuna_export
from .tracking.mlflow import Tracker
from .tracking.sync import TARGET

OK, SOME_FAILED, WRONG = 0, 1, 2
_CLOSING_S = 60.0
"""Time the tracker gets at the end; what it cannot send by then is sent by the next run of the same command."""
_HURRIED_S = 10.0
"""The same after an interruption."""


def circumstances() -> dict[str, Any]:
    """Where and from what this launch was started: commit, dirty flag, host, versions."""
    root = Path(__file__).resolve().parents[1]
    names = ("ray", "torch", "optuna", "mlflow", "numpy")
    return {
        "commit": _git(root, "rev-parse", "HEAD"),
        "dirty": bool(_git(root, "status", "--porcelain")),
        "host": socket.gethostname(),
        "versions": {name: version(name) for name in names},
    }


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def carry_out(request: launch.Request, data: ImageData, *, again: str, as_json: bool) -> int:
    """Run the launch and say what came of it; ``again`` is the command that goes on."""
    try:
        out = sys.stdout
        # Ray prints warnings of its own, whatever it is asked; standard output then is the JSON's alone.
        with launch.signals(), redirect_stdout(sys.stderr if as_json else out):
            return _carry_out(request, data, out if as_json else None)
    except StudyChanged as changed:
        lines = "\n  ".join(differences(changed.known, changed.given))
        way_out = "Give the file another name (name: ...), or add --fresh to begin a new launch."
        print(f"{request.study.file}: {changed}:\n  {lines}\n{way_out}", file=sys.stderr)
        return WRONG
    except (StudyHeld, LedgerError, cluster.Infeasible, ValueError) as refused:
        print(f"{request.study.file}: {refused}", file=sys.stderr)
        return WRONG
    except launch.Stopped as stopped:
        print(f"{request.study.file}: {stopped}\nGo on with:\n  {again}", file=sys.stderr)
        return SOME_FAILED
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"{request.study.file}: {error}; make room and go on with:\n  {again}", file=sys.stderr)
        return SOME_FAILED
    except launch.Interrupted as signal:
        print(f"Interrupted; everything finished is kept. Go on with:\n  {again}", file=sys.stderr)
        return 128 + signal.number


def _carry_out(request: launch.Request, data: ImageData, json_out: TextIO | None) -> int:
    study, storage = request.study, request.storage.folder
    uri = study.tracking.address(os.environ) or os.environ.get("MLFLOW_TRACKING_URI", "")
    databases.check_driver(uri)
    size = cluster.size(request.address, request.grows)
    cluster.refuse_infeasible(study, size)
    ledger = Ledger(place_of(request.storage))
    opened = launch.open_launch(ledger, request, size)
    tracker = Tracker(ledger.place, storage, opened.id, uri)
    tracker.start()
    try:
        with launch.launch_state(ledger, request, opened, size) as launch_state:
            if not launch_state.trial_queue.finished:
                _run(request, launch_state, quiet=json_out is not None)
            ended = launch_state.status
    except BaseException as error:
        # Whatever ended it, no run is left RUNNING.
        with suppress(LedgerError):
            tracker.close(_HURRIED_S)
        if isinstance(error, LedgerError):
            raise launch.Stopped(str(error)) from error
        raise
    # The launch is closed by now, so the reports say how it ended.
    summary = summarize(ledger, opened.id)
    _log_best_model(summary, request.storage, data, tracker)  # in the tracker's thread, while reports are written here
    written = _written(request, summary, data)
    optuna_export.mirror(ledger, opened.id, storage / optuna_export.DATABASE)
    tracker.log_parent(written, markdown.note(summary), metrics_of_best(summary))
    unsent = tracker.close(_CLOSING_S)
    if unsent:
        print(unsent, file=sys.stderr)
    ids = tracker.ids()
    copied = request.storage.copy([*written, *figures.files_of_best_trial(summary, storage)])
    if launch_state.trial_queue.halted:
        print(_halted(launch_state), file=sys.stderr)
    if json_out is not None:
        print(_as_json(ledger, summary, launch_state.seconds, ids), file=json_out)
    else:
        print(terminal.end_of_sweep(summary, storage, ids["uri"] if uri and ids["uri"] else ""))
    if isinstance(ledger.place, Server):
        print(f"ledger   {ledger.place}; Optuna's studies in {ledger.place.optuna_schema}", file=sys.stderr)
    if copied:
        print(copied, file=sys.stderr)
    return OK if ended == "done" else SOME_FAILED


def _written(request: launch.Request, summary: Summary, data: ImageData) -> list[Path]:
    """The files of the study's reports, those of its best trial among them."""
    embedded = embeddings.draw(summary, request.storage.folder, data)
    full = importance.with_importances(summary, importances)
    return [*writer.write(full, request.storage.folder), *embedded]


def _as_json(
    ledger: Ledger, summary: Summary, seconds: Mapping[str, float], mlflow_ids: Mapping[str, str | None]
) -> str:
    run_ids = {trial.key: ledger.export(TARGET, summary.launch.id, trial.key)[0] for trial in summary.trials}
    return json.dumps(json_view.as_json(summary, seconds, mlflow_ids, run_ids), allow_nan=False)


def _run(request: launch.Request, launch_state: LaunchState, *, quiet: bool) -> None:
    """The part that needs Ray."""
    with (
        cluster.running(request.address, request.grows) as size,
        display.LiveDisplay(request.study.name, quiet=quiet) as screen,
    ):
        cluster.refuse_infeasible(request.study, size)
        watched, share = progress.LaunchProgress(launch_state), request.study.resources.trial
        search = service.start()
        held = leases.start() if request.storage.uri else None
        shown = prometheus.SweepGauges(request.study.name, share.gpu * max(1, share.workers))

        def changed() -> None:
            screen.update(watched.state)
            shown.show(*watched.counts())
            search.follow()

        launch_state.changed = changed
        launch.run(request, launch_state)
        del held  # these actors live as long as their handles
        search.actors.clear()


def _halted(launch_state: LaunchState) -> str:
    trial_queue = launch_state.trial_queue
    seeds = len(trial_queue.study.seeds)
    left = sum(trial.state == PENDING for trial in trial_queue.trials if trial.kind == "trial")
    left += max(0, trial_queue.total_settings - len(trial_queue.configurations)) * seeds
    kept = "What is finished is kept; the same command runs the failed ones again and goes on."
    if trial_queue.disk_full:
        return f"Stopped because a disk is full, make room; {left} trials were not started. {kept}"
    if trial_queue.devices_gone:
        return f"Stopped because every GPU of this sweep has failed; {left} trials have not ended. {kept}"
    return (
        f"Stopped after {trial_queue.num_failures} failed trials (max_failures: {trial_queue.study.max_failures}); "
        f"{left} were not started. {kept}"
    )


def _bring_best(summary: Summary, storage: Storage) -> None:
    """Fetch the best trial's stages, wherever it ran: from here on they are read in the folder alone."""
    trial, store = figures.best_trial(summary), Store(storage.results)
    try:
        for stage in trial.stages if trial else ():
            store.get(f"{stage['name']}-{stage['address']}")
    except OSError as error:
        print(f"the best trial is shown without pictures: {redacted(str(error))}", file=sys.stderr)


def _log_best_model(summary: Summary, storage: Storage, data: ImageData, tracker: Tracker) -> None:
    """Have the best trial's model put on its run; whatever the storage, its stages are in the folder afterwards."""
    if storage.uri:
        _bring_best(summary, storage)
    trial = figures.best_trial(summary)
    if trial is None:
        return
    last = closing_stages(trial)[0]
    result = Store(storage.folder).get(f"{last['name']}-{last['address']}")
    if result is None or "head" not in result.weights or "num_clusters" not in result.facts:
        return  # k-means leaves centroids, not a network
    from trainables.training import clustering

    def build() -> models.ClusterClassifier:
        model = clustering.restored(result, data.shape, parts(trial.seed)[1])
        return models.ClusterClassifier(model.backbone, model.heads[0], data.mean, data.std)

    tracker.log_best_model(trial.key, build, data.eval.images_NCHW[:2].numpy())
