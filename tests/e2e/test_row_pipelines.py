"""A sweep whose rows have different pretexts and methods."""

import json
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.slow

PAGE = """\
name: pipelines
method: scan
dataset: {name: digits, train_limit: 200, eval_limit: 100}
seeds: [0, 1]
fixed:
  pretext.batch_size: 100
  pretext.epochs: 1
  neighbors.num_neighbors: 10
  scan.num_neighbors: 5
  scan.augmentation: affine
  scan.batch_size: 100
  scan.epochs: 1
  selflabel.confidence_threshold: 0.01
  selflabel.batch_size: 100
  selflabel.epochs: 1
ablate:
  "RotNet + k-means": {pretext: rotnet, method: kmeans}
  "RotNet + SCAN":    {pretext: rotnet}
  "SimCLR + k-means": {method: kmeans}
  "SimCLR + SCAN":    {}
"""


def test_rows_share_each_pretext_and_a_rerun_does_nothing(new_sweep: Callable[..., Any]) -> None:
    sweep = new_sweep()
    sweep.page.write_text(PAGE)
    done = sweep.run()
    assert done.returncode == 0, done.stderr
    computed = [
        stage["name"]
        for (text,) in sweep.all("SELECT stages FROM trials")
        for stage in json.loads(text)
        if not stage["cached"]
    ]
    counts = {name: computed.count(name) for name in ("rotnet", "simclr", "kmeans", "selflabel")}
    assert counts == {"rotnet": 2, "simclr": 2, "kmeans": 4, "selflabel": 4}
    assert len(sweep.trials()) == 4 * 2
    rows, sessions = sweep.rows(), sweep.ray_sessions
    again = sweep.run()
    assert again.returncode == 0, again.stderr
    assert (sweep.rows(), sweep.ray_sessions) == (rows, sessions)
