"""Every sampler through a real study on digits: drawn from the queue, trained in this process, given back."""

from collections.abc import Callable
from pathlib import Path
from platform.ledger.ledger import Ledger
from platform.ledger.rows import DONE
from platform.run.trial_queue import TrialQueue
from platform.study.plan import shared_parts
from platform.study.resolved import meaning, resolved
from platform.study.study import Study
from platform.tracking.optuna_export import export

import optuna
import pytest

from trainables.data import datasets
from trainables.runner import runtime
from trainables.runner.pipeline_runner import PipelineRunner

PAGE = """\
    method: kmeans
    dataset: {name: digits, train_limit: 120, eval_limit: 60}
    seeds: [0, 1]
    fixed: {pretext.augmentation: affine, pretext.epochs: 1, pretext.batch_size: 60}
    search:
      kmeans.iterations: {int: [1, 12]}
      kmeans.restarts:   {int: [1, 4]}
    sampler: {name: SAMPLER, startup: 2, population: 4}
    objective: OBJECTIVE
    trials: 5
    """
ONE = "{metric: kmeans/mean_squared_distance, mode: min}"
TWO = "[{metric: kmeans/mean_squared_distance, mode: min}, {metric: kmeans/cluster_share_max, mode: min}]"


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One storage for all of them: they share the pretext."""
    return tmp_path_factory.mktemp("runs")


def run(study: Study, storage: Path, ledger: Ledger) -> TrialQueue:
    """The study from its first draw to its last, one trial after another."""
    fingerprint = datasets.load(datasets.Spec(**study.dataset)).fingerprint
    launch = ledger.open_launch(study.name, meaning(study), resolved(study), lookahead=2, facts={})
    fingerprints, kept = {"fingerprint": fingerprint}, str(storage)
    trial_queue = TrialQueue(ledger, launch, study, fingerprints=fingerprints, shared=shared_parts(study), storage=kept)
    runner = PipelineRunner(str(storage), runtime.SingleProcess(), runtime.local().search)
    while (found := trial_queue.next()) is not None:
        key, trial_spec = found
        trial_queue.on_start(key)
        trial_queue.on_done(key, runner.walk(trial_spec, lambda slot, epoch: None))
    return trial_queue


@pytest.mark.parametrize(
    ("sampler", "objective"),
    [(name, ONE) for name in ("tpe", "cmaes", "gp", "qmc", "random")]
    + [(name, TWO) for name in ("nsga2", "tpe", "gp")],
)
def test_a_sampler_runs_a_study(
    make_study: Callable[[str], Study], storage: Path, tmp_path: Path, sampler: str, objective: str
) -> None:
    study = make_study(PAGE.replace("SAMPLER", sampler).replace("OBJECTIVE", objective))
    ledger = Ledger(tmp_path / "ledger.db")
    trial_queue = run(study, storage, ledger)
    assert trial_queue.finished and len(trial_queue.configurations) == 5
    trials = [trial for trial in trial_queue.trials if trial.kind == "trial"]
    assert all(trial.state == DONE for trial in trial_queue.trials) and len(trials) == 10
    for configuration in trial_queue.configurations:
        assert (
            1 <= configuration.params["kmeans.iterations"] <= 12 and 1 <= configuration.params["kmeans.restarts"] <= 4
        )
    export(ledger, trial_queue.launch.id, tmp_path / "optuna.db")
    exported = optuna.load_study(study_name=study.name, storage=f"sqlite:///{tmp_path / 'optuna.db'}").trials
    assert [len(trial.values) for trial in exported] == [len(study.objectives)] * 5
    ledger.close()


def test_a_grid_block_with_starts_runs_a_study(
    make_study: Callable[[str], Study], storage: Path, tmp_path: Path
) -> None:
    text = PAGE.replace("SAMPLER", "random").replace("OBJECTIVE", ONE).replace("trials: 5", "trials: 2")
    text = text.replace("      kmeans.restarts:   {int: [1, 4]}\n", "").replace(
        "    search:", "    grid: {kmeans.restarts: [1, 3]}\n    start: [paper]\n    search:"
    )
    study = make_study(text)
    ledger = Ledger(tmp_path / "ledger.db")
    trial_queue = run(study, storage, ledger)
    found = [
        (configuration.params["kmeans.restarts"], configuration.params["kmeans.iterations"])
        for configuration in trial_queue.configurations
    ]
    paper = study.stages["kmeans"].Config().iterations
    assert found[:2] == [(1, paper), (3, paper)]
    assert [restarts for restarts, _ in found] == [1, 3, 1, 3]
    assert all(trial.state == DONE for trial in trial_queue.trials)
    ledger.close()


def test_without_its_ledger_a_study_finds_its_trials_again(make_study: Callable[[str], Study], tmp_path: Path) -> None:
    # Tune, whose snapshot is gone, knows of nothing that ran.
    study = make_study(PAGE.replace("SAMPLER", "tpe").replace("OBJECTIVE", ONE))
    first = run(study, tmp_path, Ledger(tmp_path / "ledger.db"))
    for path in tmp_path.glob("ledger.db*"):
        path.unlink()
    again = run(study, tmp_path, Ledger(tmp_path / "ledger.db"))
    assert [configuration.params for configuration in again.configurations] == [
        configuration.params for configuration in first.configurations
    ]
    found = {trial.key: trial.metrics for trial in again.trials}
    assert found == {trial.key: trial.metrics for trial in first.trials}
    assert all(stage.cached for trial in again.trials for stage in trial.stages)
