"""A launch as one JSON object: what ``--json`` prints for scripts.

Statuses are in small letters. ``best`` is a configuration, so its metrics are means over its seeds; its ``id`` is of
its trial with the best objective.
"""

from collections.abc import Mapping
from typing import Any

from trainables.seeds import is_crossed, parts

from ..ledger.rows import Trial
from ..study.errors import redacted
from . import pareto
from .figures import best_trial
from .summary import Summary


def as_json(
    summary: Summary,
    seconds: Mapping[str, float],
    mlflow_ids: Mapping[str, str | None],
    run_ids: Mapping[str, str],
) -> dict[str, Any]:
    """The object, fit for ``json.dumps(..., allow_nan=False)``.

    Args:
        seconds: "total", "prepare" and "trials" of this run of the command; a missing one is 0.
        mlflow_ids: uri (without its password), experiment_id and parent_run_id; None where MLflow has not given one.
        run_ids: trial key -> the id of its MLflow run; missing or "" where it has none.
    """
    configurations = {row.number: row for row in summary.configurations}
    trials: dict[str, list[dict[str, Any]]] = {"prepare": [], "trial": []}
    for trial in summary.trials:
        row = None if trial.configuration is None else configurations[trial.configuration]
        of_row = {"params": dict(row.params) if row else {}, "variant": row.variant if row else ""}
        trials[trial.kind].append({**_trial(trial), **of_row, "mlflow_run_id": run_ids.get(trial.key) or None})
    return {
        "study": summary.study,
        "method": summary.method,
        "dataset": summary.dataset["name"],
        "status": summary.launch.status.lower(),
        "seconds": {name: float(seconds.get(name, 0.0)) for name in ("total", "prepare", "trials")},
        "prepare": trials["prepare"],
        "trials": trials["trial"],
        "best": _best(summary),
        **({"pareto": _front(summary)} if len(summary.objectives) > 1 else {}),
        "mlflow": {name: mlflow_ids.get(name) for name in ("uri", "experiment_id", "parent_run_id")},
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "id": trial.key,
        "status": trial.state.lower(),
        **_seeds(trial.seed),
        "metrics": dict(trial.metrics),
        "seconds": trial.seconds,
        "stages": [
            {"name": stage.name, "address": stage.address, "cached": stage.cached, "seconds": stage.seconds}
            for stage in trial.stages
        ],
        "error": redacted(trial.error) or None,
    }


def _seeds(seed: int) -> dict[str, int]:
    pretext, method = parts(seed)
    return {"pretext_seed": pretext, "seed": method} if is_crossed(seed) else {"seed": seed}


def _front(summary: Summary) -> list[dict[str, Any]]:
    """The configurations of the first Pareto front, with every objective."""
    names = [objective.metric for objective in summary.objectives]
    return [
        {"params": dict(row.params), "metrics": {name: row.metrics[name].mean for name in names}}
        for row in pareto.front(summary)
    ]


def _best(summary: Summary) -> dict[str, Any] | None:
    row, trial = summary.best, best_trial(summary)
    if row is None or trial is None:
        return None
    return {
        "id": trial.key,
        "params": dict(row.params),
        "variant": row.variant,
        "metrics": {name: spread.mean for name, spread in row.metrics.items()},
        "std": {name: spread.std for name, spread in row.metrics.items()},
        "seeds": row.done,
        "criterion": summary.objective.metric,
        "mode": summary.objective.mode,
        "regret": summary.regret,
    }
