"""Trials that each run in a worker group of their own."""

import json
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.slow

PAGE = """\
name: groups
method: kmeans
dataset: {name: digits, train_limit: 120, eval_limit: 60}
seeds: [0]
resources: {trial: {workers: 2, cpu: 0.5}}
fixed: {pretext.augmentation: affine, pretext.epochs: 2, pretext.batch_size: 60}
ablate:
  good: {pretext.optimizer.lr: 0.01}
  wild: {pretext.optimizer.lr: 1.0e+30}
"""


def test_two_workers_carry_a_trial_and_its_failure_is_told(new_sweep: Callable[..., Any]) -> None:
    sweep = new_sweep()
    sweep.page.write_text(PAGE)
    done = sweep.run("--json")
    assert done.returncode == 1, done.stderr
    good, wild = json.loads(done.stdout)["trials"]
    assert good["status"] == "done" and [stage["name"] for stage in good["stages"]] == ["simclr", "kmeans"]
    assert sweep.all(f"SELECT epoch FROM epochs WHERE key = '{good['id']}' ORDER BY epoch") == [(1,), (2,)]
    assert wild["status"] == "failed" and "Diverged: pretext: " in wild["error"]
