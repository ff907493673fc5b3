"""Sweeps that stop trials early, each for its own reason, and sweeps that are extended."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.slow

NewSweep = Callable[..., Any]

COMMON = """\
name: tiny
method: scan
dataset: {name: digits, train_limit: 120, eval_limit: 60}
seeds: [0]
objective: {metric: scan/selection_loss, mode: min}
resources: {trial: {cpu: 2}}
fixed:
  pretext.augmentation: affine
  pretext.batch_size: 60
  pretext.epochs: 1
  neighbors.num_neighbors: 10
  scan.num_neighbors: 5
  scan.augmentation: affine
  scan.batch_size: 60
  selflabel.augmentation: affine
  selflabel.batch_size: 60
  selflabel.confidence_threshold: 0.12
  selflabel.epochs: 1
"""
# The second and third learn nothing at these rates, so they are behind from the first epoch on.
SEARCH = """\
  scan.epochs: 6
search:
  scan.optimizer.lr: [0.01, 1.0e-6, 1.0e-5]
sampler: grid
"""
SCHEDULERS = [
    "{asha: {grace_epochs: 1, reduction_factor: 2}}",
    "{hyperband: {grace_epochs: 1, reduction_factor: 5}}",
    "{median: {grace_epochs: 2, min_trials: 1}}",
]


def page(sweep: Any, text: str) -> Any:
    sweep.page.write_text(COMMON + text)
    return sweep


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_scheduler_prunes_what_falls_behind_and_a_resume_leaves_it(new_sweep: NewSweep, scheduler: str) -> None:
    sweep = page(new_sweep(), f"{SEARCH}scheduler: {scheduler}\n")
    done = sweep.run("--json")
    assert done.returncode == 0, done.stderr
    rows = sweep.rows()
    pruned = {key: row for key, row in rows.items() if row.state == "PRUNED"}
    assert pruned
    assert {row.state for row in rows.values()} == {"DONE", "PRUNED"}
    told = json.loads(done.stdout)
    assert told["best"]["id"] not in pruned
    counts = dict(sweep.all("SELECT key, COUNT(*) FROM epochs WHERE slot = 'scan' GROUP BY key"))
    first = 2 if "median" in scheduler else 1
    for key, row in pruned.items():
        assert first <= counts[key] < 6
        assert f"after epoch {counts[key]} of scan" in row.error
        assert "scan/selection_loss" in row.metrics
        assert list((sweep.storage / "stages" / ".progress").glob("scan-*"))
    assert any("pruned" in line for line in (sweep.storage / "tiny" / "report.md").read_text().splitlines())
    if "asha" not in scheduler:
        return  # once is enough for what no rule decides
    sessions = sweep.ray_sessions
    assert sweep.run().returncode == 0
    assert (sweep.rows(), sweep.ray_sessions) == (rows, sessions)


def test_outcomes_other_than_done_are_told_apart_and_never_best(new_sweep: NewSweep) -> None:
    rows = "ablate:\n  good: {scan.epochs: 2}\n  wild: {scan.epochs: 2, scan.optimizer.lr: 1.0e+30}\n"
    guard = "guard: {collapse: {min_entropy_share: 1.0, patience_epochs: 3}}\n"
    sweep = page(new_sweep(), rows + "  collapsed: {scan.epochs: 4}\n" + guard)
    done = sweep.run("--json")
    assert done.returncode == 1, done.stderr
    found = {row.setting: row for row in sweep.rows().values() if row.kind == "trial"}
    assert [found[number].state for number in range(3)] == ["DONE", "FAILED", "COLLAPSED"]
    assert found[1].error.startswith("Diverged: scan: ")
    assert "in epoch " in found[1].error
    assert found[2].error.endswith("is below 1 for 3 epochs, after epoch 3 of 4")
    told = json.loads(done.stdout)
    assert [trial["status"] for trial in told["trials"]] == ["done", "failed", "collapsed"]
    assert told["best"]["variant"] == "good"


def test_time_and_failures_have_limits_and_a_laxer_file_goes_on(new_sweep: NewSweep) -> None:
    sweep = page(new_sweep(), SEARCH + "time_limit: 0.001\nmax_failures: 1\n")
    done = sweep.run()
    assert done.returncode == 1, done.stderr
    assert "Stopped after 1 failed trials (max_failures: 1); 2 were not started." in done.stderr
    errors = [row.error for row in sweep.rows().values() if row.state == "FAILED"]
    assert len(errors) == 1
    assert re.match(r"TimeLimit: scan: time limit: \d+ s spent of 0.001 s, after epoch 1 of 6", errors[0])
    sweep.page.write_text(COMMON + SEARCH.replace("1.0e-5]", "1.0e-5, 0.001]"))
    again = sweep.run()
    assert again.returncode == 0, again.stderr
    assert len(sweep.trials()) == 4  # the failed, the waiting, and one of the wider range
    kept = sweep.rows()
    more = sweep.run("--seeds", "0,1")
    assert more.returncode == 0, more.stderr
    assert len(sweep.trials()) == 8
    assert {key: sweep.rows()[key] for key in kept} == kept
    refused = sweep.run("--set", "scan.epochs=7")
    assert refused.returncode == 2
    assert "fixed.scan.epochs was 6 and is now 7" in refused.stderr
