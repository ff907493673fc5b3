"""A launch as an Optuna study, for Optuna's own tools (``optuna.load_study``, its dashboard, its importances).

Written from the ledger and never read back: the searcher asks an in-memory study that is made anew.
"""

import sqlite3
import statistics
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy

from trainables.seeds import label

from ..ledger.databases import creation_lock
from ..ledger.ledger import Ledger
from ..ledger.outcomes import counts_as_result
from ..ledger.postgres import Server
from ..ledger.rows import COLLAPSED, ENDED, PRUNED, Configuration, EpochRow, Launch, Trial
from ..search.early_stopping import intermediate
from ..search.samplers import directions, distribution
from ..study import resolved
from ..study.domains import Domain, read_back

DATABASE = "optuna.db"
_DAMAGED = ("malformed", "not a database")


def study_name(launch: Launch) -> str:
    """The study's name; with "#2", "#3", ... for later launches."""
    return launch.study if launch.number == 1 else f"{launch.study}#{launch.number}"


def mirror(ledger: Ledger, launch: int, path: Path) -> None:
    """Write every setting of a launch whose trials have all ended to the Optuna database at ``path``, or beside the
    ledger where that is on a server.

    A trial there is a setting here: COMPLETE with the objective's mean over its finished seeds, PRUNED with the means
    by epoch where a seed was pruned, FAIL where none finished or one collapsed.
    Its user attributes hold the setting's number, the objective by seed, and an ablation row's name and changes.
    Called again it adds what is new; where what is there no longer holds (more seeds, a wider range), it writes all
    anew. A damaged file is set aside.
    """
    if isinstance(ledger.place, Server):
        _write(ledger, launch, ledger.place.optuna)
        return
    uri = f"sqlite:///{path.resolve()}"
    try:
        _write(ledger, launch, uri)
    except (sqlite3.DatabaseError, sqlalchemy.exc.DatabaseError) as error:
        if not any(words in str(error) for words in _DAMAGED):
            raise
        # Everything in it comes from the ledger.
        for each in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
            if each.exists():
                each.rename(each.with_name(f"{each.name}.damaged"))
        warnings.warn(f"{path} is damaged; it was set aside as {path.name}.damaged and written anew", stacklevel=2)
        _write(ledger, launch, uri)


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
    objectives = resolved.objectives(launch.resolved)
    study = optuna.create_study(
        storage=storage,
        study_name=study_name(launch),
        directions=[directions(each["mode"]) for each in objectives],
        load_if_exists=True,
    )
    known = study.user_attrs
    shown = [each["metric"] for each in objectives]
    told = {"objective": shown[0] if len(shown) == 1 else shown, "method": launch.resolved["method"]}
    for name, value in told.items():
        if known.get(name) != value:
            study.set_user_attr(name, value)
    return study


def _trials(ledger: Ledger, launch: Launch) -> list[optuna.trial.FrozenTrial]:
    cells: dict[int, list[Trial]] = {}
    for trial in ledger.trials(launch.id, "trial"):
        if trial.configuration is not None:
            cells.setdefault(trial.configuration, []).append(trial)
    told = launch.resolved
    swept = {**(told.get("grid") or {}), **(told.get("search") or {})}
    domains = {name: read_back(name, written) for name, written in swept.items()}
    return [
        _trial(
            launch,
            configuration,
            cells[configuration.number],
            domains,
            _seen(ledger, launch, cells[configuration.number]),
        )
        for configuration in ledger.configurations(launch.id)
        if configuration.number in cells and all(trial.state in ENDED for trial in cells[configuration.number])
    ]


def _seen(ledger: Ledger, launch: Launch, cells: Sequence[Trial]) -> dict[int, float]:
    """Epoch -> the objective's mean, for a setting of which a seed was pruned; empty for any other."""
    if all(each.state != PRUNED for each in cells):
        return {}
    slot, _, metric = resolved.objectives(launch.resolved)[0]["metric"].partition("/")

    def curve(rows: Sequence[EpochRow]) -> dict[int, float]:
        return {row.epoch: row.metrics[metric] for row in rows if row.slot == slot and metric in row.metrics}

    ran = [each for each in cells if each.state == PRUNED or counts_as_result(each)]
    return intermediate([curve(ledger.epochs(launch.id, each.key)) for each in ran])


def _trial(
    launch: Launch,
    configuration: Configuration,
    cells: Sequence[Trial],
    domains: Mapping[str, Domain],
    seen: Mapping[int, float],
) -> optuna.trial.FrozenTrial:
    metrics = [each["metric"] for each in resolved.objectives(launch.resolved)]
    by_metric = [
        {label(each.seed): each.metrics[name] for each in cells if counts_as_result(each) and name in each.metrics}
        for name in metrics
    ]
    by_seed: Any = by_metric[0] if len(metrics) == 1 else dict(zip(metrics, by_metric, strict=True))
    # A start may lie outside of what is searched; Optuna takes no such value as a parameter.
    held = [
        name for name in domains if name in configuration.params and domains[name].holds(configuration.params[name])
    ]
    attributes: dict[str, Any] = {"setting": configuration.number, "by_seed": by_seed}
    if configuration.variant:
        attributes |= {"variant": configuration.variant, "changes": dict(configuration.params)}
    if outside := {
        name: configuration.params[name] for name in configuration.params.keys() & domains.keys() - set(held)
    }:
        attributes["outside"] = outside
    state = optuna.trial.TrialState
    whole = all(by_metric) and all(each.state not in (PRUNED, COLLAPSED) for each in cells)
    # Optuna has neither pruning nor values by epoch where there are several objectives.
    shown = seen if len(metrics) == 1 else {}
    made = optuna.trial.create_trial(
        state=state.COMPLETE if whole else state.PRUNED if shown else state.FAIL,
        values=[statistics.fmean(found.values()) for found in by_metric] if whole else None,
        intermediate_values=dict(shown),
        params={name: configuration.params[name] for name in held},
        distributions={name: distribution(domains[name]) for name in held},
        user_attrs=attributes,
    )
    started = [each.started for each in cells if each.started]
    ended = [each.ended for each in cells if each.ended]
    if started and ended:
        made.datetime_start = datetime.fromtimestamp(min(started))
        made.datetime_complete = datetime.fromtimestamp(max(ended))
    return made


def _meaning(trial: optuna.trial.FrozenTrial) -> tuple[Any, ...]:
    # A failed trial's value reads as None, one that is there as the very number: SQLite keeps all digits.
    return trial.user_attrs["setting"], trial.user_attrs["by_seed"], trial.state, trial.params, trial.distributions
