"""What each store says of a sweep, in the same form: "setting/seed" -> the objective's value, and the best setting.

Every value is to be minimized.
"""

import csv
import statistics
from collections.abc import Mapping
from pathlib import Path
from platform.ledger.ledger import Ledger, place_of
from platform.ledger.outcomes import counts_as_result
from platform.ledger.postgres import Server
from platform.ledger.rows import DONE
from platform.ledger.storage import Storage

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
    """What counts as a result: done, and not collapsed."""
    ledger = Ledger(place_of(Storage(storage)))
    trials = ledger.trials(ledger.launches(study)[-1].id, "trial")
    ledger.close()
    counted = [trial for trial in trials if counts_as_result(trial)]
    return view("ledger", {f"{trial.configuration}/{trial.seed}": trial.metrics[metric] for trial in counted})


def done_keys(storage: Path, study: str) -> list[str]:
    """The keys that the ledger has as DONE, of shared stages too."""
    ledger = Ledger(place_of(Storage(storage)))
    done = [trial.key for launch in ledger.launches(study) for trial in ledger.trials(launch.id) if trial.state == DONE]
    ledger.close()
    return done


def of_optuna(storage: Path, study: str) -> View:
    import optuna

    place = place_of(Storage(storage))
    uri = place.optuna if isinstance(place, Server) else f"sqlite:///{storage / 'optuna.db'}"
    kept = optuna.load_study(study_name=study, storage=uri)
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
    ended = [run for run in found if run.info.status == "FINISHED" and run.data.tags["clustersweep.status"] == "ok"]
    done = {
        f"{run.data.tags['clustersweep.setting']}/{run.data.tags['clustersweep.seed']}": run.data.metrics[metric]
        for run in ended
    }
    assert len(done) == len(ended), "a trial has two runs"
    return view("mlflow", done)


def of_tables(storage: Path, study: str, metric: str) -> View:
    with (storage / study / "trials.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "done"]
    return view("tables", {f"{row['setting']}/{row['seed']}": float(row[metric]) for row in rows})
