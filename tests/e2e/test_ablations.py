"""The best setting of one study, taken apart in the next one on the same storage."""

import json
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.slow

NewSweep = Callable[..., Any]

FIXED = """\
method: scan
dataset: {name: digits, train_limit: 120, eval_limit: 60}
seeds: [0, 1]
objective: {metric: scan/selection_loss, mode: min}
resources: {trial: {cpu: 1}}
fixed:
  pretext.augmentation: affine
  pretext.batch_size: 60
  pretext.epochs: 1
  neighbors.num_neighbors: 20
  scan.augmentation: affine
  scan.batch_size: 60
  scan.epochs: 2
  selflabel.augmentation: affine
  selflabel.batch_size: 60
  selflabel.confidence_threshold: 0.11
  selflabel.epochs: 1
"""
WIDE = f"name: wide\n{FIXED}search: {{scan.optimizer.lr: [0.01, 0.001], scan.num_neighbors: [5, 10]}}\nsampler: grid\n"
APART = f"name: apart\n{FIXED}ablate: {{mode: leave_one_out, from: wide}}\n"


def test_the_best_setting_is_taken_apart_and_its_own_trials_are_not_run_again(new_sweep: NewSweep) -> None:
    sweep = new_sweep()
    sweep.page.write_text(APART)
    refused = sweep.run()
    assert refused.returncode == 2 and "ablate.from" in refused.stderr and "wide" in refused.stderr
    sweep.page.write_text(WIDE)
    wide = sweep.run("--json")
    assert wide.returncode == 0, wide.stderr
    best, searched = json.loads(wide.stdout)["best"]["params"], json.loads(wide.stdout)["trials"]
    assert len(searched) == 8
    sweep.page.write_text(APART)
    done = sweep.run()
    assert done.returncode == 0, done.stderr
    rows = sweep.trials()
    variants = dict(sweep.all("SELECT number, variant FROM settings WHERE launch = (SELECT MAX(id) FROM launches)"))
    assert set(variants.values()) == {"whole", "without scan.optimizer.lr", "without scan.num_neighbors"}
    whole = {row.seed: row.metrics for row in rows.values() if variants[row.setting] == "whole"}
    # The same numbers as where it was found; rows leave times out.
    found = {trial["seed"]: trial["metrics"] for trial in searched if trial["params"] == best}
    assert whole == {seed: {name: found[seed][name] for name in metrics} for seed, metrics in whole.items()}
    assert list(whole) == [0, 1] and all(len(metrics) > 10 for metrics in whole.values())
    again = sweep.run()
    assert again.returncode == 0 and sweep.trials() == rows
