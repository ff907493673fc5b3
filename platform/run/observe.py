"""A running launch as a ``live.State``: read off the course, which is in memory, so that looking costs little."""

import statistics
import time
from collections.abc import Mapping, Sequence

from trainables.seeds import label

from .course import Course
from .labels import setting_label
from .live import Best, Ended, Running, State
from .outcomes import counts_as_result
from .rows import COLLAPSED, DONE, ENDED, FAILED, PRUNED, RUNNING, Trial

_ACCURACY = "acc"


class Observer:
    """Looks at one course again and again; what cannot change any more is kept from one look to the next."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._labels: dict[int, str] = {}
        self._ended: dict[str, Ended] = {}

    def state(self, unsent: int = 0) -> State:
        """The state now. ``unsent``: trials that the tracker does not have yet."""
        board, study = self._course.board, self._course.board.study
        everything = board.trials
        trials = [trial for trial in everything if trial.kind == "trial"]
        prepare = [trial for trial in everything if trial.kind == "prepare"]
        done = [trial for trial in trials if trial.state == DONE]
        failed = sum(trial.state == FAILED for trial in trials)
        ended = sum(trial.state in ENDED for trial in trials)
        total = len(trials) + (board.total_settings - len(board.settings)) * len(study.seeds)
        seconds = [trial.seconds for trial in done if trial.seconds]
        self._note_ended(everything, {"trial": total, "prepare": len(prepare)})
        return State(
            total=total,
            done=len(done),
            failed=failed,
            # A cell handed to Tune waits there for a free process: only a started one runs.
            running=tuple(self._running(trial) for trial in everything if trial.state == RUNNING),
            ended=tuple(self._ended.values()),
            best=self._best(trials),
            prepared=sum(trial.state == DONE for trial in prepare),
            prepare=len(prepare),
            unsent=unsent,
            time_left_s=time_left_s(seconds, total - ended, self._course.slots),
        )

    def _name(self, trial: Trial) -> str:
        what = "shared stages" if trial.setting is None else self._label(trial.setting)
        return f"{what} seed {label(trial.seed)}"

    def _label(self, number: int) -> str:
        if number not in self._labels:
            board = self._course.board
            setting = next(each for each in board.settings if each.number == number)
            study = board.study
            self._labels[number] = setting_label(study.method, study.pretext, setting.params, setting.variant)
        return self._labels[number]

    def _running(self, trial: Trial) -> Running:
        now = time.monotonic()
        seconds = now - self._course.since.get(trial.key, now)
        row = self._course.epochs.get(trial.key, {})
        return Running(self._name(trial), row.get("slot", ""), row.get("epoch", 0), row.get("total", 0), seconds)

    def _note_ended(self, everything: Sequence[Trial], totals: Mapping[str, int]) -> None:
        """Append what ended since the last look, in the order of ending, if this run of the command started it."""
        since, places = self._course.since, {"trial": 0, "prepare": 0}
        for trial in sorted((t for t in everything if t.state in ENDED), key=lambda t: t.sequence or 0):
            places[trial.kind] += 1
            if trial.key in since and trial.key not in self._ended:
                self._ended[trial.key] = self._end(trial, places[trial.kind], totals[trial.kind])

    def _end(self, trial: Trial, place: int, of: int) -> Ended:
        shown = (self._course.board.study.objective.metric, _ACCURACY) if trial.kind == "trial" else ()
        values = {name: trial.metrics[name] for name in dict.fromkeys(shown) if name in trial.metrics}
        seconds = (
            trial.seconds if trial.seconds is not None else max(0.0, (trial.ended or 0.0) - (trial.started or 0.0))
        )
        return Ended(self._name(trial), place, of, trial.state.lower(), values, seconds, trial.error)

    def _best(self, trials: Sequence[Trial]) -> Best | None:
        objective = self._course.board.study.objective
        values: dict[int, list[float]] = {}
        stopped = {trial.setting for trial in trials if trial.state in (PRUNED, COLLAPSED)}
        for trial in trials:
            counts = counts_as_result(trial) and trial.setting not in stopped
            if counts and trial.setting is not None and objective.metric in trial.metrics:
                values.setdefault(trial.setting, []).append(trial.metrics[objective.metric])
        if not values:
            return None
        means = {number: statistics.fmean(found) for number, found in values.items()}
        sign = -1.0 if objective.mode == "max" else 1.0
        number = min(means, key=lambda each: (sign * means[each], each))
        std = statistics.stdev(values[number]) if len(values[number]) > 1 else None
        return Best(self._label(number), objective.metric, means[number], std, len(values[number]))


def time_left_s(finished_s: Sequence[float], num_left: int, slots: int) -> float | None:
    """Seconds until ``num_left`` trials are done, if each takes the finished ones' mean; None before the first."""
    return statistics.fmean(finished_s) * num_left / slots if finished_s else None
