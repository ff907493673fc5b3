import json
from collections.abc import Mapping
from platform.reports.json_view import as_json
from platform.reports.summarize import summarize
from typing import Any

SECONDS = {"total": 9.0, "prepare": 2.0, "trials": 7.0}
MLFLOW = {"uri": "sqlite:///runs/mlflow.db", "experiment_id": "1", "parent_run_id": "p"}


def _object(book: Any, run_ids: Mapping[str, str] | None = None) -> Any:
    summary = summarize(book.ledger, book.launch.id)
    return json.loads(json.dumps(as_json(summary, SECONDS, MLFLOW, run_ids or {}), allow_nan=False))


def test_the_object_has_the_keys_that_scripts_rely_on(sweep: Any) -> None:
    found = _object(sweep)
    assert {"study", "method", "dataset", "status", "seconds", "trials", "best", "mlflow"} <= set(found)
    assert (found["study"], found["method"], found["dataset"], found["status"]) == ("spc", "spc", "digits", "running")
    assert (found["seconds"], found["mlflow"]) == (SECONDS, MLFLOW)


def test_a_trial_has_everything_that_decided_it(sweep: Any) -> None:
    trial = _object(sweep, {f"{sweep.launch.id}-0-1": "run-7"})["trials"][1]
    assert trial.pop("stages")[1] == {"name": "spc", "address": "a" * 16, "cached": False, "seconds": 1.5}
    assert trial == {
        "id": f"{sweep.launch.id}-0-1",
        "status": "done",
        "seed": 1,
        "params": {"spc.strong_threshold": 0.9},
        "variant": "",
        "metrics": {"spc/selection_loss": -4.0, "spc/acc": 0.8, "acc": 0.8},
        "seconds": 2.0,
        "error": None,
        "mlflow_run_id": "run-7",
    }


def test_a_failed_trial_says_why(sweep: Any) -> None:
    trial = _object(sweep)["trials"][7]
    assert (trial["status"], trial["metrics"], trial["mlflow_run_id"]) == ("failed", {}, None)
    assert trial["error"].startswith("Diverged")


def test_shared_stages_are_listed_like_trials(sweep: Any) -> None:
    found = _object(sweep)
    (prepare,) = found["prepare"]
    assert set(prepare) == set(found["trials"][0])
    assert (prepare["seed"], prepare["stages"][0]["cached"]) == (0, True)


def test_best_has_means_over_seeds_and_names_its_best_trial(sweep: Any) -> None:
    best = _object(sweep)["best"]
    assert best["id"] == f"{sweep.launch.id}-0-1"
    assert (best["params"], best["criterion"]) == ({"spc.strong_threshold": 0.9}, "spc/selection_loss")
    assert (best["metrics"]["spc/selection_loss"], best["std"]["spc/selection_loss"]) == (-3.0, 1.0)


def test_without_results_there_is_no_best(book: Any) -> None:
    made = book()
    made.configuration(0, {0: None})
    assert _object(made)["best"] is None
