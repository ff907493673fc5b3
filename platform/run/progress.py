"""A running launch as a ``live.State``: read off the course, which is in memory, so that looking costs little."""

import time

from trainables.seeds import label

from ..ledger.aggregate import TrialTotals
from ..ledger.formatting import setting_label
from ..ledger.rows import DONE, ENDED, FAILED, PENDING, RUNNING, Trial
from .display import Best, Ended, Running, State
from .launch_state import LaunchState

_ACCURACY = "acc"


class LaunchProgress:
    """Looks at one course again and again; a look costs what has ended since the last one, not what there is."""

    def __init__(self, launch_state: LaunchState) -> None:
        self._course = launch_state
        objective = launch_state.trial_queue.study.objective
        self._tally, self._metric = TrialTotals(objective.metric, objective.mode), objective.metric
        self._num_heard = 0
        self._labels: dict[int, str] = {}
        self._ended: list[Ended] = []

    def state(self, unsent: int = 0) -> State:
        """The state now. ``unsent``: trials that the tracker does not have yet."""
        tally, trial_queue = self._heard(), self._course.trial_queue
        total, num_ended = self._total("trial"), tally.num("trial", *ENDED)
        leader, mean_s = tally.leader, tally.done_s / tally.num_timed if tally.num_timed else None
        return State(
            total=total,
            done=tally.num("trial", DONE),
            failed=tally.num("trial", FAILED),
            # A cell handed to Tune waits there for a free process: only a started one runs.
            running=tuple(self._running(trial) for trial in self._under_way()),
            ended=tuple(self._ended),
            best=None
            if leader is None
            else Best(self._label(leader.configuration), self._metric, leader.mean, leader.std, leader.n),
            prepared=tally.num("prepare", DONE),
            prepare=trial_queue.num_prepare,
            unsent=unsent,
            time_left_s=time_left_s(mean_s, total - num_ended, self._course.slots),
        )

    def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """How many trials are in each state, and how the stages of finished cells came: "cached" or "computed"."""
        tally, trial_queue = self._heard(), self._course.trial_queue
        states = {state: tally.num("trial", state) for state in ENDED}
        states[RUNNING] = sum(trial.kind == "trial" for trial in self._under_way())
        states[PENDING] = trial_queue.num_trials - sum(states.values())
        return states, dict(tally.stages)

    def _heard(self) -> TrialTotals:
        """The tally, with what has ended since the last look."""
        trial_queue = self._course.trial_queue
        for trial in trial_queue.ended[self._num_heard :]:
            # What ended in an earlier run of the command was said there.
            if self._tally.add(trial) and trial.key in self._course.since:
                self._ended.append(self._end(trial))
        self._num_heard = len(trial_queue.ended)
        return self._tally

    def _total(self, kind: str) -> int:
        """How many cells of a kind there will be."""
        trial_queue = self._course.trial_queue
        if kind == "prepare":
            return trial_queue.num_prepare
        return trial_queue.num_trials + (trial_queue.total_settings - len(trial_queue.configurations)) * len(
            trial_queue.study.seeds
        )

    def _under_way(self) -> list[Trial]:
        """What has started, shared stages first, then by setting."""
        given = [self._course.trial_queue.trial(key) for key in self._course.trial_queue.running]
        started = [trial for trial in given if trial.state == RUNNING]
        return sorted(
            started, key=lambda trial: (trial.kind != "prepare", trial.configuration or 0, trial.seed, trial.key)
        )

    def _name(self, trial: Trial) -> str:
        what = "shared stages" if trial.configuration is None else self._label(trial.configuration)
        return f"{what} seed {label(trial.seed)}"

    def _label(self, number: int) -> str:
        if number not in self._labels:
            study, configuration = self._course.trial_queue.study, self._course.trial_queue.configurations[number]
            self._labels[number] = setting_label(
                study.method, study.pretext, configuration.params, configuration.variant
            )
        return self._labels[number]

    def _running(self, trial: Trial) -> Running:
        now = time.monotonic()
        seconds = now - self._course.since.get(trial.key, now)
        row = self._course.epochs.get(trial.key, {})
        return Running(self._name(trial), row.get("slot", ""), row.get("epoch", 0), row.get("total", 0), seconds)

    def _end(self, trial: Trial) -> Ended:
        shown = (self._metric, _ACCURACY) if trial.kind == "trial" else ()
        values = {name: trial.metrics[name] for name in dict.fromkeys(shown) if name in trial.metrics}
        seconds = (
            trial.seconds if trial.seconds is not None else max(0.0, (trial.ended or 0.0) - (trial.started or 0.0))
        )
        place, of = self._tally.num(trial.kind, *ENDED), self._total(trial.kind)
        return Ended(self._name(trial), place, of, trial.state.lower(), values, seconds, trial.error)


def time_left_s(mean_s: float | None, num_left: int, slots: int) -> float | None:
    """Seconds until ``num_left`` trials are done, if each takes the finished ones' mean; None before the first."""
    return None if mean_s is None else mean_s * num_left / slots
