"""What a configuration's seeds came to: worked by hand, and the same for everybody who asks."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from platform.ledger.aggregate import (
    Objective,
    Spread,
    TrialTotals,
    curve,
    mean_curve,
    objective_means,
    objective_spread,
    pruned_curve,
    spread,
)
from platform.ledger.ledger import Ledger
from platform.ledger.rows import COLLAPSED, DONE, FAILED, PRUNED, EpochRow, Trial
from platform.reports.summarize import summarize
from platform.run.trial_queue import TrialQueue
from platform.study.plan import shared_parts
from platform.study.resolved import resolved
from platform.study.study import Study
from platform.tracking import optuna_export
from typing import Any

import optuna
import pytest

from trainables.runner.messages import Collapsed, Done, EpochRecord, StageRecord

METRIC = "spc/selection_loss"
STAGE = StageRecord("spc", "spc", "a1", cached=False, seconds=1.0)


def trial(state: str, seed: int = 0, configuration: int = 0, **metrics: float) -> Trial:
    named = {f"spc/{name}": value for name, value in metrics.items()}
    spec: Any = {}
    return Trial(
        key=f"{configuration}-{seed}", kind="trial", configuration=configuration, seed=seed, state=state,
        trial_spec=spec, attempts=1, worker={}, metrics=named, stages=[STAGE], error="", started=1.0, ended=2.0,
        seconds=1.0, sequence=1,
    )  # fmt: skip


# By hand


def test_a_mean_leaves_out_failed_seeds_and_those_without_the_metric() -> None:
    trials = [
        trial(DONE, 0, selection_loss=-1.0),
        trial(DONE, 1, selection_loss=-3.0),
        trial(FAILED, 2),
        trial(DONE, 3),
    ]
    # Mean -2; squares 1 + 1 over n - 1 = 1.
    assert objective_spread(trials, METRIC) == Spread(-2.0, 2**0.5, 2)
    assert objective_spread(trials[2:], METRIC) is None


@pytest.mark.parametrize(
    "stopped",
    [trial(PRUNED, 1), trial(COLLAPSED, 1), trial(DONE, 1, selection_loss=-0.1, cluster_share_max=0.99)],
    ids=["pruned", "collapsed", "done with one cluster"],
)
def test_a_stopped_seed_takes_the_mean_from_its_configuration(stopped: Trial) -> None:
    assert objective_spread([trial(DONE, selection_loss=-1.0), stopped], METRIC) is None


def test_means_of_several_objectives_need_all_of_them() -> None:
    objectives = (Objective(METRIC, "min"), Objective("spc/agreement", "max"))
    assert objective_means([trial(DONE, selection_loss=-1.0, agreement=0.5)], objectives) == (-1.0, 0.5)
    assert objective_means([trial(DONE, selection_loss=-1.0)], objectives) is None


def test_one_value_has_no_deviation() -> None:
    assert spread([0.7]) == Spread(0.7, None, 1)


def test_an_objective_knows_which_end_is_good() -> None:
    least, most = Objective(METRIC, "min"), Objective(METRIC, "max")
    assert (least.sign, most.sign) == (1.0, -1.0)
    assert (least.best([2.0, 1.0, 3.0]), most.best([2.0, 1.0, 3.0])) == (1.0, 3.0)
    assert least.is_better(1.0, 2.0) and most.is_better(2.0, 1.0)
    assert not least.is_better(1.0, 1.0) and not most.is_better(1.0, 1.0)


def test_a_curve_has_the_objective_s_slot_alone_and_its_first_values() -> None:
    epochs = [
        EpochRecord("scan", 1, 2, {"selection_loss": 9.0}),
        EpochRecord("spc", 1, 2, {"selection_loss": 1.0}),
        EpochRecord("spc", 1, 2, {"selection_loss": 5.0}),
        EpochRecord("spc", 2, 2, {"loss": 2.0}),
    ]
    assert curve(epochs, METRIC) == {1: 1.0}


def test_a_mean_curve_ends_where_the_first_seed_ends() -> None:
    assert mean_curve([{1: 1.0, 2: 2.0, 3: 9.0}, {1: 3.0, 2: 4.0}]) == {1: 2.0, 2: 3.0}
    assert mean_curve([]) == {}


def test_a_pruned_configuration_has_a_curve_without_its_collapsed_seed() -> None:
    def epochs_of(key: str) -> list[EpochRow]:
        return [EpochRow(0, key, "spc", 1, 9, {"selection_loss": {"0-0": 1.0, "0-1": 3.0, "0-2": 50.0}[key]}, 0.0)]

    done, collapsed = trial(DONE, 0), trial(DONE, 2, cluster_share_max=1.0)
    assert pruned_curve([done, trial(PRUNED, 1), collapsed], METRIC, epochs_of) == {1: 2.0}
    assert pruned_curve([done, collapsed], METRIC, epochs_of) == {}


def test_equal_configurations_are_ranked_by_number() -> None:
    totals = TrialTotals(Objective(METRIC, "max"))
    for number in (2, 1, 3):
        totals.add(trial(DONE, configuration=number, selection_loss=4.0))
    assert totals.best is not None
    assert (totals.best.number, totals.best.objective) == (1, Spread(4.0, None, 1))


# Everybody who asks

PAGE = """\
    method: spc
    seeds: [0, 1]
    search:
      spc.strong_threshold: {uniform: [0.5, 0.99]}
    sampler: random
    trials: 36
    objective: {metric: spc/selection_loss, mode: min}
    """

ENDS = ("done", "another value", "done with one cluster", "without the metric", "pruned", "collapsed", "failed")
PAIRS = list(itertools.combinations_with_replacement(ENDS, 2))


def end(queue: TrialQueue, key: str, how: str) -> None:
    """End a trial in one of the ways in which trials end."""
    values = {"done": -2.3, "another value": -2.2, "done with one cluster": -0.1}
    queue.on_start(key)
    queue.on_epochs(key, [EpochRecord("spc", 1, 9, {"selection_loss": -1.0})])
    if how == "pruned":
        queue.on_pruned(key, "behind", {METRIC: -1.0}, 1.0)
    elif how == "collapsed":
        queue.on_collapsed(key, Collapsed("spc: one cluster", {METRIC: -1.0}), 1.0)
    elif how == "failed":
        queue.on_failed(key, "Diverged: spc: loss is nan")
    else:
        metrics = {"spc/cluster_share_max": 1.0 if how == "done with one cluster" else 0.2}
        queue.on_done(key, Done(metrics | ({METRIC: values[how]} if how in values else {}), [STAGE], 1.0))


@dataclass
class Readers:
    """Configuration -> its objective's mean, as each reader has it; None where it has none."""

    sampler: dict[int, float | None]
    live_table: dict[int, float | None]
    optuna: dict[int, float | None]
    report: dict[int, float | None]


@pytest.fixture
def readers(make_study: Callable[[str], Study], tmp_path: Path) -> Readers:
    """One launch whose configuration i ends with the two seeds of PAIRS[i], read by all four."""
    study = make_study(PAGE.replace("trials: 36", f"trials: {len(PAIRS)}"))
    ledger = Ledger(tmp_path / "ledger.db")
    launch = ledger.open_launch(study.name, {}, dict(resolved(study)), lookahead=len(PAIRS) + 1)
    queue = TrialQueue(
        ledger, launch, study, fingerprints={"fingerprint": "f"}, shared=shared_parts(study), storage=str(tmp_path)
    )
    while (found := queue.next()) is not None:
        row = queue.trial(found[0])
        end(queue, row.key, "done" if row.configuration is None else PAIRS[row.configuration][row.seed])
    assert queue.finished
    queue._complete()
    optuna_export.export(ledger, launch.id, tmp_path / "optuna.db")
    exported = optuna.load_study(study_name=study.name, storage=f"sqlite:///{tmp_path / 'optuna.db'}").trials
    summary = summarize(ledger, launch.id)
    return Readers(
        sampler={each.number: each.values[0] if each.values else None for each in queue._completed},
        live_table={number: live_mean(ledger.trials(launch.id, "trial"), number) for number in range(len(PAIRS))},
        optuna={
            each.user_attrs["setting"]: each.value if each.state == optuna.trial.TrialState.COMPLETE else None
            for each in exported
        },
        report={row.number: row.objective.mean if row.objective else None for row in summary.configurations},
    )


def live_mean(trials: list[Trial], number: int) -> float | None:
    """What the live table would show if there were only this configuration."""
    totals = TrialTotals(Objective(METRIC, "min"))
    for each in trials:
        if each.configuration == number:
            totals.add(each)
    return totals.best.objective.mean if totals.best else None


def test_sampler_live_table_optuna_s_copy_and_report_agree(readers: Readers) -> None:
    assert readers.sampler == readers.report
    assert readers.live_table == readers.report
    assert readers.optuna == readers.report
    by_pair = {pair: readers.report[number] for number, pair in enumerate(PAIRS)}
    assert len(by_pair) == 28
    assert by_pair["done", "another value"] == -2.25
    assert by_pair["done", "failed"] == by_pair["done", "without the metric"] == -2.3
    stopped = {"done with one cluster", "pruned", "collapsed"}
    assert all((by_pair[pair] is None) == (bool(stopped & {*pair}) or not {*pair} & set(ENDS[:2])) for pair in PAIRS)
