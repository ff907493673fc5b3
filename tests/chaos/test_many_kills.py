"""Drivers that are killed again and again, at moments drawn by a seed: each trial is acknowledged once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import history, views
from trainables import event_log

ROOT = Path(__file__).resolve().parents[2]
STUDY, METRIC = "killed", "spc/selection_loss"
PAGE = f"""\
name: {STUDY}
method: spc
dataset: {{name: digits, train_limit: 200, eval_limit: 100}}
fixed:
  pretext.augmentation: affine
  spc.top_fraction_per_class: 0.02
search:
  spc.strong_threshold: {{uniform: [0.5, 0.99]}}
sampler: {{name: random, seed: 0}}
objective: {{metric: {METRIC}, mode: min}}
"""


def driven(folder: Path, trials: int, kills: int) -> Path:
    """The storage of a study of no-op trials whose driver was killed so often."""
    folder.mkdir()
    page = folder / "page.yaml"
    page.write_text(f"{PAGE}trials: {trials}\n")
    command = [sys.executable, "-m", "tests.chaos.driver", str(page), str(folder), "--kills", str(kills)]
    environment = os.environ | {event_log.VARIABLE: str(folder / "diary"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, input="go\n", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("trials", "kills"), [(60, 8), pytest.param(1_000, 200, marks=pytest.mark.chaos)])
def test_a_driver_killed_at_random_loses_and_repeats_nothing(tmp_path: Path, trials: int, kills: int) -> None:
    calm, storage = driven(tmp_path / "calm", trials, 1), driven(tmp_path / "stormy", trials, kills)
    events = history.read(storage / "diary")
    ledger = views.of_ledger(storage, STUDY, METRIC)
    assert len(ledger.done) == trials
    assert history.lost(events, views.done_keys(storage, STUDY)) + history.repeated(events) == []
    assert history.disagreements([ledger, views.of_optuna(storage, STUDY)]) == []
    assert history.deviations(ledger, views.of_ledger(calm, STUDY, METRIC)) == []
    interrupted = [each for each in events if each.event == history.START]
    print(f"{len(interrupted)} starts of {trials} trials, {kills} kills")
