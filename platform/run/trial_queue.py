"""What is to be run next, and what has come of the rest: the ledger's rows of one launch, kept in step.

Knows nothing of Ray. A cell goes out through ``next`` and comes back through ``done`` or ``failed``; every change is
in the ledger before anybody else hears of it.
"""

import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from trainables.runner import pipeline_runner

from ..ledger.ledger import Ledger
from ..ledger.outcomes import counts_as_result, is_disk_full
from ..ledger.rows import COLLAPSED, DONE, ENDED, FAILED, PENDING, PRUNED, RUNNING, Configuration, Launch, Trial
from ..search.early_stopping import intermediate, judged_slot
from ..search.samplers import CompletedTrial
from ..search.searcher import Searcher
from ..study.pipelines import KEYS
from ..study.plan import Shared
from ..study.study import Study

TrialSpec = dict[str, Any]


class TrialQueue:
    """The cells of one launch.

    fingerprints: "fingerprint" of the data set, and "probe_fingerprint" of the probes' where it is another one.
    shared: what is prepared once per seed, of each pipeline of the study.
    ended: the trials in the order of ending; it only grows, and one that ends again stands there again.
    num_prepare: the cells of shared stages; two pipelines may share the same.
    """

    def __init__(
        self,
        ledger: Ledger,
        launch: Launch,
        study: Study,
        *,
        fingerprints: Mapping[str, str],
        shared: Sequence[Shared],
        storage: str,
    ) -> None:
        self._ledger, self.launch, self.study = ledger, launch, study
        self._searcher = Searcher(study)
        self._fingerprints, self._storage = dict(fingerprints), storage
        self.total_settings = self._searcher.total
        self.configurations = ledger.configurations(launch.id)
        self._params = [configuration.params for configuration in self.configurations]
        self._known = {trial.key: trial for trial in ledger.trials(launch.id)}
        self._trials: dict[str, Trial] = {}
        self._by_setting: dict[int, list[str]] = {}
        self.num_prepare = 0
        self.ended: list[Trial] = []
        self._queue: deque[str] = deque()
        self.running: set[str] = set()
        self._told: list[CompletedTrial] = []
        self.num_failures = 0
        self.disk_full = self.devices_gone = False
        self._parts = {row.name: part for part in study.parts for row in part.ablate}
        self.prepare: dict[tuple[int, str, str], str] = {}
        for part, slots in shared:
            self._enter([self._cell(part, {}, seed, until=slots[-1]) for seed in study.seeds], None)
        for configuration in self.configurations:
            self._enter_setting(configuration)
        self.ended.sort(key=lambda trial: trial.sequence or 0)
        self._known.clear()
        self._give_up_unprepared()

    # Out

    def next(self) -> tuple[str, TrialSpec] | None:
        """The key and cell to start now; None if nothing may start before something else has ended."""
        while not self.halted:
            for key in self._queue:
                if self._may_start(key):
                    self._queue.remove(key)
                    self.running.add(key)
                    return key, dict(self._trials[key].trial_spec)
            if not self._draw():
                return None
        return None

    def back(self, key: str) -> None:
        """A cell that was given out comes back without having started."""
        self.running.discard(key)
        self._queue.appendleft(key)

    @property
    def halted(self) -> bool:
        """Whether no further trial may start: too many failed since this board was made, no room on a disk, no GPU."""
        limit = self.study.max_failures
        return self.disk_full or self.devices_gone or (limit is not None and self.num_failures >= limit)

    @property
    def finished(self) -> bool:
        """Whether every cell of every setting has ended, or what is left may not start."""
        everything = not self._queue and len(self.configurations) >= self.total_settings
        return not self.running and (everything or self.halted)

    @property
    def prepare_cells(self) -> list[tuple[str, TrialSpec]]:
        """The prepare cells that are still to be run."""
        keys = dict.fromkeys(self.prepare.values())  # two pipelines may share the same stages
        return [(key, dict(self._trials[key].trial_spec)) for key in keys if key in self._queue]

    @property
    def trials(self) -> list[Trial]:
        return list(self._trials.values())

    @property
    def num_trials(self) -> int:
        """How many trials the settings have that are drawn."""
        return len(self._trials) - self.num_prepare

    # Back

    def started(self, key: str) -> None:
        self.running.add(key)
        self._ledger.start(self.launch.id, key)
        self._trials[key] = replace(self._trials[key], state=RUNNING)

    def epochs(self, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            self._ledger.add_epochs(self.launch.id, key, rows)

    def done(self, key: str, outcome: Mapping[str, Any]) -> None:
        told = (outcome["metrics"], outcome["stages"], outcome["seconds"])
        self._ledger.finish(self.launch.id, key, *told, worker=outcome.get("worker"))
        self._refresh(key)

    def failed(self, key: str, error: str) -> None:
        """A cell that ran has failed."""
        self.num_failures += 1
        self.disk_full |= is_disk_full(error)
        self._fail(key, error)

    def pruned(self, key: str, reason: str, metrics: Mapping[str, float], seconds: float) -> None:
        """The scheduler stopped a cell; it is not run again."""
        self._ledger.stop(self.launch.id, key, PRUNED, reason, metrics, seconds)
        self._refresh(key)

    def collapsed(self, key: str, reason: str, metrics: Mapping[str, float], seconds: float) -> None:
        """A cell's guard stopped it; it would collapse again, so it is not run again."""
        self._ledger.stop(self.launch.id, key, COLLAPSED, reason, metrics, seconds)
        self._refresh(key)

    def trial(self, key: str) -> Trial:
        return self._trials[key]

    def returned(self, key: str) -> None:
        """A cell that had started comes back, to be started once more; the ledger counts its starts."""
        self._refresh(key)
        self._trials[key] = replace(self._trials[key], state=PENDING)
        self.back(key)

    # Inside

    def _fail(self, key: str, error: str) -> None:
        self._ledger.fail(self.launch.id, key, error)
        self._refresh(key)
        if self._trials[key].kind == "prepare":
            self._give_up_unprepared()

    def _enter_setting(self, configuration: Configuration) -> None:
        part = self._parts.get(configuration.variant, self.study)
        # A row's params name its pipeline too, which the part has already.
        changes = {name: value for name, value in configuration.params.items() if name not in KEYS}
        self._enter([self._cell(part, changes, seed) for seed in self.study.seeds], configuration.number)

    def _cell(self, study: Study, changes: Mapping[str, Any], seed: int, until: str = "") -> TrialSpec:
        """A cell of a part of the study: of a trial, or with ``until`` of what its trials share."""
        made = {
            "kind": "prepare" if until else "trial",
            "method": study.method,
            "pretext": study.pretext,
            "changes": {**study.fixed, **changes},
            "dataset": dict(study.dataset),
            **self._fingerprints,
            "seed": seed,
            "until": until,
            "probes": list(study.probes),
            "storage": self._storage,
            "threads": max(1, int(study.resources.trial.cpu)),
        }
        if study.probe_dataset:
            made["probe_dataset"] = dict(study.probe_dataset)
        return made if until else made | _watched(study)

    def _enter(self, cells: Sequence[TrialSpec], configuration: int | None) -> None:
        keyed = [(pipeline_runner.trial_key(trial_spec), trial_spec) for trial_spec in cells]
        if any(key not in self._known for key, _ in keyed):
            self._ledger.add_trials(self.launch.id, keyed, configuration=configuration)
        for key, trial_spec in keyed:
            if configuration is None:
                self.prepare[_family(trial_spec)] = key
            else:
                self._by_setting.setdefault(configuration, []).append(key)
            if key not in self._trials:
                # A resumed launch may ask for other resources or read the data elsewhere; the numbers are the same.
                self._note(replace(self._known.get(key) or self._read(key), trial_spec=trial_spec))
                self.num_prepare += configuration is None
                if self._trials[key].state == PENDING:
                    self._queue.append(key)

    def _give_up_unprepared(self) -> None:
        """Fail every waiting cell whose shared stages have failed: it could never start."""
        for key in list(self._queue):
            seed, family = self._trials[key].seed, _family(self._trials[key].trial_spec)
            shared = self._trials[self.prepare[family]] if family in self.prepare else None
            if shared is not None and shared.key != key and shared.state == FAILED:
                self._fail(key, f"the stages shared by seed {seed} failed: {shared.error}")

    def _read(self, key: str) -> Trial:
        trial = self._ledger.trial(self.launch.id, key)
        assert trial is not None, f"trial {key} is not in the ledger"
        return trial

    def _note(self, trial: Trial) -> None:
        self._trials[trial.key] = trial
        if trial.state in ENDED:
            self.ended.append(trial)

    def _refresh(self, key: str) -> None:
        trial = replace(self._read(key), trial_spec=self._trials[key].trial_spec)
        self._note(trial)
        if trial.state != PENDING:
            self.running.discard(key)
            if key in self._queue:
                self._queue.remove(key)

    def _may_start(self, key: str) -> bool:
        trial = self._trials[key]
        if trial.state != PENDING or key in self.running:
            return False
        shared = self.prepare.get(_family(trial.trial_spec))
        return trial.kind == "prepare" or shared is None or self._trials[shared].state == DONE

    def _draw(self) -> bool:
        """Draw the next setting if its turn has come."""
        number = len(self.configurations)
        if number >= self.total_settings:
            return False
        self._settle()
        if self._searched and len(self._told) < number - self.launch.lookahead + 1:
            return False
        told = self._told[: max(0, number - self.launch.lookahead + 1)]
        variant, params = self._searcher.draw(number, told, self._params)
        configuration = Configuration(number, variant, params)
        self._ledger.add_configuration(self.launch.id, configuration)
        self.configurations.append(configuration)
        self._params.append(params)
        self._enter_setting(configuration)
        self._give_up_unprepared()
        return True

    @property
    def _searched(self) -> bool:
        return bool(self.study.search) and self.study.sampler.name != "grid"

    def _settle(self) -> None:
        """Note the mean of every setting whose cells have all ended, in order, up to the first that has not."""
        while len(self._told) < len(self.configurations):
            configuration = self.configurations[len(self._told)]
            ended = [self._trials[key] for key in self._by_setting[configuration.number]]
            if any(trial.state not in ENDED for trial in ended):
                return
            # A setting may switch off what the objective measures; it then has no value, like one that failed.
            pruned = any(trial.state == PRUNED for trial in ended)
            ran = [trial for trial in ended if trial.state == PRUNED or counts_as_result(trial)]
            curves = [self._curve(trial) for trial in ran if pruned]
            self._told.append(
                CompletedTrial(configuration.number, configuration.params, self._means(ended), intermediate(curves))
            )

    def _means(self, ended: Sequence[Trial]) -> tuple[float, ...] | None:
        """Each objective's mean over the seeds that count; None where one has none."""
        if any(trial.state in (PRUNED, COLLAPSED) for trial in ended):
            return None  # the mean of the seeds that survived would flatter it
        counted = [trial for trial in ended if counts_as_result(trial)]
        found = [
            [trial.metrics[each.metric] for trial in counted if each.metric in trial.metrics]
            for each in self.study.objectives
        ]
        return tuple(map(statistics.fmean, found)) if all(found) else None

    def _curve(self, trial: Trial) -> dict[int, float]:
        slot, _, metric = self.study.objective.metric.partition("/")
        rows = self._ledger.epochs(self.launch.id, trial.key)
        return {row.epoch: row.metrics[metric] for row in rows if row.slot == slot and metric in row.metrics}


def _watched(study: Study) -> TrialSpec:
    """What a trial's cell says of being ranked and stopped; none of it enters an address."""
    found: TrialSpec = {"objectives": [each.metric for each in study.objectives]}
    if study.scheduler:
        found["judged"] = judged_slot(study)
    if study.guard.collapse is not None:
        found["collapse"] = study.guard.collapse.model_dump()
    return found if study.time_limit is None else found | {"time_limit_s": study.time_limit}


def _family(trial_spec: TrialSpec | Mapping[str, Any]) -> tuple[int, str, str]:
    """Seed, method and pretext: what a trial has in common with the cell that prepares its shared stages."""
    return trial_spec["seed"], trial_spec["method"], trial_spec["pretext"]
