"""A launch as an Optuna study, for Optuna's own tools (``optuna.load_study``, its dashboard, its importances).

Written from the ledger and never read back: the searcher asks an in-memory study that is made anew.
"""

import os
import sqlite3
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import alembic.util
import optuna
import sqlalchemy

from trainables.seeds import expanded, label

from ..ledger.aggregate import Objective, objective_means, pruned_curve, results, study_objectives
from ..ledger.databases import creation_lock, set_aside
from ..ledger.ledger import Ledger
from ..ledger.postgres import Server
from ..ledger.rows import ENDED, Configuration, Launch, Trial
from ..search.samplers import direction, distribution
from ..study.domains import Domain, read_back
from ..study.errors import redacted

DATABASE = "optuna.db"
# A foreign schema, a damaged page and a folder in its place raise different ones of these.
_UNUSABLE = (
    sqlite3.Error,
    sqlalchemy.exc.SQLAlchemyError,
    optuna.exceptions.OptunaError,
    alembic.util.CommandError,
    OSError,
)
_PASSING = ("locked", "full", "readonly", "Read-only")
"""Words of errors that are no fault of the file's."""


def study_name(launch: Launch) -> str:
    """The study's name; with "#2", "#3", ... for later launches."""
    return launch.study if launch.number == 1 else f"{launch.study}#{launch.number}"


def export(ledger: Ledger, launch: int, path: Path) -> str:
    """Write every configuration of a launch whose trials have all ended to the Optuna database at ``path``, or beside
    the ledger where that is on a server.

    A trial there is a configuration here: COMPLETE with the objective's mean over its seeds, PRUNED with the means by
    epoch where a seed was pruned, FAIL where no seed is finished or one has collapsed. Its user attributes hold the
    configuration's number, the objective by seed, and an ablation row's name and changes.
    Called again it adds what is new; where what is there no longer holds (more seeds, a wider range), it writes all
    anew. A file that Optuna cannot use is set aside.

    Returns:
        A sentence if it could not be written; the ledger has it all, so no sweep fails for it.
    """
    is_file = not isinstance(ledger.place, Server)
    uri = ledger.place.optuna if isinstance(ledger.place, Server) else f"sqlite:///{path.resolve()}"
    try:
        try:
            _write(ledger, launch, uri)
        except _UNUSABLE as error:
            if not is_file or any(words in str(error) for words in _PASSING) or not os.path.lexists(path):
                raise
            name = set_aside(path)
            warnings.warn(f"{path} cannot be used; it was set aside as {name} and written anew", stacklevel=2)
            _write(ledger, launch, uri)
    except _UNUSABLE as error:
        place = path if is_file else "Optuna's studies on the server"
        words = redacted(" ".join(str(error).split())[:200])
        return f"{place} could not be written ({words}); the same command writes it when that is over"
    return ""


def _write(ledger: Ledger, launch: int, uri: str) -> None:
    row = ledger.launch(launch)
    wanted = _trials(ledger, row)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with creation_lock(uri):
        storage = optuna.storages.RDBStorage(uri)
        study = _study(storage, row)
        there = study.get_trials(deepcopy=False)
        if [_meaning(trial) for trial in there] != [_meaning(trial) for trial in wanted[: len(there)]]:
            optuna.delete_study(study_name=study.study_name, storage=storage)
            study, there = _study(storage, row), []
        for trial in wanted[len(there) :]:
            study.add_trial(trial)
        storage.engine.dispose()


def _study(storage: optuna.storages.RDBStorage, launch: Launch) -> optuna.Study:
    objectives = study_objectives(launch.resolved)
    study = optuna.create_study(
        storage=storage,
        study_name=study_name(launch),
        directions=[direction(each.mode) for each in objectives],
        load_if_exists=True,
    )
    known = study.user_attrs
    metrics = [each.metric for each in objectives]
    attributes = {"objective": metrics[0] if len(metrics) == 1 else metrics, "method": launch.resolved["method"]}
    for name, value in attributes.items():
        if known.get(name) != value:
            study.set_user_attr(name, value)
    return study


def _trials(ledger: Ledger, launch: Launch) -> list[optuna.trial.FrozenTrial]:
    """The configurations whose trials have all ended, of the seeds that the study asks for now."""
    seeds = set(expanded(launch.resolved["seeds"]))
    by_configuration: dict[int, list[Trial]] = {}
    for trial in ledger.trials(launch.id, "trial"):
        if trial.configuration is not None and trial.seed in seeds:
            by_configuration.setdefault(trial.configuration, []).append(trial)
    swept = {**launch.resolved.get("grid", {}), **launch.resolved["search"]}
    domains = {name: read_back(name, written) for name, written in swept.items()}
    objectives = study_objectives(launch.resolved)
    exported = []
    for configuration in ledger.configurations(launch.id):
        trials = by_configuration.get(configuration.number, [])
        if trials and all(trial.state in ENDED for trial in trials):
            intermediate = pruned_curve(trials, objectives[0].metric, lambda key: ledger.epochs(launch.id, key))
            exported.append(_trial(configuration, trials, objectives, domains, intermediate))
    return exported


def _trial(
    configuration: Configuration,
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    domains: Mapping[str, Domain],
    intermediate: Mapping[int, float],
) -> optuna.trial.FrozenTrial:
    # A start may lie outside of what is searched; Optuna takes no such value as a parameter.
    within = [
        name for name in domains if name in configuration.params and domains[name].holds(configuration.params[name])
    ]
    values = objective_means(trials, objectives)
    # Optuna has neither pruning nor values by epoch where there are several objectives.
    shown = intermediate if len(objectives) == 1 else {}
    state = optuna.trial.TrialState
    exported = optuna.trial.create_trial(
        state=state.COMPLETE if values is not None else state.PRUNED if shown else state.FAIL,
        values=values,
        intermediate_values=dict(shown),
        params={name: configuration.params[name] for name in within},
        distributions={name: distribution(domains[name]) for name in within},
        user_attrs=_attributes(configuration, trials, objectives, domains, within),
    )
    started = [each.started for each in trials if each.started]
    ended = [each.ended for each in trials if each.ended]
    if started and ended:
        exported.datetime_start = datetime.fromtimestamp(min(started))
        exported.datetime_complete = datetime.fromtimestamp(max(ended))
    return exported


def _attributes(
    configuration: Configuration,
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    domains: Mapping[str, Domain],
    within: Sequence[str],
) -> dict[str, Any]:
    metrics = [each.metric for each in objectives]
    by_metric = [{label(each.seed): each.metrics[name] for each in results(trials, name)} for name in metrics]
    by_seed: Any = by_metric[0] if len(metrics) == 1 else dict(zip(metrics, by_metric, strict=True))
    attributes: dict[str, Any] = {"setting": configuration.number, "by_seed": by_seed}
    if configuration.variant:
        attributes |= {"variant": configuration.variant, "changes": dict(configuration.params)}
    outside = configuration.params.keys() & domains.keys() - set(within)
    if outside:
        attributes["outside"] = {name: configuration.params[name] for name in outside}
    return attributes


def _meaning(trial: optuna.trial.FrozenTrial) -> tuple[Any, ...]:
    # A failed trial's value reads as None, one that is there as the very number: SQLite keeps all digits.
    return trial.user_attrs["setting"], trial.user_attrs["by_seed"], trial.state, trial.params, trial.distributions
