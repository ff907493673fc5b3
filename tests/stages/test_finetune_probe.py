"""Fine-tuning with labels: it moves the backbone, resumes to the last bit, and refuses what it cannot do."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from trainables.interfaces import ImageData, Result, Split
from trainables.maths import metrics
from trainables.nets import backbones
from trainables.runner.runtime import SingleProcess, StageRuntime
from trainables.settings import build
from trainables.stages import finetune_probe
from trainables.stages.finetune_probe import Config
from trainables.vector_search.faiss_search import FaissSearch

Train = Callable[..., Any]
SETTINGS = build(
    Config, {"augmentation": "affine", "batch_size": 40, "epochs": 3, "optimizer.lr": 0.01, "optimizer.head_lr": 0.1}
)


@pytest.fixture(scope="module")
def probed() -> Result:
    backbone = backbones.build("small", in_channels=1, image_size_px=8, seed=0)
    return Result(weights={"backbone": copy.deepcopy(backbone.state_dict())}, facts={"network": "small"})


def test_the_whole_network_learns_the_patterns(train: Train, data: ImageData, probed: Result) -> None:
    result = train(finetune_probe, SETTINGS, data, {"probed": probed}).result
    assert result.metrics["output_acc"] > 0.9 and result.metrics["output_train_acc"] > 0.9
    before, after = probed.weights["backbone"], result.weights["backbone"]
    assert not torch.equal(before["layers.0.weight"], after["layers.0.weight"])


def test_shuffled_labels_are_not_right(train: Train, data: ImageData, probed: Result) -> None:
    shuffled = replace(data, eval=Split(data.eval.images_NCHW, data.eval.labels_N.roll(1)))
    assert train(finetune_probe, SETTINGS, shuffled, {"probed": probed}).result.metrics["output_acc"] < 0.2


def test_a_resumed_run_equals_an_uninterrupted_one_to_the_last_bit(
    train: Train, data: ImageData, probed: Result
) -> None:
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), "finetune_probe", 0, FaissSearch(1))
    saved = copy.deepcopy(next(finetune_probe.train(SETTINGS, data, {"probed": probed}, runtime)).state())
    whole, rest = (train(finetune_probe, SETTINGS, data, {"probed": probed}, saved=each) for each in (None, saved))
    assert rest.metrics == whole.metrics[1:]
    assert all(
        torch.equal(rest.result.weights["head"][key], each) for key, each in whole.result.weights["head"].items()
    )


def test_both_rates_fall_along_a_cosine(train: Train, data: ImageData, probed: Result) -> None:
    rates = [
        each["lr"] for each in train(finetune_probe, replace(SETTINGS, epochs=2), data, {"probed": probed}).metrics
    ]
    assert rates == pytest.approx([0.01, 0.005])


def test_images_without_a_label_are_left_out(train: Train, data: ImageData, probed: Result) -> None:
    labels_N = data.train.labels_N.clone()
    labels_N[60:] = -1
    half = replace(data, train=Split(data.train.images_NCHW, labels_N))
    assert train(finetune_probe, SETTINGS, half, {"probed": probed}).metrics[0]["loss"] > 0
    none = replace(data, train=Split(data.train.images_NCHW, torch.full_like(labels_N, -1)))
    with pytest.raises(ValueError, match="a probe learns from labels, but no image of this data set has one"):
        train(finetune_probe, SETTINGS, none, {"probed": probed})


def test_every_number_of_it_is_known_to_look_at_labels() -> None:
    assert all(metrics.looks_at_labels(f"finetune_probe/{name}") for name in finetune_probe.METRICS)


def test_a_batch_above_the_data_set_is_named(data: ImageData) -> None:
    ((name, sentence),) = finetune_probe.limits(Config(batch_size=121), data.shape)
    assert name == "batch_size" and "120" in sentence and "121" in sentence
