"""What came of a launch, as numbers: means over seeds, the ranking, and what choosing without labels cost.

Everything is computed from the ledger's raw rows. A cell that failed, was stopped or has not ended is missing: it is
counted and named, and enters no mean. A setting of which a seed was pruned or collapsed has no objective and no rank:
the mean of the seeds that survived would flatter it.
Its other means are of the finished seeds. Standard deviations divide by n - 1 and always carry their n.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainables import pipeline, settings
from trainables.label_metrics import looks_at_labels
from trainables.seeds import expanded

from ..ledger import stage_metadata
from ..ledger.formatting import setting_label
from ..ledger.ledger import Ledger
from ..ledger.outcomes import counts_as_result, status
from ..ledger.rows import COLLAPSED, DONE, FAILED, PRUNED, Configuration, Launch, Trial
from ..study import pipelines
from ..study.errors import redacted
from ..study.objectives import objectives
from ..study.published import values_of

ACCURACY = "acc"
_STOPPED = (PRUNED, COLLAPSED)


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (ddof 1; None for one value) of n values."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Failure:
    """A cell that failed, or was stopped. label: its setting's, or "prepare". error: its last word, on one line."""

    label: str
    seed: int
    error: str


@dataclass(frozen=True)
class ConfigurationRow:
    """A setting (variant "") or ablation row over its seeds.

    done, wanted: seeds that finished, and that the study asks for. metrics: name -> spread over the finished ones.
    objective: of the study's objective, None while no seed has it. trials: the ledger's rows, by seed.
    stopped: the pruned and the collapsed ones.
    """

    number: int
    variant: str
    label: str
    params: Mapping[str, Any]
    done: int
    wanted: int
    metrics: Mapping[str, Spread]
    objective: Spread | None
    failed: tuple[Failure, ...]
    trials: tuple[Trial, ...]
    stopped: tuple[Failure, ...] = ()

    def count(self, state: str) -> int:
        """Seeds in a state of the ledger."""
        return sum(trial.state == state for trial in self.trials)

    @property
    def missing(self) -> int:
        """Seeds without a result, failed ones included."""
        return self.wanted - self.done


@dataclass(frozen=True)
class AblationRow:
    """A row of an ablation beside what was published; differences are ours minus theirs, on our scale."""

    row: ConfigurationRow
    published: Mapping[str, float]
    differences: Mapping[str, float]


@dataclass(frozen=True)
class PrepareRow:
    """The stages that all settings of a seed share. stages: as in ``Trial``."""

    seed: int
    status: str
    stages: tuple[Mapping[str, Any], ...]
    seconds: float | None
    error: str


@dataclass(frozen=True)
class Cost:
    """Time spent, summed over processes: seconds, and how many stage results were computed and how many reused."""

    prepare_s: float
    trials_s: float
    computed: int
    reused: int


@dataclass(frozen=True, eq=False)
class Summary:
    """A launch in numbers; each is itself alone, so that what takes long can be kept for it.

    metric, mode: of the objective that ranks. objectives: (metric, mode) of all, that one first. search: the domains of
    grid and search. settings: all of them, by number. ranking: those with every objective, best first, ties by number;
    of several objectives by Pareto rank and then the first. ablation: in the order of the file. best: first of the
    ranking. oracle: what the mean accuracy would have picked. regret: accuracy of ``oracle`` minus that of ``best``;
    None where either has none. published: for the whole study, on our scale.
    looks_at_labels: the objective is a label metric (the file says ``oracle: true``).
    """

    launch: Launch
    method: str
    pretext: str
    probes: tuple[str, ...]
    dataset: Mapping[str, Any]
    seeds: tuple[int, ...]
    metric: str
    mode: str
    objectives: tuple[tuple[str, str], ...]
    looks_at_labels: bool
    search: Mapping[str, Mapping[str, Any]]
    configurations: tuple[ConfigurationRow, ...]
    ranking: tuple[ConfigurationRow, ...]
    ablation: tuple[AblationRow, ...]
    prepare: tuple[PrepareRow, ...]
    published: Mapping[str, float]
    best: ConfigurationRow | None
    oracle: ConfigurationRow | None
    regret: float | None
    failures: tuple[Failure, ...]
    cost: Cost

    @property
    def study(self) -> str:
        return self.launch.study

    @property
    def is_smoke(self) -> bool:
        """Whether the launch ran under ``--smoke``, so that its numbers mean nothing."""
        return bool(self.launch.facts.get("smoke"))


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation of at least one value."""
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def on_our_scale(metric: str, published: float) -> float:
    """A published value as we report it: a share of one. Label metrics above 1 were printed in percent."""
    return published / 100 if looks_at_labels(metric) and published > 1 else published


def summarize(ledger: Ledger, launch_id: int) -> Summary:
    """The launch as it stands in the ledger; the same ledger gives the same summary.

    Raises:
        KeyError: no such launch, or its method is not in ``pipeline.METHODS``.
    """
    launch = ledger.launch(launch_id)
    told = launch.resolved
    stage_metadata.learn(told, launch.facts)
    first = objectives(told)[0]
    cells = _cells(launch, ledger.configurations(launch_id), ledger.trials(launch_id, "trial"))
    configurations = tuple(_setting_row(launch, configuration, trials) for configuration, trials in cells)
    prepare = tuple(_prepare_row(trial) for trial in ledger.trials(launch_id, "prepare"))
    aims = tuple((each["metric"], each["mode"]) for each in objectives(told))
    ranking = ranked([(row, row.objective) for row in configurations], first["mode"] == "max")
    if len(aims) > 1:
        ranking = by_front(ranking, aims)
    by_accuracy = ranked(
        [(row, row.metrics.get(ACCURACY)) for row in configurations if row.objective is not None], True
    )
    best, oracle = next(iter(ranking), None), next(iter(by_accuracy), None)
    failures = [Failure("prepare", row.seed, row.error) for row in prepare if row.status == FAILED]
    return Summary(
        launch=launch,
        method=told["method"],
        pretext=told.get("pretext", ""),
        probes=tuple(told.get("probes", ())),
        dataset=told["dataset"],
        seeds=expanded(told["seeds"]),
        metric=first["metric"],
        mode=first["mode"],
        objectives=aims,
        looks_at_labels=bool(told.get("oracle")) or looks_at_labels(first["metric"]),
        search={**told.get("grid", {}), **told.get("search", {})},
        configurations=configurations,
        ranking=ranking,
        ablation=tuple(_ablation_row(row, told["ablate"]) for row in configurations if row.variant),
        prepare=prepare,
        published={
            metric: on_our_scale(metric, value) for metric, value in values_of(told.get("published", {})).items()
        },
        best=best,
        oracle=oracle,
        regret=_regret(best, oracle),
        failures=(*failures, *(failure for row in configurations for failure in row.failed)),
        cost=_cost(ledger.trials(launch_id)),
    )


def ranked(rows: Iterable[tuple[ConfigurationRow, Spread | None]], maximize: bool) -> tuple[ConfigurationRow, ...]:
    """The settings that have a value, best mean first; of equal ones the lower number first."""
    with_value = [(row, value.mean) for row, value in rows if value is not None]
    ordered = sorted(with_value, key=lambda each: (-each[1] if maximize else each[1], each[0].number))
    return tuple(row for row, _ in ordered)


def fronts(rows: Sequence[ConfigurationRow], objectives: Sequence[tuple[str, str]]) -> list[list[ConfigurationRow]]:
    """The rows that have every objective, in Pareto fronts: in the first one no row is beaten by another in all.

    A row beats another that it equals or betters in every mean and betters in one.
    """
    left = [row for row in rows if all(metric in row.metrics for metric, _ in objectives)]
    costs = {
        row.number: [row.metrics[metric].mean * (1 if mode == "min" else -1) for metric, mode in objectives]
        for row in left
    }
    found = []
    while left:
        front = [row for row in left if not any(_beats(costs[other.number], costs[row.number]) for other in left)]
        found.append(front)
        numbers = {row.number for row in front}
        left = [row for row in left if row.number not in numbers]
    return found


def by_front(rows: Sequence[ConfigurationRow], objectives: Sequence[tuple[str, str]]) -> tuple[ConfigurationRow, ...]:
    """Ranked rows front by front, in each as they stood."""
    return tuple(row for front in fronts(rows, objectives) for row in front)


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def metrics_of_best(summary: Summary) -> dict[str, float]:
    """The best setting's means and deviations as flat metrics ("best/acc", "best/acc_std"), and "regret"."""
    found: dict[str, float] = {}
    for name, value in (summary.best.metrics if summary.best else {}).items():
        found[f"best/{name}"] = value.mean
        if value.std is not None:
            found[f"best/{name}_std"] = value.std
    return found if summary.regret is None else found | {"regret": summary.regret}


def _cells(
    launch: Launch, configurations: Sequence[Configuration], trials: Sequence[Trial]
) -> list[tuple[Configuration, tuple[Trial, ...]]]:
    """Each setting with its trials, of the seeds the study asks for now.

    The ledger keeps a trial once, so of two settings that come to the same (one differs in a setting that does not
    count) only the first has rows of its own; the second gets those.
    """
    seeds = set(expanded(launch.resolved["seeds"]))
    own: dict[int, tuple[Trial, ...]] = {}
    for configuration in configurations:
        own[configuration.number] = tuple(
            t for t in trials if t.configuration == configuration.number and t.seed in seeds
        )
    found = []
    for configuration in configurations:
        rows = own[configuration.number]
        if not rows:
            meaning = _meaning(launch, configuration)
            twins = (other for other in configurations if own[other.number] and _meaning(launch, other) == meaning)
            rows = next((own[other.number] for other in twins), ())
        found.append((configuration, rows))
    return found


def _meaning(launch: Launch, configuration: Configuration) -> list[dict[str, Any]]:
    told = launch.resolved
    row = {name: value for name, value in configuration.params.items() if name in pipelines.KEYS}
    named = pipelines.chosen(told["method"], told.get("pretext", ""), row)
    stages = pipeline.stages(*named, told.get("probes", ()))
    fixed = pipelines.settings_of(stages, told.get("fixed", {})) if row else told.get("fixed", {})
    changes = {**fixed, **{name: value for name, value in configuration.params.items() if name not in row}}
    configs = pipeline.configs(*named, changes, told.get("probes", ()))
    return [*({"stage": name} for name in pipelines.identity(*named)), *map(settings.effective, configs.values())]


def _setting_row(launch: Launch, configuration: Configuration, trials: tuple[Trial, ...]) -> ConfigurationRow:
    told = launch.resolved
    label = setting_label(told["method"], told.get("pretext", ""), configuration.params, configuration.variant)
    done = [trial for trial in trials if trial.state == DONE]
    values: dict[str, list[float]] = {}
    for trial in done:
        for name, value in trial.metrics.items():
            values.setdefault(name, []).append(value)
    metrics = {name: spread(values[name]) for name in sorted(values)}
    return ConfigurationRow(
        number=configuration.number,
        variant=configuration.variant,
        label=label,
        params=configuration.params,
        done=len(done),
        wanted=len(expanded(told["seeds"])),
        metrics=metrics,
        objective=_objective(objectives(told)[0]["metric"], trials),
        failed=tuple(Failure(label, t.seed, _one_line(t.error)) for t in trials if t.state == FAILED),
        trials=trials,
        stopped=tuple(Failure(label, t.seed, _one_line(t.error)) for t in trials if t.state in _STOPPED),
    )


def _objective(metric: str, trials: Sequence[Trial]) -> Spread | None:
    """Over the seeds that count; None without one, and where a seed was stopped or has ended collapsed."""
    if any(status(trial) in ("pruned", "collapsed") for trial in trials):
        return None
    values = [trial.metrics[metric] for trial in trials if counts_as_result(trial) and metric in trial.metrics]
    return spread(values) if values else None


def _ablation_row(row: ConfigurationRow, rows: Mapping[str, Mapping[str, Any]]) -> AblationRow:
    printed = values_of(rows.get(row.variant, {}).get("published", {}))
    published = {metric: on_our_scale(metric, value) for metric, value in printed.items()}
    differences = {
        metric: row.metrics[metric].mean - value for metric, value in published.items() if metric in row.metrics
    }
    return AblationRow(row, published, differences)


def _prepare_row(trial: Trial) -> PrepareRow:
    return PrepareRow(trial.seed, trial.state, tuple(trial.stages), trial.seconds, _one_line(trial.error))


def _regret(best: ConfigurationRow | None, oracle: ConfigurationRow | None) -> float | None:
    if best is None or oracle is None or ACCURACY not in best.metrics:
        return None
    return oracle.metrics[ACCURACY].mean - best.metrics[ACCURACY].mean


def _cost(trials: Sequence[Trial]) -> Cost:
    spent = {"prepare": 0.0, "trial": 0.0}
    for trial in trials:
        spent[trial.kind] += trial.seconds or 0.0
    stages = [stage for trial in trials for stage in trial.stages]
    reused = sum(bool(stage["cached"]) for stage in stages)
    return Cost(spent["prepare"], spent["trial"], len(stages) - reused, reused)


def _one_line(error: str) -> str:
    return redacted(" ".join(error.split()))
