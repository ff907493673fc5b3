"""A share of the labels: how many images every probe that trains is taught with, which, and what the others change."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from trainables import pipeline, registry, settings
from trainables.interfaces import DataShape, ImageData, Result, Split
from trainables.nets import backbones
from trainables.runner.runtime import SingleProcess, StageRuntime
from trainables.settings import build
from trainables.stages import finetune_probe, untrained
from trainables.training import probing
from trainables.vector_search.faiss_search import FaissSearch

Train = Callable[..., Any]
TRAINED = [name for name in registry.probes() if "epochs" in settings.rules(pipeline.load(name).Config)]
SHARES = {0.001: 1, 0.1: 4, 0.26: 10, 1.0: 40}
"""Share -> images of each of the three classes, of which there are 40: at least one, and rounded."""


@pytest.fixture(scope="module")
def probed() -> Result:
    backbone = backbones.build("small", in_channels=1, image_size_px=8, seed=0)
    return Result(weights={"backbone": backbone.state_dict()}, facts={"network": "small"})


def runtime(name: str, seed: int = 0) -> StageRuntime:
    return StageRuntime(SingleProcess(torch.device("cpu")), name, seed, FaissSearch(1))


def config(name: str, share: float) -> Any:
    stage = pipeline.load(name)
    return build(stage.Config, {**stage.TINY, "batch_size": 3, "label_share": share})


def test_the_probes_that_train_were_found() -> None:
    assert {"finetune_probe", "linear_probe", "mlp_probe"} <= set(TRAINED)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", TRAINED)
def test_the_number_of_images_learned_from_is_reported(
    train: Train, data: ImageData, probed: Result, name: str, share: float
) -> None:
    result = train(pipeline.load(name), config(name, share), data, {"probed": probed}).result
    assert result.metrics["num_labeled"] == 3 * SHARES[share]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("known", [120, 50, 3])
def test_each_class_gives_its_share_of_its_labeled_images(data: ImageData, known: int, share: float) -> None:
    labels_N = data.train.labels_N.where(torch.arange(120) < known, -1)
    split = Split(data.train.images_NCHW, labels_N)
    rows_N = probing.drawn_rows(split, share, runtime("linear_probe"))
    assert rows_N.tolist() == sorted(set(rows_N.tolist())) and (labels_N[rows_N] >= 0).all()
    sizes = labels_N[labels_N >= 0].bincount(minlength=3).tolist()
    assert labels_N[rows_N].bincount(minlength=3).tolist() == [max(1, round(share * size)) for size in sizes]


def test_a_class_without_a_labeled_image_gives_none(data: ImageData) -> None:
    split = Split(data.train.images_NCHW, data.train.labels_N.where(data.train.labels_N != 1, -1))
    drawn_N = probing.drawn_rows(split, 0.05, runtime("linear_probe"))
    assert split.labels_N[drawn_N].bincount(minlength=3).tolist() == [2, 0, 2]


def test_the_seed_decides_which_images(data: ImageData) -> None:
    one, same, other = (
        probing.drawn_rows(data.train, 0.25, runtime("linear_probe", seed)).tolist() for seed in (0, 0, 1)
    )
    assert one == same != other


@pytest.mark.parametrize("name", TRAINED)
def test_images_that_are_not_drawn_teach_nothing(train: Train, data: ImageData, probed: Result, name: str) -> None:
    stage: Any = pipeline.load(name)
    rows_N = probing.drawn_rows(data.train, 0.25, runtime(stage.NAMESPACE))
    noise_NCHW = torch.randint(0, 256, data.train.images_NCHW.shape, generator=torch.Generator().manual_seed(5))
    noise_NCHW = noise_NCHW.to(torch.uint8)
    noise_NCHW[rows_N] = data.train.images_NCHW[rows_N]
    noisy = replace(data, train=Split(noise_NCHW, data.train.labels_N))

    def numbers(share: float, images: ImageData) -> dict[str, float]:
        found = train(stage, config(name, share), images, {"probed": probed}).result.metrics
        return {key: value for key, value in found.items() if key != "epoch_seconds"}

    assert numbers(0.25, data) == numbers(0.25, noisy)
    assert numbers(1.0, data) != numbers(1.0, noisy)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01])
@pytest.mark.parametrize("name", TRAINED)
def test_what_is_no_share_is_refused(name: str, share: float) -> None:
    with pytest.raises(settings.SettingsError, match="label_share must be above 0 and at most 1"):
        build(pipeline.load(name).Config, {"label_share": share})


@pytest.mark.parametrize("sizes", [(), (400, 600)])
@pytest.mark.parametrize("name", TRAINED)
def test_a_batch_above_the_images_that_are_drawn_is_named(name: str, sizes: tuple[int, ...]) -> None:
    stage: Any = pipeline.load(name)
    shape = DataShape(1000, 50, 2, 1, 8, class_sizes=sizes)
    few, enough = (build(stage.Config, {"label_share": 0.01, "batch_size": size}) for size in (11, 10))
    assert dict(stage.limits(few, shape)) == {
        "batch_size": "batch_size must be at most the number of images that label_share 0.01 draws (10), but is 11"
    }
    assert not dict(stage.limits(enough, shape))


def test_after_first_weights_fine_tuning_is_supervised_training(train: Train, data: ImageData) -> None:
    first = train(untrained, untrained.Config(network="small"), data).result
    changes = {"augmentation": "affine", "batch_size": 40, "epochs": 4, "optimizer.lr": 0.02, "optimizer.head_lr": 0.1}
    judged = train(finetune_probe, build(finetune_probe.Config, changes), data, {"probed": first}).result.metrics
    assert judged["output_acc"] > 0.9 and judged["output_nmi"] > 0.7 and judged["output_ari"] > 0.7
    assert "output_top5" not in judged  # of three classes


def test_predictions_are_judged_without_mapping_them(train: Train, data: ImageData, probed: Result) -> None:
    # Every class taken for the next one: no image is right, but the groups are.
    changes = {"augmentation": "affine", "batch_size": 40, "epochs": 4, "optimizer.lr": 0.02, "optimizer.head_lr": 0.1}
    shifted = replace(data, eval=Split(data.eval.images_NCHW, (data.eval.labels_N + 1) % 3))
    judged = train(finetune_probe, build(finetune_probe.Config, changes), shifted, {"probed": probed}).result.metrics
    assert judged["output_acc"] < 0.1 and judged["output_nmi"] > 0.7 and judged["output_ari"] > 0.7


def test_the_five_most_probable_classes_are_counted_where_there_are_five(
    train: Train, data: ImageData, probed: Result
) -> None:
    named = replace(data, class_names=("top", "left", "middle", "a", "b", "c"))
    judged = train(finetune_probe, config("finetune_probe", 1.0), named, {"probed": probed}).result.metrics
    assert judged["output_acc"] <= judged["output_top5"] <= 1
