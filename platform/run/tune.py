"""The trials of a launch under Ray Tune: warm, reused actors that take one trial after another from the queue.

Tune places, starts, restarts and stops; what to run and what became of it is decided by the launch's state. No Tune
experiment is ever restored: the same command given again is a fresh experiment that starts from the ledger.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from trainables.runner import tune_entry
from trainables.runner.messages import DeviceBroken, Report, TrialSpec

from ..ledger.rows import ENDED
from ..ledger.schema import LedgerError
from ..study.study import Study
from . import tune_internals
from .launch_state import LaunchState

_REPORT_S, _REPORTS_SHARE, _LEAST_S = 0.01, 0.2, 0.5
"""What a report costs the driver, how much of its time all of them together may take, and the shortest time between
two of one trial."""
_GRACE_S = 5.0
"""A trial checks its time limit after every epoch; one that is over it for so long does not come to that."""


def report_every_s(num_running: int) -> float:
    """Seconds between the reports of a trial where so many run at once: the driver must read all of them in time."""
    return max(_LEAST_S, num_running * _REPORT_S / _REPORTS_SHARE)


class TuneBridge:
    """One launch as Tune sees it: what Tune asks for comes from the launch's state, what Tune notices goes to it.

    Tune calls a searcher, a scheduler and a callback, whose methods have the same names; ``searcher``, ``scheduler``
    and ``callback`` only pass their calls on to here. In Tune a trial has an id of its own, and a new one each time it
    is handed out.
    """

    def __init__(self, state: LaunchState) -> None:
        self._state, self._queue = state, state.trial_queue
        self._keys: dict[str, str] = {}
        self._began: dict[str, tuple[Any, float]] = {}
        self._holding: dict[str, Any] = {}
        """Tune's trials whose process keeps a GPU that has failed until the sweep ends; see ``tune_entry``."""
        self._died: list[Any] = []
        self.searcher = _Searcher(self)
        self.scheduler = _Scheduler(self)
        self.callback = _Callback(self)

    def suggest(self, trial_id: str) -> Any:
        """The config of the next trial, None if Tune must wait, ``Searcher.FINISHED`` at the end."""
        handed_out = self._queue.next()
        if handed_out is None:
            return Searcher.FINISHED if self._queue.finished else None
        key, trial_spec = handed_out
        self._keys[trial_id] = key
        sent: TrialSpec = {**trial_spec, "report_every_s": report_every_s(self._state.slots)}
        # As text: Tune would take a nested dict apart at the dots and slashes of its keys.
        return {tune_entry.TRIAL_SPEC: json.dumps(sent)}

    def on_start(self, trial: Any) -> None:
        """A trial has a process."""
        self._began.pop(trial.trial_id, None)
        self._state.on_start(self._keys[trial.trial_id])

    def on_result(self, trial: Any, result: dict[str, Any]) -> str:
        """A trial has reported. Returns the scheduler's decision."""
        key, report = self._keys[trial.trial_id], result.get(tune_entry.REPORT)
        if not isinstance(report, Report):
            return str(TrialScheduler.CONTINUE)
        # Its first report begins an attempt; what comes before is the start of a process.
        self._began.setdefault(trial.trial_id, (trial, time.monotonic()))
        if isinstance(report.outcome, DeviceBroken):
            self._holding[trial.trial_id] = trial
            del self._began[trial.trial_id]
        if key not in self._queue.running and report.outcome is None:
            return str(TrialScheduler.CONTINUE)
        stops = self._state.on_report(key, report)
        return str(TrialScheduler.STOP if stops else TrialScheduler.CONTINUE)

    def on_error(self, trial: Any) -> None:
        """The process of a trial has died."""
        key = self._keys[trial.trial_id]
        if key in self._queue.running and trial.trial_id not in self._holding:
            self._state.on_lost(key, tune_internals.last_error(trial), attempts=trial.num_failures)

    def note_death(self, trial: Any) -> None:
        """Remember a trial whose process has died, for ``before_choice``."""
        self._died.append(trial)

    def before_choice(self, controller: Any) -> None:
        """Stop in Tune what must not start, or start again, before Tune chooses the next trial to run."""
        tune_internals.forget_ended(controller)
        # Tune starts a trial again whose process died, also where it had ended before.
        while self._died:
            trial = self._died.pop()
            if trial.status == "PENDING" and self._queue.trial(self._keys[trial.trial_id]).state in ENDED:
                controller.stop_trial(trial)
        if self._queue.finished:
            for trial in self._holding.values():
                if trial.status == "RUNNING":
                    tune_internals.kill_process(trial)
                    controller.stop_trial(trial)
        if self._queue.halted:
            # Tune keeps some waiting beyond the running ones; they must not start any more.
            for trial in [each for each in controller.get_trials() if each.status == "PENDING"]:
                self._queue.put_back(self._keys[trial.trial_id])
                controller.stop_trial(trial)

    def on_step_end(self) -> None:
        """Tune has done one round of its work."""
        self._end_overdue()
        self._state.changed()

    def _end_overdue(self) -> None:
        """End the processes of trials that are over their time and do not notice it: they hang, or an epoch is long."""
        for trial, began in list(self._began.values()):
            row, spent_s = self._queue.trial(self._keys[trial.trial_id]), time.monotonic() - began
            limit_s = row.trial_spec.get("time_limit_s")
            if limit_s is None or row.state in ENDED or trial.status != "RUNNING":
                del self._began[trial.trial_id]
            elif spent_s > limit_s + _GRACE_S:
                del self._began[trial.trial_id]
                # Failed before its process ends, so that it counts as no lost process and is not started again.
                text = f"TimeLimit: {spent_s:.0f} s spent of {limit_s:g} s, and no epoch came to an end"
                self._state.on_failed(row.key, text)
                tune_internals.kill_process(trial)


class _Unsaved:
    """Tune writes a pickle of everything it is given, for a restore that never happens: leave ours out of it."""

    _bridge: TuneBridge

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: Any) -> Any:
        return self


class _Searcher(_Unsaved, Searcher):  # type: ignore[misc]
    def __init__(self, bridge: TuneBridge) -> None:
        super().__init__()
        self._bridge = bridge

    def suggest(self, trial_id: str) -> Any:
        return self._bridge.suggest(trial_id)

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Nothing: the ledger has it already."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the state."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a sweep is resumed from its ledger, not from Tune's files")


class _Scheduler(_Unsaved, FIFOScheduler):  # type: ignore[misc]
    def __init__(self, bridge: TuneBridge) -> None:
        super().__init__()
        self._bridge = bridge

    def on_trial_error(self, controller: Any, trial: Any) -> None:
        self._bridge.note_death(trial)

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return self._bridge.on_result(trial, result)

    def choose_trial_to_run(self, controller: Any) -> Any:
        self._bridge.before_choice(controller)
        return super().choose_trial_to_run(controller)


class _Callback(_Unsaved, tune.Callback):  # type: ignore[misc]
    def __init__(self, bridge: TuneBridge) -> None:
        self._bridge = bridge

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._bridge.on_start(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._bridge.on_error(trial)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        tune_internals.forget_metrics(trial)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._bridge.on_step_end()


def run_trials(study: Study, state: LaunchState, scratch: Path) -> None:
    """Run every trial of the queue, those of shared stages included, until it is finished.

    Args:
        scratch: a folder for Tune's own files, which nobody reads.

    Raises:
        Interrupted: a signal came. LedgerError: the ledger cannot be written.
    """
    share = study.resources.trial
    # So many wait in Tune that an actor that becomes free is reused and not ended.
    os.environ[tune_internals.MAX_WAITING_TRIALS] = str(state.slots + 1)
    trainable: Callable[..., Any] = tune_entry.run_trial
    resources: Any = {"cpu": share.cpu, "gpu": share.gpu}
    if share.workers:
        from . import worker_group

        trainable, resources = worker_group.trainable(share)
    bridge = TuneBridge(state)
    tuner = tune.Tuner(
        tune.with_resources(trainable, resources),
        tune_config=tune.TuneConfig(
            search_alg=bridge.searcher,
            scheduler=bridge.scheduler,
            num_samples=-1,
            reuse_actors=True,
            max_concurrent_trials=state.slots if share.workers else None,
            trial_dirname_creator=_dirname,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(scratch),
            callbacks=[bridge.callback],
            failure_config=tune.FailureConfig(max_failures=study.retries),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    except tune.TuneError as error:
        raise _ledger_error(error) or error from None


def _ledger_error(error: BaseException) -> LedgerError | None:
    """The error of the ledger that Tune has put into an error of its own, as it does with a scheduler's."""
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, LedgerError):
        inner = inner.__cause__ or inner.__context__
    return inner


def _dirname(trial: Any) -> str:
    return str(trial.trial_id)
