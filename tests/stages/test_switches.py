"""Every choice and switch of every stage's Config trains at least one epoch."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch

from trainables import pipeline, registry, settings
from trainables.interfaces import ImageData, Result
from trainables.nets import precision
from trainables.settings import build

WITHOUT_TRAINING = {"checkpoint"}
"""It reads a file; its settings have tests of their own."""
STAGES = [name for name in registry.names() if name not in WITHOUT_TRAINING]

# Numbers that switch something on or off, beside the choices.
EXTRA: list[tuple[str, str, settings.Plain]] = [
    ("moco", "bn_splits", 1),
    ("instdisc", "negatives", 9),
    ("kmeans", "num_clusters", 5),
    ("dccm", "num_clusters", 5),
    ("dccm", "mi_loss_weight", 0.0),
    ("dccm", "consistency_loss_weight", 10.0),
    ("scan", "num_neighbors", 0),
    ("scan", "num_clusters", 5),
    ("scan", "num_heads", 3),
    ("scan", "entropy_weight", 0.0),
    ("scan", "class_prior", "0.5,0.3,0.2"),
    ("scan", "views.cutout_max_length", 3),
    ("selflabel", "ema_decay", 0.0),
    ("deepcluster", "num_clusters", 7),
    ("deepcluster", "clustering.pca_dim", 0),
    ("deepcluster", "epochs_between_reassignments", 0.5),
    ("deepcluster", "epochs_between_reassignments", 1.7),
    ("uad", "uncertainty_offset", 0.0),
    ("uad", "low_level_channels", 32),
    ("mlp_probe", "dropout", 0.0),
    ("knn_probe", "num_neighbors", 1),
    ("autoencoder", "embed_dim", 3),
    ("dec", "num_clusters", 5),
    ("dec", "target_update_interval", 1),
    ("dec", "reconstruction_weight", 1.0),
    ("dec", "an.start_epoch", 1),
    ("scan", "an.start_epoch", 1),
    ("swav", "views.num_small_crops", 0),
    ("swav", "freeze_iterations", 2),
    ("swav", "sinkhorn_iterations", 1),
    ("simgcd", "known_classes", 3),
    ("simgcd", "num_clusters", 5),
    ("simgcd", "teacher_warmup_epochs", 0),
    ("simgcd", "sup_weight", 0.0),
    ("simgcd", "sup_weight", 1.0),
    ("simgcd", "memax_weight", 0.0),
    ("simgcd", "an.start_epoch", 1),
    ("spc", "num_augs", 3),
    ("spc", "propagation_decay", 0.0),
    ("spc", "mixed_loss_weight", 0.0),
    ("spc", "optimizer.momentum", 0.0),
]


@dataclass(frozen=True)
class Case:
    """One value of one setting, with what it needs to count."""

    stage: str
    name: str
    value: settings.Plain

    @property
    def changes(self) -> dict[str, settings.Plain]:
        rule = settings.rules(pipeline.load(self.stage).Config)[self.name]
        needed = {other: values[0] for other, values in rule.when.items()}
        return {**pipeline.load(self.stage).TINY, **needed, self.name: self.value}

    def __str__(self) -> str:
        return f"{self.stage}.{self.name}={self.value}"


def cases() -> list[Case]:
    found = [Case(*each) for each in EXTRA]
    for stage in STAGES:
        config = pipeline.load(stage).Config
        for name, rule in settings.rules(config).items():
            values = (False, True) if settings.kind_of(config, name) is bool else rule.choices
            found += [Case(stage, name, value) for value in values]
    return found


def test_the_cases_cover_every_stage() -> None:
    named = {case.stage for case in cases()}
    assert {name for names in pipeline.METHODS.values() for name in names} <= named
    assert named == set(STAGES)
    assert len(cases()) > 50


@pytest.mark.parametrize("case", cases(), ids=str)
def test_every_switch_trains(
    train: Callable[..., Any], finished: dict[str, Result], data: ImageData, case: Case
) -> None:
    if case.name == "compute.compiled" and case.value and not precision.has_compiler():
        pytest.skip("needs a C++ compiler")
    if case.name == "compute.cuda_graphs" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    stage: ModuleType | Any = pipeline.load(case.stage)
    config = build(stage.Config, case.changes)
    refused = dict(stage.limits(config, data.shape))
    if refused:
        # A network for larger images: the data set's size forbids it before anything starts.
        assert set(refused) == {case.name}
        return
    starts = {**finished, "pretext": finished["autoencoder"]} if case.stage == "dec" else finished
    done = train(stage, config, data, {slot: starts[slot] for slot in stage.INPUTS})
    reported = set(done.result.metrics) | {key for each in done.epochs for key in each.metrics}
    assert reported <= set(stage.METRICS)
    alone = 3 if getattr(config, "pretraining", "") == "layerwise" else 0  # an epoch for each layer of 64-64-10
    assert len(done.epochs) == getattr(config, "epochs", 0) + alone
