"""The probes: what they learn, what they never touch, and what they refuse."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from trainables import pipeline, registry
from trainables.interfaces import DataShape, ImageData, Result, Split
from trainables.nets import backbones, feature_maps
from trainables.runner.runtime import SingleProcess, StageRuntime
from trainables.settings import build
from trainables.stages import knn_probe, linear_probe, mlp_probe
from trainables.training import probing
from trainables.vector_search.faiss_search import FaissSearch

Train = Callable[..., Any]
PLAIN = {"batch_size": 60, "epochs": 4, "augmentation": "plain", "ten_crops": False, "optimizer.lr": 0.05}


@pytest.fixture(scope="module")
def probed() -> Result:
    """An untrained network: random features tell three clear patterns apart well enough."""
    backbone = backbones.build("small", in_channels=1, image_size_px=8, seed=0)
    return Result(weights={"backbone": backbone.state_dict()}, facts={"network": "small"})


def unlabeled(split: Split) -> Split:
    return Split(split.images_NCHW, torch.full_like(split.labels_N, -1))


def test_every_layer_learns_the_patterns_in_one_pass(train: Train, data: ImageData, probed: Result) -> None:
    result = train(linear_probe, build(linear_probe.Config, PLAIN), data, {"probed": probed}).result
    assert result.facts["layers"] == ["conv1", "conv2", "conv3", "output"]
    for layer in result.facts["layers"]:
        assert result.metrics[f"{layer}_acc"] > 0.9


def test_shuffled_labels_are_not_learned(train: Train, data: ImageData, probed: Result) -> None:
    shuffled = replace(data, eval=Split(data.eval.images_NCHW, data.eval.labels_N.roll(1)))
    result = train(linear_probe, build(linear_probe.Config, PLAIN), shuffled, {"probed": probed}).result
    assert result.metrics["conv2_acc"] < 0.2


def test_a_head_does_not_depend_on_the_other_layers(train: Train, data: ImageData, probed: Result) -> None:
    both = train(mlp_probe, mlp_probe.Config(batch_size=60, epochs=2, dropout=0.0), data, {"probed": probed})
    original = mlp_probe.LAYERS
    try:
        mlp_probe.LAYERS = ("last_conv",)  # type: ignore[assignment]
        alone = train(mlp_probe, mlp_probe.Config(batch_size=60, epochs=2, dropout=0.0), data, {"probed": probed})
    finally:
        mlp_probe.LAYERS = original
    key = "last_conv_train_acc"
    assert [each[key] for each in alone.metrics] == [each[key] for each in both.metrics]


@pytest.mark.parametrize("name", ["linear_probe", "mlp_probe"])
def test_the_backbone_stays_as_it_was(train: Train, data: ImageData, probed: Result, name: str) -> None:
    before = {key: value.clone() for key, value in probed.weights["backbone"].items()}
    stage: Any = pipeline.load(name)
    train(stage, stage.Config(batch_size=60, epochs=1), data, {"probed": probed})
    assert all(torch.equal(before[key], value) for key, value in probed.weights["backbone"].items())
    frozen = probing.frozen(probed, data, StageRuntime(SingleProcess(torch.device("cpu")), name, 0, FaissSearch(1)))
    assert not frozen.training and not any(each.requires_grad for each in frozen.parameters())


@pytest.mark.parametrize("name", ["linear_probe", "mlp_probe"])
def test_resumed_in_the_middle_it_ends_on_the_same_bits(
    train: Train, data: ImageData, probed: Result, name: str
) -> None:
    stage: Any = pipeline.load(name)
    settings, inputs = stage.Config(batch_size=50, epochs=3), {"probed": probed}
    whole = train(stage, settings, data, inputs)
    steps = stage.train(
        settings, data, inputs, StageRuntime(SingleProcess(torch.device("cpu")), name, 0, FaissSearch(1))
    )
    buffer = io.BytesIO()
    torch.save(dict(next(steps).state()), buffer)
    buffer.seek(0)
    rest = train(stage, settings, data, inputs, saved=torch.load(buffer, weights_only=True))
    assert rest.metrics == whole.metrics[1:]
    for key, value in whole.result.weights["heads"].items():
        assert torch.equal(rest.result.weights["heads"][key], value)


def test_the_rate_falls_with_the_root_of_the_steps(train: Train, data: ImageData, probed: Result) -> None:
    # Two steps an epoch, so that the second epoch's last step is number 3: lr / sqrt(1 + lr * decay * 3).
    settings = build(linear_probe.Config, {**PLAIN, "epochs": 2, "optimizer.lr": 1.0, "optimizer.weight_decay": 1.0})
    assert train(linear_probe, settings, data, {"probed": probed}).metrics[1]["lr"] == pytest.approx(0.5)


def test_the_pooled_maps_of_alexnet_have_the_published_widths() -> None:
    shapes = feature_maps.shapes("alexnet_dc", DataShape(9, 9, 10, 3, 224), True)
    widths = {}
    for layer in feature_maps.CONVOLUTIONS:
        head = linear_probe._head("alexnet_dc", layer, shapes[layer], 10)
        widths[layer] = head[:2](torch.zeros(1, *shapes[layer])).shape[1]
        assert head(torch.zeros(1, *shapes[layer])).shape == (1, 10)
    assert list(widths.values()) == [9600, 9216, 9600, 9600, 9216]


def test_ten_crops_are_four_corners_and_the_middle_and_their_mirror_images() -> None:
    crops = probing._ten_crops(256)
    assert [crop[:2] for crop, _ in crops[:5]] == [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)]
    assert {crop[2:] for crop, _ in crops} == {(224, 224)}
    assert [mirrored for _, mirrored in crops] == [False] * 5 + [True] * 5


def test_random_crops_stay_inside_and_reach_both_ends() -> None:
    from trainables.data.batch_random import BatchRandom

    crops_B4 = probing._random_crops(BatchRandom(torch.Generator().manual_seed(0), 200), 16)
    assert (crops_B4[:, 2:] == 14).all()
    assert crops_B4[:, :2].unique().tolist() == [0, 1, 2]


def test_ten_crops_vote_with_their_mean_probability(data: ImageData, probed: Result) -> None:
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), "linear_probe", 0, FaissSearch(1))
    backbone = probing.frozen(probed, data, runtime)
    votes = iter([[0.9, 0.1, 0.0]] + [[0.4, 0.6, 0.0]] * 9)

    class Fixed(torch.nn.Module):
        def forward(self, maps: Any) -> torch.Tensor:
            row = torch.tensor(next(votes)).clamp(min=1e-9).log()
            return row.expand(1, len(maps["output"]), 3)

    # Nine of ten crops say class 1, and the mean is (.45, .55, 0): a third of the images are of class 1.
    probe = probing.Probe(backbone, Fixed(), ("output",), data, runtime, "plain")
    found = probing.accuracies(probe, probe.heads, 60, ten_crops=True)
    assert found == {"output_acc": pytest.approx(1 / 3)}


@pytest.mark.parametrize("name", registry.probes())
def test_images_without_labels_are_left_out_and_none_at_all_is_refused(
    train: Train, data: ImageData, probed: Result, name: str
) -> None:
    stage: Any = pipeline.load(name)
    settings = build(stage.Config, ({} if name == "knn_probe" else {"batch_size": 60, "epochs": 1}))
    half_N = data.train.labels_N.where(torch.arange(120) % 2 == 0, -1)
    half = replace(data, train=Split(data.train.images_NCHW, half_N))
    assert train(stage, settings, half, {"probed": probed}).result.metrics
    with pytest.raises(ValueError, match="a probe learns from labels, but no image of this data set has one"):
        train(stage, settings, replace(data, train=unlabeled(data.train)), {"probed": probed})


@pytest.mark.parametrize("name", registry.probes())
def test_a_stage_without_a_backbone_cannot_be_probed(train: Train, data: ImageData, name: str) -> None:
    stage: Any = pipeline.load(name)
    with pytest.raises(ValueError, match="left no backbone behind"):
        train(stage, stage.Config(), data, {"probed": Result()})


def test_a_network_behind_sobel_is_rebuilt_with_it(data: ImageData) -> None:
    backbone = backbones.build("small", in_channels=1, image_size_px=8, seed=0, sobel=True)
    probed = Result(weights={"backbone": backbone.state_dict()}, facts={"network": "small", "sobel": True})
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), "knn_probe", 0, FaissSearch(1))
    assert probing.frozen(probed, data, runtime).sobel


def test_neighbors_vote_right_on_clear_patterns(train: Train, data: ImageData, probed: Result) -> None:
    result = train(knn_probe, knn_probe.Config(num_neighbors=5), data, {"probed": probed}).result
    assert result.metrics["knn_acc"] > 0.95


def test_an_image_does_not_vote_for_itself(train: Train, union: ImageData, probed: Result) -> None:
    # With one neighbor and random labels, an image that saw itself would always be right.
    labels_N = torch.tensor(np.random.default_rng(0).integers(0, 3, 120))
    random = Split(union.train.images_NCHW, labels_N)
    settings = knn_probe.Config(num_neighbors=1)
    found = train(knn_probe, settings, replace(union, train=random, eval=random), {"probed": probed}).result
    assert found.metrics["knn_acc"] < 0.6


def test_what_the_data_set_cannot_carry() -> None:
    shape = DataShape(100, 50, 3, 1, 8)
    assert "at most the number of training images (100)" in dict(
        linear_probe.limits(linear_probe.Config(), shape)
    )["batch_size"]  # fmt: skip
    assert "batch_size" in dict(mlp_probe.limits(mlp_probe.Config(), shape))
    assert "num_neighbors" in dict(knn_probe.limits(knn_probe.Config(num_neighbors=100), shape))
