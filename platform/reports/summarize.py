"""A launch's rows in the ledger, summarized: means over seeds, the ranking, and what choosing without labels cost.

A trial that failed, was stopped or has not ended is missing: it is counted and named, and enters no mean. A
configuration with a pruned or collapsed seed has no objective and no rank, because the mean of the seeds that survived
would flatter it; its other means are of the finished seeds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from trainables import pipeline, settings
from trainables.label_metrics import looks_at_labels
from trainables.seeds import expanded

from ..ledger import stage_metadata
from ..ledger.aggregate import Objective, objective_spread, spread, study_objectives
from ..ledger.formatting import configuration_label
from ..ledger.ledger import Ledger
from ..ledger.rows import COLLAPSED, DONE, FAILED, PRUNED, Configuration, Launch, Trial
from ..study import pipelines
from ..study.errors import redacted
from ..study.published import values_of
from .ranking import by_front, ranked
from .summary import ACCURACY, AblationRow, ConfigurationRow, Cost, Failure, PrepareRow, Summary, accuracy_metric

_STOPPED = (PRUNED, COLLAPSED)


def summarize(ledger: Ledger, launch_id: int) -> Summary:
    """Read a launch from the ledger and summarize it; equal rows give equal summaries.

    Raises:
        KeyError: no such launch, or its method is not in ``pipeline.METHODS``.
    """
    launch = ledger.launch(launch_id)
    resolved = launch.resolved
    stage_metadata.remember(resolved, launch.facts)
    trials = tuple(ledger.trials(launch_id))
    configurations = _configuration_rows(launch, ledger.configurations(launch_id), trials)
    prepare = tuple(_prepare_row(trial) for trial in trials if trial.kind == "prepare")
    objectives = study_objectives(resolved)
    ranking = _ranking(configurations, objectives)
    best, oracle = next(iter(ranking), None), _oracle(configurations)
    return Summary(
        launch=launch,
        method=resolved["method"],
        pretext=resolved.get("pretext", ""),
        probes=tuple(resolved.get("probes", ())),
        dataset=resolved["dataset"],
        seeds=expanded(resolved["seeds"]),
        objectives=objectives,
        looks_at_labels=bool(resolved.get("oracle")) or looks_at_labels(objectives[0].metric),
        search={**resolved.get("grid", {}), **resolved.get("search", {})},
        configurations=configurations,
        ranking=ranking,
        ablation=tuple(_ablation_row(row, resolved["ablate"]) for row in configurations if row.variant),
        prepare=prepare,
        published=_on_our_scale(resolved.get("published", {})),
        best=best,
        oracle=oracle,
        regret=_regret(best, oracle, accuracy_metric(configurations)),
        failures=_failures(prepare, configurations),
        cost=_cost(trials),
        trials=trials,
    )


def on_our_scale(metric: str, published: float) -> float:
    """A published value as we report it, a share of one: a label metric above 1 was printed in percent."""
    return published / 100 if looks_at_labels(metric) and published > 1 else published


def _on_our_scale(published: Mapping[str, Any]) -> dict[str, float]:
    """The values of a ``published`` entry of a study file."""
    return {metric: on_our_scale(metric, value) for metric, value in values_of(published).items()}


def _ranking(
    configurations: Sequence[ConfigurationRow], objectives: Sequence[Objective]
) -> tuple[ConfigurationRow, ...]:
    by_first = ranked([(row, row.objective) for row in configurations], objectives[0])
    return by_front(by_first, objectives) if len(objectives) > 1 else by_first


def _oracle(configurations: Sequence[ConfigurationRow]) -> ConfigurationRow | None:
    """Of the configurations that have an objective, the one with the best mean accuracy."""
    accuracy = accuracy_metric(configurations)
    candidates = [
        (row, row.metrics.get(accuracy))
        for row in configurations
        if row.objective is not None and (accuracy != ACCURACY or not row.is_overclustered)
    ]
    return next(iter(ranked(candidates, Objective(accuracy, "max"))), None)


def _failures(prepare: Sequence[PrepareRow], configurations: Sequence[ConfigurationRow]) -> tuple[Failure, ...]:
    shared = [Failure("prepare", row.seed, row.error) for row in prepare if row.status == FAILED]
    return (*shared, *(failure for row in configurations for failure in row.failed))


def _configuration_rows(
    launch: Launch, configurations: Sequence[Configuration], trials: Sequence[Trial]
) -> tuple[ConfigurationRow, ...]:
    """Each configuration over its trials, of the seeds that the study asks for now.

    The ledger keeps a trial once. If two configurations come to the same (they differ in a setting that does not
    count), the first one owns the trials, and the second one shows them too.
    """
    seeds = set(expanded(launch.resolved["seeds"]))
    own: dict[int, tuple[Trial, ...]] = {
        configuration.number: tuple(
            trial for trial in trials if trial.configuration == configuration.number and trial.seed in seeds
        )
        for configuration in configurations
    }
    rows = []
    for configuration in configurations:
        shown = own[configuration.number]
        if not shown:
            wanted = _effective_settings(launch, configuration)
            twins = (
                each for each in configurations if own[each.number] and _effective_settings(launch, each) == wanted
            )
            shown = next((own[twin.number] for twin in twins), ())
        rows.append(_configuration_row(launch, configuration, shown))
    return tuple(rows)


def _effective_settings(launch: Launch, configuration: Configuration) -> list[dict[str, Any]]:
    """What decides a configuration's results: its stages, and of each the settings that count."""
    resolved = launch.resolved
    row = {name: value for name, value in configuration.params.items() if name in pipelines.KEYS}
    named = pipelines.chosen(resolved["method"], resolved.get("pretext", ""), row)
    stages = pipeline.stages(*named, resolved.get("probes", ()))
    fixed = pipelines.settings_of(stages, resolved.get("fixed", {})) if row else resolved.get("fixed", {})
    changes = {**fixed, **{name: value for name, value in configuration.params.items() if name not in row}}
    configs = pipeline.configs(*named, changes, resolved.get("probes", ()))
    return [*({"stage": name} for name in pipelines.identity(*named)), *map(settings.effective, configs.values())]


def _configuration_row(launch: Launch, configuration: Configuration, trials: tuple[Trial, ...]) -> ConfigurationRow:
    resolved = launch.resolved
    label = configuration_label(
        resolved["method"], resolved.get("pretext", ""), configuration.params, configuration.variant
    )
    done = [trial for trial in trials if trial.state == DONE]
    values: dict[str, list[float]] = {}
    for trial in done:
        for name, value in trial.metrics.items():
            values.setdefault(name, []).append(value)
    return ConfigurationRow(
        number=configuration.number,
        variant=configuration.variant,
        label=label,
        params=configuration.params,
        done=len(done),
        wanted=len(expanded(resolved["seeds"])),
        metrics={name: spread(values[name]) for name in sorted(values)},
        objective=objective_spread(trials, study_objectives(resolved)[0].metric),
        failed=_with_errors(label, trials, (FAILED,)),
        trials=trials,
        stopped=_with_errors(label, trials, _STOPPED),
    )


def _with_errors(label: str, trials: Sequence[Trial], states: Sequence[str]) -> tuple[Failure, ...]:
    return tuple(Failure(label, trial.seed, _one_line(trial.error)) for trial in trials if trial.state in states)


def _ablation_row(row: ConfigurationRow, rows: Mapping[str, Mapping[str, Any]]) -> AblationRow:
    published = _on_our_scale(rows.get(row.variant, {}).get("published", {}))
    differences = {
        metric: row.metrics[metric].mean - value for metric, value in published.items() if metric in row.metrics
    }
    return AblationRow(row, published, differences)


def _prepare_row(trial: Trial) -> PrepareRow:
    return PrepareRow(trial.seed, trial.state, tuple(trial.stages), trial.seconds, _one_line(trial.error))


def _regret(best: ConfigurationRow | None, oracle: ConfigurationRow | None, accuracy: str) -> float | None:
    if best is None or oracle is None or accuracy not in best.metrics:
        return None
    if accuracy == ACCURACY and best.is_overclustered:
        return None
    return oracle.metrics[accuracy].mean - best.metrics[accuracy].mean


def _cost(trials: Sequence[Trial]) -> Cost:
    spent = {"prepare": 0.0, "trial": 0.0}
    for trial in trials:
        spent[trial.kind] += trial.seconds or 0.0
    stages = [stage for trial in trials for stage in trial.stages]
    reused = sum(stage.cached for stage in stages)
    return Cost(spent["prepare"], spent["trial"], len(stages) - reused, reused)


def _one_line(error: str) -> str:
    return redacted(" ".join(error.split()))
