"""What each store says of a sweep, in the same form: "setting/seed" -> the objective's value, and the best setting.

Every value is to be minimized.
"""

import csv
import json
import sqlite3
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.chaos.history import View

_ALL = 10_000


def view(name: str, done: Mapping[str, float]) -> View:
    """done: "setting/seed" -> value. The best setting has the least mean, and of several the least number."""
    by_setting: dict[int, list[float]] = {}
    for key, value in done.items():
        by_setting.setdefault(int(key.partition("/")[0]), []).append(value)
    means = {number: statistics.fmean(values) for number, values in by_setting.items()}
    best = min(sorted(means), key=means.__getitem__, default=None)
    return View(name, dict(done), None if best is None else str(best))


def of_ledger(storage: Path, study: str, metric: str) -> View:
    rows = _rows(
        storage,
        "SELECT setting, seed, metrics FROM trials WHERE kind = 'trial' AND state = 'DONE' AND launch = "
        "(SELECT MAX(id) FROM launches WHERE study = ?)",
        study,
    )
    return view("ledger", {f"{setting}/{seed}": json.loads(text)[metric] for setting, seed, text in rows})


def done_keys(storage: Path, study: str) -> list[str]:
    """The keys that the ledger has as DONE, of shared stages too."""
    query = "SELECT key FROM trials JOIN launches ON launch = id WHERE state = 'DONE' AND study = ?"
    return [key for (key,) in _rows(storage, query, study)]


def of_optuna(storage: Path, study: str) -> View:
    import optuna

    kept = optuna.load_study(study_name=study, storage=f"sqlite:///{storage / 'optuna.db'}")
    done = {
        f"{trial.user_attrs['setting']}/{seed}": value
        for trial in kept.trials
        for seed, value in trial.user_attrs["by_seed"].items()
    }
    best = str(kept.best_trial.user_attrs["setting"])
    return View("optuna", done, best)


def of_mlflow(uri: str, study: str, metric: str) -> View:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None, f"MLflow has no experiment {study}"
    found, token = [], None
    while True:
        page = client.search_runs(
            [experiment.experiment_id], "tags.`clustersweep.kind` = 'trial'", max_results=_ALL, page_token=token
        )
        found += page
        token = page.token
        if not token:
            break
    ended = [run for run in found if run.info.status == "FINISHED"]
    done = {
        f"{run.data.tags['clustersweep.setting']}/{run.data.tags['clustersweep.seed']}": run.data.metrics[metric]
        for run in ended
    }
    assert len(done) == len(ended), "a trial has two runs"
    return view("mlflow", done)


def of_tables(storage: Path, study: str, metric: str) -> View:
    with (storage / study / "trials.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "ok"]
    return view("tables", {f"{row['setting']}/{row['seed']}": float(row[metric]) for row in rows})


def _rows(storage: Path, query: str, *values: str) -> list[Any]:
    connection = sqlite3.connect(f"file:{storage / 'ledger.db'}?mode=ro", uri=True, timeout=30)
    try:
        return connection.execute(query, values).fetchall()
    finally:
        connection.close()
