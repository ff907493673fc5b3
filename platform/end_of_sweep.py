"""From a checked request to an exit code: Ray, tracker and screen around a launch, and the reports at its end."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from trainables import pipeline, prometheus
from trainables.inference import model_input, served
from trainables.interfaces import ImageData
from trainables.store import leases
from trainables.store.artifacts import Store
from trainables.vector_search import service

from .console import OK, WRONG, in_words
from .ledger import databases
from .ledger.launches import StudyChanged, StudyHeld
from .ledger.ledger import Ledger, place_of
from .ledger.outcomes import closing_stages
from .ledger.postgres import Server
from .ledger.rows import PENDING, Launch
from .ledger.schema import LedgerError
from .ledger.storage import Storage
from .reports import embeddings, figures, importance, json_view, markdown, terminal, writer
from .reports.assignments import best_trial
from .reports.num_clusters import evidence
from .reports.summarize import summarize
from .reports.summary import Summary, metrics_of_best
from .run import cluster, display, environment, launch, progress
from .run.daemons import ClusterDied
from .run.launch_state import LaunchState
from .search.importances import importances
from .study import placement
from .study.compatibility import refused as differences
from .study.errors import redacted
from .tracking import mlflow_model, optuna_export
from .tracking.mlflow import Tracker
from .tracking.sync import TARGET

SOME_FAILED = 1
_CLOSING_S = 60.0
"""Time the tracker gets at the end; what it cannot send by then is sent by the next run of the same command."""
_HURRIED_S = 10.0
"""The same after an interruption."""
_MOST_NOTES = 20
"""Notes of stages that are printed."""


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
    """Run the launch and report its results. Returns the exit code. again: the command that resumes it."""
    file, go_on = request.study.file, f"Go on with:\n  {again}"
    try:
        out = sys.stdout
        # Ray prints warnings of its own, whatever it is asked; standard output then is the JSON's alone.
        with launch.signals(), redirect_stdout(sys.stderr if as_json else out):
            try:
                opened = _opened(request)
            except (StudyHeld, StudyChanged, LedgerError, ValueError, OSError) as refused:
                print(f"{file}: {_refusal(refused)}", file=sys.stderr)
                return WRONG
            return _carry_out(opened, data, out if as_json else None)
    except (launch.Stopped, ClusterDied) as stopped:
        print(f"{file}: {stopped}\n{go_on}", file=sys.stderr)
        return SOME_FAILED
    except launch.Interrupted as signal:
        print(f"Interrupted; everything finished is kept. {go_on}", file=sys.stderr)
        return 128 + signal.number
    except BrokenPipeError:
        raise
    except Exception as error:
        print(f"{file}: {in_words(error)}\nEverything finished is kept. {go_on}", file=sys.stderr)
        return SOME_FAILED


@dataclass(frozen=True)
class _Opened:
    """A launch that the ledger has given to this process, and where it is tracked."""

    request: launch.Request
    ledger: Ledger
    launch: Launch
    size: cluster.Size
    uri: str


def _opened(request: launch.Request) -> _Opened:
    """Check what remains to be checked, and take the study.

    Raises:
        StudyHeld, StudyChanged, LedgerError, ValueError: refused, with a sentence for the user; nothing has begun.
    """
    uri = request.study.tracking.address(os.environ)
    databases.check_driver(uri)
    request.storage.refuse_name(request.study.name)
    size = cluster.size(request.address, request.grows)
    resources = placement.with_gpus(request.study.resources, size.nodes)
    request = replace(request, study=replace(request.study, resources=resources))
    if not request.address:
        cluster.refuse_unusable_gpus(request.study)
    cluster.refuse_infeasible(request.study, size)
    ledger = Ledger(place_of(request.storage))
    return _Opened(request, ledger, launch.open_launch(ledger, request, size), size, uri)


def _refusal(refused: Exception) -> str:
    if not isinstance(refused, StudyChanged):
        return in_words(refused) if isinstance(refused, OSError) else str(refused)
    lines = "\n  ".join(differences(refused.known, refused.given))
    way_out = "Give the file another name (name: ...), or add --fresh to begin a new launch."
    return f"{refused}:\n  {lines}\n{way_out}"


def _carry_out(opened: _Opened, data: ImageData, json_out: TextIO | None) -> int:
    request, ledger, uri = opened.request, opened.ledger, opened.uri
    storage = request.storage.folder
    tracker = Tracker(ledger.place, storage, opened.launch.id, uri)
    tracker.start()
    try:
        with launch.leased(ledger, request, opened.launch, opened.size) as state:
            if not state.trial_queue.finished:
                _run(request, state, tracker, quiet=json_out is not None)
            status = state.status
    except BaseException as error:
        # Whatever ended it, no run is left RUNNING.
        with suppress(LedgerError):
            tracker.close(_HURRIED_S)
        if isinstance(error, LedgerError | environment.Unusable):
            raise launch.Stopped(str(error)) from error
        raise
    # The launch is closed by now, so the reports say how it ended.
    summary = evidence.with_cluster_numbers(
        summarize(ledger, opened.launch.id), evidence.reader(request.storage.results)
    )
    _log_best_model(summary, request.storage, data, tracker)  # in the tracker's thread, while reports are written here
    written = _written(request, summary, data)
    not_exported = optuna_export.export(ledger, opened.launch.id, storage / optuna_export.DATABASE)
    tracker.log_parent(written, markdown.note(summary), metrics_of_best(summary))
    unsent = tracker.close(_CLOSING_S)
    for sentence in (*_notes(summary), tracker.model_error, tracker.note, str(unsent) if unsent else "", not_exported):
        if sentence:
            print(sentence, file=sys.stderr)
    ids = tracker.ids()
    copied = request.storage.copy([*written, *figures.files_of_best_trial(summary, storage)])
    if state.trial_queue.halted:
        print(_halted(state), file=sys.stderr)
    if json_out is not None:
        print(_as_json(ledger, summary, state.seconds, ids), file=json_out)
    else:
        print(terminal.end_of_sweep(summary, storage, ids["uri"] if uri and ids["uri"] else ""))
    if isinstance(ledger.place, Server):
        print(f"ledger   {ledger.place}; Optuna's studies in {ledger.place.optuna_schema}", file=sys.stderr)
    if copied:
        print(copied, file=sys.stderr)
    return OK if status == "done" else SOME_FAILED


def _notes(summary: Summary) -> list[str]:
    """What the stages of a launch have to say, each sentence once: figures not drawn, results of other code."""
    notes = list(dict.fromkeys(note for trial in summary.trials for stage in trial.stages for note in stage.notes))
    more = len(notes) - _MOST_NOTES
    return notes if more <= 0 else [*notes[:_MOST_NOTES], f"... and {more} more such notes; the ledger has them all"]


def _written(request: launch.Request, summary: Summary, data: ImageData) -> list[Path]:
    """The files of the study's reports, those of its best trial among them."""
    of_best = embeddings.draw(summary, request.storage.folder, data)
    of_best += embeddings.draw_rows(summary, request.storage.folder, data)
    of_best += best_trial.of_study(summary, request.storage.folder, data)
    full = importance.with_importances(summary, importances)
    return [*writer.write(full, request.storage.folder), *of_best]


def _as_json(
    ledger: Ledger, summary: Summary, seconds: Mapping[str, float], mlflow_ids: Mapping[str, str | None]
) -> str:
    run_ids = {trial.key: ledger.export(TARGET, summary.launch.id, trial.key)[0] for trial in summary.trials}
    return json.dumps(json_view.as_json(summary, seconds, mlflow_ids, run_ids), allow_nan=False)


def _run(request: launch.Request, state: LaunchState, tracker: Tracker, *, quiet: bool) -> None:
    """Run the launch on a Ray cluster, with the live table and the gauges."""
    with (
        cluster.running(request.address, request.grows) as size,
        display.LiveDisplay(request.study.name, quiet=quiet) as screen,
    ):
        cluster.refuse_infeasible(request.study, size)
        watched, share = progress.LaunchProgress(state, tracker.num_unsent), request.study.resources.trial
        search = service.start()
        lease_actors = leases.start() if request.storage.uri else None
        gauges = prometheus.SweepGauges(request.study.name, share.gpu * max(1, share.workers))

        def changed() -> None:
            screen.update(watched.snapshot)
            gauges.show(*watched.counts())
            search.follow()

        state.changed = changed
        launch.run(request, state)
        del lease_actors  # these actors live as long as their handles
        search.actors.clear()


def _halted(state: LaunchState) -> str:
    """Why the sweep was stopped before its end, and how it goes on."""
    trial_queue = state.trial_queue
    seeds = len(trial_queue.study.seeds)
    left = sum(trial.state == PENDING for trial in trial_queue.trials if trial.kind == "trial")
    left += max(0, trial_queue.num_configurations - len(trial_queue.configurations)) * seeds
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
            store.get(stage.result_name)
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
    result = Store(storage.folder).get(last.result_name)
    build = getattr(pipeline.load(last.name), "classifier", None)
    if result is None or build is None:
        why = "its result is not in the storage" if result is None else "it leaves no network (it has no classifier)"
        print(f"No model of the best trial is logged: stage {last.name}: {why}.", file=sys.stderr)
        return
    wanted = model_input.of_data(data, trial.trial_spec["dataset"])
    metadata = {served.INPUT: wanted.as_dict(), mlflow_model.RESULT: last.result_name}
    tracker.log_best_model(trial.key, lambda: build(result, data), data.eval.images_NCHW[:2].numpy(), metadata)
