"""A launch as one JSON object: what ``--json`` prints for scripts.

Statuses are in small letters. ``best`` is a setting, so its metrics are means over its seeds; ``id`` is the one of its
trials that the criterion likes most.
"""

from collections.abc import Mapping
from typing import Any

from trainables.seeds import is_crossed, parts

from ..ledger.ledger import Ledger
from ..ledger.rows import Launch, Trial
from ..study.errors import redacted
from ..tracking.sync import TARGET
from . import pareto
from .figures import best_trial
from .summary import Summary, summarize


def as_json(
    ledger: Ledger, launch: Launch, seconds: Mapping[str, float], mlflow_ids: Mapping[str, str | None]
) -> dict[str, Any]:
    """The object, fit for ``json.dumps(..., allow_nan=False)``.

    Args:
        seconds: "total", "prepare" and "trials" of this run of the command; a missing one is 0.
        mlflow_ids: uri (without its password), experiment_id and parent_run_id; None where MLflow has not given one.
    """
    summary = summarize(ledger, launch.id)
    configurations = {row.number: row for row in summary.configurations}
    cells: dict[str, list[dict[str, Any]]] = {"prepare": [], "trial": []}
    for trial in ledger.trials(launch.id):
        row = None if trial.configuration is None else configurations[trial.configuration]
        run_id, _, _ = ledger.export(TARGET, launch.id, trial.key)
        told = {"params": dict(row.params) if row else {}, "variant": row.variant if row else ""}
        cells[trial.kind].append({**_trial(trial), **told, "mlflow_run_id": run_id or None})
    return {
        "study": summary.study,
        "method": summary.method,
        "dataset": summary.dataset["name"],
        "status": summary.launch.status.lower(),
        "seconds": {name: float(seconds.get(name, 0.0)) for name in ("total", "prepare", "trials")},
        "prepare": cells["prepare"],
        "trials": cells["trial"],
        "best": _best(summary),
        **({"pareto": _front(summary)} if len(summary.objectives) > 1 else {}),
        "mlflow": {name: mlflow_ids.get(name) for name in ("uri", "experiment_id", "parent_run_id")},
    }


def _trial(trial: Trial) -> dict[str, Any]:
    names = ("name", "address", "cached", "seconds")
    return {
        "id": trial.key,
        "status": trial.state.lower(),
        **_seeds(trial.seed),
        "metrics": dict(trial.metrics),
        "seconds": trial.seconds,
        "stages": [{name: stage[name] for name in names} for stage in trial.stages],
        "error": redacted(trial.error) or None,
    }


def _seeds(seed: int) -> dict[str, int]:
    pretext, method = parts(seed)
    return {"pretext_seed": pretext, "seed": method} if is_crossed(seed) else {"seed": seed}


def _front(summary: Summary) -> list[dict[str, Any]]:
    """The settings that no other beats in all objectives, with those."""
    return [
        {"params": dict(row.params), "metrics": {name: row.metrics[name].mean for name, _ in summary.objectives}}
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
        "metrics": {name: found.mean for name, found in row.metrics.items()},
        "std": {name: found.std for name, found in row.metrics.items()},
        "seeds": row.done,
        "criterion": summary.metric,
        "mode": summary.mode,
        "regret": summary.regret,
    }
