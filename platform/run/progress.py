"""A running launch as a ``display.Snapshot``: read off its state in memory, so that looking costs little."""

import time
from collections.abc import Callable

from trainables.seeds import label

from ..ledger.aggregate import Objective, TrialTotals
from ..ledger.formatting import configuration_label
from ..ledger.rows import DONE, ENDED, FAILED, PENDING, RUNNING, Trial
from .display import Best, Ended, Running, Snapshot
from .launch_state import LaunchState

_ACCURACY = "acc"


class LaunchProgress:
    """Looks at one launch again and again; a look costs what has ended since the last one, not what there is.

    num_unsent: how many trials the tracker fails to take.
    """

    def __init__(self, state: LaunchState, num_unsent: Callable[[], int] = lambda: 0) -> None:
        self._state, self._queue, self._num_unsent = state, state.trial_queue, num_unsent
        objective = self._queue.study.objective
        self._totals, self._metric = TrialTotals(Objective(objective.metric, objective.mode)), objective.metric
        self._num_added = 0
        self._labels: dict[int, str] = {}
        self._ended: list[Ended] = []

    def snapshot(self) -> Snapshot:
        """The launch at this moment."""
        totals = self._updated()
        total, num_ended = self._num_planned("trial"), totals.num("trial", *ENDED)
        mean_s = totals.done_s / totals.num_timed if totals.num_timed else None
        return Snapshot(
            total=total,
            done=totals.num("trial", DONE),
            failed=totals.num("trial", FAILED),
            # A trial handed to Tune waits there for a free process: only a started one runs.
            running=tuple(self._running(trial) for trial in self._started()),
            ended=tuple(self._ended),
            best=self._best(),
            prepared=totals.num("prepare", DONE),
            prepare=self._queue.num_prepare,
            unsent=self._num_unsent(),
            time_left_s=time_left_s(mean_s, total - num_ended, self._state.slots),
        )

    def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """How many trials are in each state, and how the stages of ended ones came: "cached" or "computed"."""
        totals = self._updated()
        states = {state: totals.num("trial", state) for state in ENDED}
        states[RUNNING] = sum(trial.kind == "trial" for trial in self._started())
        states[PENDING] = self._queue.num_trials - sum(states.values())
        return states, dict(totals.stages)

    def _updated(self) -> TrialTotals:
        """The totals, with what has ended since the last look."""
        for trial in self._queue.ended[self._num_added :]:
            # What ended in an earlier run of the command was shown there.
            if self._totals.add(trial) and trial.key in self._state.started_at:
                self._ended.append(self._end(trial))
        self._num_added = len(self._queue.ended)
        return self._totals

    def _num_planned(self, kind: str) -> int:
        """How many trials of a kind there will be."""
        if kind == "prepare":
            return self._queue.num_prepare
        num_undrawn = self._queue.num_configurations - len(self._queue.configurations)
        return self._queue.num_trials + num_undrawn * len(self._queue.study.seeds)

    def _started(self) -> list[Trial]:
        """The trials that have started and not ended, shared stages first, then by configuration."""
        handed_out = [self._queue.trial(key) for key in self._queue.running]
        started = [trial for trial in handed_out if trial.state == RUNNING]
        return sorted(
            started, key=lambda trial: (trial.kind != "prepare", trial.configuration or 0, trial.seed, trial.key)
        )

    def _best(self) -> Best | None:
        best = self._totals.best
        if best is None:
            return None
        return Best(self._label(best.number), self._metric, best.objective.mean, best.objective.std, best.objective.n)

    def _name(self, trial: Trial) -> str:
        what = "shared stages" if trial.configuration is None else self._label(trial.configuration)
        return f"{what} seed {label(trial.seed)}"

    def _label(self, number: int) -> str:
        if number not in self._labels:
            study, configuration = self._queue.study, self._queue.configurations[number]
            self._labels[number] = configuration_label(
                study.method, study.pretext, configuration.params, configuration.variant
            )
        return self._labels[number]

    def _running(self, trial: Trial) -> Running:
        now = time.monotonic()
        seconds = now - self._state.started_at.get(trial.key, now)
        last = self._state.last_epochs.get(trial.key)
        if last is None:
            return Running(self._name(trial), "", 0, 0, seconds)
        return Running(self._name(trial), last.slot, last.epoch, last.total, seconds)

    def _end(self, trial: Trial) -> Ended:
        shown = (self._metric, _ACCURACY) if trial.kind == "trial" else ()
        values = {name: trial.metrics[name] for name in dict.fromkeys(shown) if name in trial.metrics}
        seconds = (
            trial.seconds if trial.seconds is not None else max(0.0, (trial.ended or 0.0) - (trial.started or 0.0))
        )
        place, of = self._totals.num(trial.kind, *ENDED), self._num_planned(trial.kind)
        return Ended(self._name(trial), place, of, trial.state.lower(), values, seconds, trial.error)


def time_left_s(mean_s: float | None, num_left: int, slots: int) -> float | None:
    """Seconds until ``num_left`` trials are done, if each takes the finished ones' mean; None before the first."""
    return None if mean_s is None else mean_s * num_left / slots
