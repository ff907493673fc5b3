"""What is to be run next, and what became of the rest: the trials of one launch, in step with its rows in the ledger.

Knows nothing of Ray. A trial goes out through ``next`` and comes back through one of the ``on_...`` methods; every
change is in the ledger before anybody else learns of it.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

from trainables.data import datasets
from trainables.runner import pipeline_runner
from trainables.runner.messages import Collapsed, Done, EpochRecord, TrialSpec
from trainables.settings import Plain

from ..ledger.aggregate import Objective, objective_means, pruned_curve
from ..ledger.ledger import Ledger
from ..ledger.outcomes import is_disk_full
from ..ledger.rows import (
    COLLAPSED,
    DONE,
    ENDED,
    FAILED,
    PENDING,
    PRUNED,
    RUNNING,
    Configuration,
    EpochRow,
    Launch,
    Trial,
)
from ..search.early_stopping import watched_slot
from ..search.samplers import CompletedTrial
from ..search.searcher import Searcher
from ..study.pipelines import KEYS
from ..study.plan import Shared
from ..study.study import Study

Family = tuple[int, str, str]
"""Seed, method and pretext: what a trial has in common with the trial that prepares its shared stages."""


class TrialQueue:
    """The trials of one launch.

    ended: the trials in the order of ending; it only grows, and one that ends again stands there again.
    running: keys of the trials that were handed out and have not ended.
    num_prepare: the trials of shared stages; two pipelines may share the same.
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
        """
        Args:
            fingerprints: "fingerprint" of the data set, and "probe_fingerprint" of the probes' where it is another one.
            shared: what is prepared once per seed, of each pipeline of the study.
            storage: a folder or a URI.
        """
        self._ledger, self.launch, self.study = ledger, launch, study
        self._searcher = Searcher(study)
        self._fingerprints, self._storage = dict(fingerprints), storage
        self._objectives = tuple(Objective(each.metric, each.mode) for each in study.objectives)
        self.num_configurations = self._searcher.total
        self.configurations = ledger.configurations(launch.id)
        self._params = [configuration.params for configuration in self.configurations]
        self._in_ledger = {trial.key: trial for trial in ledger.trials(launch.id)}
        self._trials: dict[str, Trial] = {}
        self._keys: dict[int, list[str]] = {}
        self.num_prepare = 0
        self.ended: list[Trial] = []
        self._waiting: deque[str] = deque()
        self.running: set[str] = set()
        self._completed: list[CompletedTrial] = []
        self.num_failures = 0
        self.disk_full = self.devices_gone = False
        self._parts = {row.name: part for part in study.parts for row in part.ablate}
        self._prepare_keys: dict[Family, str] = {}
        for part, slots in shared:
            self._enter([self._trial_spec(part, {}, seed, until=slots[-1]) for seed in study.seeds], None)
        for configuration in self.configurations:
            self._enter_configuration(configuration)
        self.ended.sort(key=lambda trial: trial.sequence or 0)
        self._in_ledger.clear()
        self._fail_unprepared()

    # What goes out

    def next(self) -> tuple[str, TrialSpec] | None:
        """The key and spec of the trial to start now; None if nothing may start before something else has ended."""
        while not self.halted:
            for key in self._waiting:
                if self._may_start(key):
                    self._waiting.remove(key)
                    self.running.add(key)
                    return key, self._trials[key].trial_spec
            if not self._draw():
                return None
        return None

    def put_back(self, key: str) -> None:
        """A trial that was handed out comes back without having started; it is the next to go out."""
        self.running.discard(key)
        self._waiting.appendleft(key)

    @property
    def halted(self) -> bool:
        """Whether no further trial may start: too many failed under this driver, a disk is full, or no GPU is left."""
        limit = self.study.max_failures
        return self.disk_full or self.devices_gone or (limit is not None and self.num_failures >= limit)

    @property
    def finished(self) -> bool:
        """Whether every trial of every configuration has ended, or what is left may not start."""
        exhausted = not self._waiting and len(self.configurations) >= self.num_configurations
        return not self.running and (exhausted or self.halted)

    @property
    def prepare_trials(self) -> list[tuple[str, TrialSpec]]:
        """The trials of shared stages that are still to be run."""
        keys = dict.fromkeys(self._prepare_keys.values())  # two pipelines may share the same stages
        return [(key, self._trials[key].trial_spec) for key in keys if key in self._waiting]

    @property
    def trials(self) -> list[Trial]:
        """All trials there are by now, those of shared stages first."""
        return list(self._trials.values())

    @property
    def num_trials(self) -> int:
        """How many trials the configurations have that are drawn."""
        return len(self._trials) - self.num_prepare

    def trial(self, key: str) -> Trial:
        """A trial by its key, as the ledger has it."""
        return self._trials[key]

    # What comes back

    def on_start(self, key: str) -> None:
        """A trial has started."""
        self.running.add(key)
        self._ledger.start(self.launch.id, key)
        self._trials[key] = replace(self._trials[key], state=RUNNING)

    def on_epochs(self, key: str, epochs: Sequence[EpochRecord]) -> None:
        """A running trial has finished epochs."""
        if epochs:
            self._ledger.add_epochs(self.launch.id, key, epochs)

    def on_done(self, key: str, done: Done) -> None:
        """A trial is finished."""
        self._ledger.finish(self.launch.id, key, done.metrics, done.stages, done.seconds, worker=done.worker)
        self._refresh(key)

    def on_failed(self, key: str, error: str) -> None:
        """A trial that was handed out has failed; this driver does not run it again."""
        self.num_failures += 1
        self.disk_full |= is_disk_full(error)
        self._fail(key, error)

    def on_pruned(self, key: str, reason: str, metrics: Mapping[str, float], seconds: float) -> None:
        """The scheduler has stopped a trial; it is never run again. metrics: of its last epoch, prefixed by slot."""
        self._ledger.stop(self.launch.id, key, PRUNED, reason, metrics, seconds)
        self._refresh(key)

    def on_collapsed(self, key: str, collapsed: Collapsed, seconds: float) -> None:
        """A trial's guard has stopped it; it would collapse again, so it is never run again."""
        self._ledger.stop(self.launch.id, key, COLLAPSED, collapsed.reason, collapsed.metrics, seconds)
        self._refresh(key)

    def on_lost(self, key: str) -> None:
        """A trial that was handed out lost its process; it is the next to go out. The ledger counts its starts."""
        self._refresh(key)
        self._trials[key] = replace(self._trials[key], state=PENDING)
        self.put_back(key)

    def _fail(self, key: str, error: str) -> None:
        self._ledger.fail(self.launch.id, key, error)
        self._refresh(key)
        if self._trials[key].kind == "prepare":
            self._fail_unprepared()

    def _fail_unprepared(self) -> None:
        """Fail every waiting trial whose shared stages have failed: it could never start."""
        for key in list(self._waiting):
            family = _family(self._trials[key].trial_spec)
            shared = self._trials[self._prepare_keys[family]] if family in self._prepare_keys else None
            if shared is not None and shared.key != key and shared.state == FAILED:
                self._fail(key, f"the stages shared by seed {self._trials[key].seed} failed: {shared.error}")

    def _refresh(self, key: str) -> None:
        """Read a trial's row again."""
        trial = replace(self._read(key), trial_spec=self._trials[key].trial_spec)
        self._keep(trial)
        if trial.state != PENDING:
            self.running.discard(key)
            if key in self._waiting:
                self._waiting.remove(key)

    def _read(self, key: str) -> Trial:
        trial = self._ledger.trial(self.launch.id, key)
        assert trial is not None, f"trial {key} is not in the ledger"
        return trial

    def _keep(self, trial: Trial) -> None:
        self._trials[trial.key] = trial
        if trial.state in ENDED:
            self.ended.append(trial)

    # What is in the queue

    def _enter_configuration(self, configuration: Configuration) -> None:
        part = self._parts.get(configuration.variant, self.study)
        # A row's params name its pipeline too, which the part has already.
        changes = {name: value for name, value in configuration.params.items() if name not in KEYS}
        self._enter([self._trial_spec(part, changes, seed) for seed in self.study.seeds], configuration.number)

    def _trial_spec(self, study: Study, changes: Mapping[str, Plain], seed: int, until: str = "") -> TrialSpec:
        """A trial of a part of the study; with ``until``, the stages up to there, which its trials share."""
        spec: TrialSpec = {
            "kind": "prepare" if until else "trial",
            "method": study.method,
            "pretext": study.pretext,
            "changes": {**study.fixed, **changes},
            "dataset": datasets.located(study.dataset),
            "fingerprint": self._fingerprints["fingerprint"],
            "seed": seed,
            "until": until,
            "probes": list(study.probes),
            "storage": self._storage,
            "threads": max(1, int(study.resources.trial.cpu)),
        }
        if study.probe_dataset:
            spec["probe_dataset"] = datasets.located(study.probe_dataset)
            spec["probe_fingerprint"] = self._fingerprints["probe_fingerprint"]
        if not until:
            _add_limits(spec, study)
        return spec

    def _enter(self, trial_specs: Sequence[TrialSpec], configuration: int | None) -> None:
        keyed = [(pipeline_runner.trial_key(trial_spec), trial_spec) for trial_spec in trial_specs]
        if any(key not in self._in_ledger for key, _ in keyed):
            self._ledger.add_trials(self.launch.id, keyed, configuration=configuration)
        for key, trial_spec in keyed:
            if configuration is None:
                self._prepare_keys[_family(trial_spec)] = key
            else:
                self._keys.setdefault(configuration, []).append(key)
            if key not in self._trials:
                # A resumed launch may ask for other resources or read the data elsewhere; the numbers are the same.
                self._keep(replace(self._in_ledger.get(key) or self._read(key), trial_spec=trial_spec))
                self.num_prepare += configuration is None
                if self._trials[key].state == PENDING:
                    self._waiting.append(key)

    def _may_start(self, key: str) -> bool:
        trial = self._trials[key]
        if trial.state != PENDING or key in self.running:
            return False
        shared = self._prepare_keys.get(_family(trial.trial_spec))
        return trial.kind == "prepare" or shared is None or self._trials[shared].state == DONE

    # What is searched

    def _draw(self) -> bool:
        """Draw the next configuration if its turn has come."""
        number = len(self.configurations)
        if number >= self.num_configurations:
            return False
        self._complete()
        num_needed = max(0, number - self.launch.lookahead + 1)
        if self._learns and len(self._completed) < num_needed:
            return False
        variant, params = self._searcher.draw(number, self._completed[:num_needed], self._params)
        configuration = Configuration(number, variant, params)
        self._ledger.add_configuration(self.launch.id, configuration)
        self.configurations.append(configuration)
        self._params.append(params)
        self._enter_configuration(configuration)
        self._fail_unprepared()
        return True

    @property
    def _learns(self) -> bool:
        return bool(self.study.search) and self.study.sampler.name != "grid"

    def _complete(self) -> None:
        """Note the result of each configuration whose trials have all ended, in order, up to the first that has not."""
        while len(self._completed) < len(self.configurations):
            configuration = self.configurations[len(self._completed)]
            trials = [self._trials[key] for key in self._keys[configuration.number]]
            if any(trial.state not in ENDED for trial in trials):
                return
            means = objective_means(trials, self._objectives)
            intermediate = pruned_curve(trials, self._objectives[0].metric, self._epochs_of)
            self._completed.append(CompletedTrial(configuration.number, configuration.params, means, intermediate))

    def _epochs_of(self, key: str) -> Sequence[EpochRow]:
        return self._ledger.epochs(self.launch.id, key)


def _add_limits(spec: TrialSpec, study: Study) -> None:
    """Note in a spec what its trial is ranked by and what may stop it; none of it enters an address."""
    spec["objectives"] = [objective.metric for objective in study.objectives]
    if study.scheduler:
        spec["watched_slot"] = watched_slot(study)
    collapse = study.guard.collapse
    if collapse is not None:
        spec["collapse"] = {
            "min_entropy_share": collapse.min_entropy_share,
            "max_empty_clusters": collapse.max_empty_clusters,
            "patience_epochs": collapse.patience_epochs,
        }
    if study.time_limit is not None:
        spec["time_limit_s"] = study.time_limit


def _family(trial_spec: TrialSpec) -> Family:
    return trial_spec["seed"], trial_spec["method"], trial_spec["pretext"]
