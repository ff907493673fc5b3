"""The study that is disturbed, and what is asked of it afterwards."""

from typing import Any

from tests.chaos import history, views

STUDY, METRIC = "chaos", "spc/selection_loss"
PAGE = f"""\
name: {STUDY}
method: spc
dataset: {{name: digits, train_limit: 120, eval_limit: 60}}
seeds: [0]
fixed:
  pretext.augmentation: affine
  pretext.batch_size: 60
  pretext.epochs: 20
  neighbors.num_neighbors: 10
  scan.num_neighbors: 5
  scan.augmentation: affine
  scan.batch_size: 60
  scan.optimizer.lr: 0.003
  scan.epochs: 30
  spc.strong_augmentation: affine
  spc.weak_augmentation: affine
  spc.top_fraction_per_class: 0.03
  spc.graph_neighbors: 5
  spc.batch_size: 60
  spc.epochs: 2
search:
  spc.strong_threshold: {{uniform: [0.4, 0.9]}}
sampler: {{name: random, seed: 0}}
objective: {{metric: {METRIC}, mode: min}}
retries: 20
"""


def page(sweep: Any, trials: int, more: str = "") -> Any:
    sweep.page.write_text(f"{PAGE}trials: {trials}\n{more}")
    return sweep


def faults(sweep: Any, uri: str, best: views.View | None) -> list[str]:
    """What of I1 to I4 does not hold of a sweep that has ended."""
    events = history.read(sweep.diary)
    ledger = views.of_ledger(sweep.storage, STUDY, METRIC)
    others = [
        views.of_optuna(sweep.storage, STUDY),
        views.of_mlflow(uri, STUDY, METRIC),
        views.of_tables(sweep.storage, STUDY, METRIC),
    ]
    found = history.lost(events, views.done_keys(sweep.storage, STUDY)) + history.repeated(events)
    found += history.disagreements([ledger, *others])
    return found + (history.deviations(ledger, best) if best is not None else [])
