"""The trials of a launch under Ray Tune: warm, reused actors that take one cell after another from the board.

Tune places, starts, restarts and stops; what to run and what became of it is the board's. No Tune experiment is ever
restored: a new launch of the command is a fresh one that starts from the ledger.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from trainables import cuda_errors
from trainables.runner import tune_entry

from ..ledger.rows import ENDED
from ..ledger.schema import LedgerError
from ..study.study import Study
from .launch_state import LaunchState
from .tune_memory import forget_ended

_REPORT_S, _REPORTS_SHARE, _LEAST_S = 0.01, 0.2, 0.5
"""What a report costs the driver, how much of its time all of them together may take, and the shortest time between
two of one trial."""
_GRACE_S = 5.0
"""A trial looks at its time after every epoch; one that is over its time for so long does not come to that."""


def report_every_s(at_once: int) -> float:
    """Seconds between the reports of a trial, where so many run at once: the driver must read all of them in time."""
    return max(_LEAST_S, at_once * _REPORT_S / _REPORTS_SHARE)


class _Unsaved:
    """Tune writes a pickle of everything it is given, for a restore that never happens: leave ours out of it."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: Any) -> Any:
        return self


class Cells(_Unsaved, Searcher):  # type: ignore[misc]
    """Hands the board's cells to Tune. ``keys``: which Tune trial carries which cell."""

    def __init__(self, launch_state: LaunchState) -> None:
        super().__init__()
        self._course = launch_state
        self.keys: dict[str, str] = {}

    def suggest(self, trial_id: str) -> Any:
        found = self._course.trial_queue.next()
        if found is None:
            return Searcher.FINISHED if self._course.trial_queue.finished else None
        key, trial_spec = found
        self.keys[trial_id] = key
        # As text: Tune would take a nested dict apart at the dots and slashes of its keys.
        return {"cell": json.dumps(trial_spec | {"report_every_s": report_every_s(self._course.slots)})}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Nothing: the ledger has it already, from the callback."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the state."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a sweep is resumed from its ledger, not from Tune's files")


class Stops(_Unsaved, FIFOScheduler):  # type: ignore[misc]
    """Starts trials in their order, and stops those that the course has judged.

    holding: Tune's trials, by id, whose process holds a GPU that has failed until the sweep ends; see ``entry``.
    """

    def __init__(self, launch_state: LaunchState, keys: dict[str, str], holding: dict[str, Any]) -> None:
        super().__init__()
        self._course, self._keys, self._holding = launch_state, keys, holding
        self._lost: list[Any] = []

    def on_trial_error(self, controller: Any, trial: Any) -> None:
        self._lost.append(trial)

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        # Tune takes dicts apart here: an outcome comes as "outcome/status", its absence as None.
        key = self._keys[trial.trial_id]
        if "epochs" not in result or "outcome" not in result or key not in self._course.trial_queue.running:
            return str(TrialScheduler.CONTINUE)
        self._course.hears(key, {"epochs": result["epochs"], "outcome": None})
        return str(TrialScheduler.STOP if self._course.judges(key, result["epochs"]) else TrialScheduler.CONTINUE)

    def choose_trial_to_run(self, controller: Any) -> Any:
        forget_ended(getattr(controller, "_tune_controller", controller))  # its wrapper allows schedulers less
        # Tune starts a trial again whose process died, also where its cell had ended before.
        while self._lost:
            trial = self._lost.pop()
            if trial.status == "PENDING" and self._course.trial_queue.trial(self._keys[trial.trial_id]).state in ENDED:
                controller.stop_trial(trial)
        if self._course.trial_queue.finished:
            for trial in self._holding.values():
                if trial.status == "RUNNING":
                    ray.kill(trial.temporary_state.ray_actor)  # it waits, and would not hear a request to stop
                    controller.stop_trial(trial)
        if self._course.trial_queue.halted:
            # Tune keeps some waiting beyond the running ones; they must not start any more.
            for trial in [each for each in controller.get_trials() if each.status == "PENDING"]:
                self._course.trial_queue.back(self._keys[trial.trial_id])
                controller.stop_trial(trial)
        return super().choose_trial_to_run(controller)


class Feed(_Unsaved, tune.Callback):  # type: ignore[misc]
    """Tells the course what Tune sees. holding: as of ``Stops``."""

    def __init__(self, launch_state: LaunchState, keys: dict[str, str], holding: dict[str, Any]) -> None:
        self._course, self._keys, self._holding = launch_state, keys, holding
        self._began: dict[str, tuple[Any, float]] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._began.pop(trial.trial_id, None)
        self._course.starts(self._keys[trial.trial_id])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        # The first word of an attempt; what comes before it is the start of a process.
        self._began.setdefault(trial.trial_id, (trial, time.monotonic()))
        # What is not the last word of a cell has gone through ``Stops``, which Tune asks first.
        outcome = result.get("outcome")
        if outcome is not None and outcome["status"] == cuda_errors.BROKEN:
            self._holding[trial.trial_id] = trial
            del self._began[trial.trial_id]
        if outcome is not None:
            self._course.hears(self._keys[trial.trial_id], result)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        key = self._keys[trial.trial_id]
        if key in self._course.trial_queue.running and trial.trial_id not in self._holding:
            reason = str(trial.get_error() or "no reason given").strip().splitlines()[-1]
            self._course.loses(key, reason, tried=trial.num_failures)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # Tune keeps running means of every number of every trial to its end, 57 KiB a trial; nobody here asks for them.
        trial.run_metadata.metric_analysis.clear()
        trial.run_metadata.metric_n_steps.clear()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._end_overdue()
        self._course.changed()

    def _end_overdue(self) -> None:
        """End the processes of trials that are over their time and do not notice it: they hang, or an epoch is long."""
        for trial, began in list(self._began.values()):
            found, spent_s = self._course.trial_queue.trial(self._keys[trial.trial_id]), time.monotonic() - began
            limit_s = found.trial_spec.get("time_limit_s")
            if limit_s is None or found.state in ENDED or trial.status != "RUNNING":
                del self._began[trial.trial_id]
            elif spent_s > limit_s + _GRACE_S:
                del self._began[trial.trial_id]
                # Failed before its process ends, so that it counts as no lost process and is not started again.
                text = f"TimeLimit: {spent_s:.0f} s spent of {limit_s:g} s, and no epoch came to an end"
                self._course.ends(found.key, text)
                ray.kill(trial.temporary_state.ray_actor)


def run_trials(study: Study, launch_state: LaunchState, scratch: Path) -> None:
    """Run every cell the board has, prepare cells included, until it is finished.

    Raises:
        Interrupted: a signal came.
    """
    share = study.resources.trial
    # Tune keeps this many trials waiting, so that an actor that becomes free is reused and not ended.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(launch_state.slots + 1)
    trainable: Callable[..., Any] = tune_entry.run_trial
    resources: Any = {"cpu": share.cpu, "gpu": share.gpu}
    if share.workers:
        from . import worker_group

        trainable, resources = worker_group.trainable(share)
    cells, holding = Cells(launch_state), dict[str, Any]()
    tuner = tune.Tuner(
        tune.with_resources(trainable, resources),
        tune_config=tune.TuneConfig(
            search_alg=cells,
            scheduler=Stops(launch_state, cells.keys, holding),
            num_samples=-1,
            reuse_actors=True,
            max_concurrent_trials=launch_state.slots if share.workers else None,
            trial_dirname_creator=_dirname,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(scratch),
            callbacks=[Feed(launch_state, cells.keys, holding)],
            failure_config=tune.FailureConfig(max_failures=study.retries),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    except tune.TuneError as error:
        raise _own(error) or error from None


def _own(error: BaseException) -> LedgerError | None:
    """The trouble with the ledger that Tune has put into an error of its own, as it does with a callback's."""
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, LedgerError):
        inner = inner.__cause__ or inner.__context__
    return inner


def _dirname(trial: Any) -> str:
    return str(trial.trial_id)
