"""What holds for every pretext that trains: resuming, unlabeled images, results; and what is each one's own."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from trainables import pipeline
from trainables.interfaces import ImageData, Split
from trainables.nets import backbones, models, momentum
from trainables.runner.runtime import SingleProcess, StageRuntime
from trainables.settings import build
from trainables.stages import instdisc, moco, rotnet
from trainables.vector_search.faiss_search import FaissSearch

SMALL: dict[str, dict[str, Any]] = {
    "simclr": {"optimizer.lr": 0.1},
    "moco": {"queue_size": 100, "bn_splits": 4, "key_momentum": 0.9},
    "rotnet": {},
    "instdisc": {"negatives": 7},
}


def config(name: str, **changes: Any) -> Any:
    small = {"augmentation": "affine", "batch_size": 40, "epochs": 3, **SMALL[name], **changes}
    return build(pipeline.load(name).Config, small)


def unlabeled(data: ImageData) -> ImageData:
    more = Split(data.eval.images_NCHW, torch.full((len(data.eval),), -1))
    return replace(data, unlabeled=more)


@pytest.mark.parametrize("name", SMALL)
def test_resuming_in_the_middle_equals_an_uninterrupted_run(
    train: Callable[..., Any], data: ImageData, name: str
) -> None:
    stage, settings = pipeline.load(name), config(name)
    steps = stage.train(
        settings, data, {}, StageRuntime(SingleProcess(torch.device("cpu")), "pretext", 0, FaissSearch(1))
    )
    saved = copy.deepcopy(next(steps).state())
    whole, resumed = train(stage, settings, data), train(stage, settings, data, saved=saved)
    assert resumed.metrics == whole.metrics[1:]
    for space, array in whole.result.arrays.items():
        np.testing.assert_array_equal(resumed.result.arrays[space], array)


@pytest.mark.parametrize("name", SMALL)
def test_the_loss_falls(train: Callable[..., Any], data: ImageData, name: str) -> None:
    # MoCo's queue begins with random keys, which are easy to tell from; its alignment falls.
    key = "train_alignment" if name == "moco" else "loss"
    # The estimate of InstDisc rises first, since Z is that of a random memory; the full softmax only falls.
    changes = {"negatives": 0, "optimizer.lr": 0.1} if name == "instdisc" else {}
    found = [each[key] for each in train(pipeline.load(name), config(name, epochs=8, **changes), data).metrics]
    assert found[-1] < found[0]


@pytest.mark.parametrize("name", SMALL)
def test_unlabeled_images_are_trained_on_and_features_are_of_the_training_images_alone(
    train: Callable[..., Any], data: ImageData, name: str
) -> None:
    stage, settings = pipeline.load(name), config(name, epochs=1)
    without, with_them = train(stage, settings, data), train(stage, settings, unlabeled(data))
    assert without.metrics != with_them.metrics
    assert {len(array) for key, array in with_them.result.arrays.items() if key.endswith("train")} == {120}


@pytest.mark.parametrize("name", SMALL)
def test_a_result_has_features_of_every_space_it_names(train: Callable[..., Any], union: ImageData, name: str) -> None:
    stage: Any = pipeline.load(name)
    result = train(stage, config(name, epochs=1), union).result
    assert set(result.arrays) == {f"{space}_{part}" for space in stage.SPACES for part in ("train", "eval")}
    assert result.facts["mining_space"] in stage.SPACES
    for array in result.arrays.values():
        np.testing.assert_allclose(np.linalg.norm(array, axis=1), 1.0, rtol=1e-5)
    assert 0 <= result.metrics["knn_acc"] <= 1


@pytest.mark.parametrize("name", SMALL)
def test_labels_do_not_enter_training(train: Callable[..., Any], data: ImageData, name: str) -> None:
    blind = replace(data, train=Split(data.train.images_NCHW, torch.full((120,), -1)))
    seen, unseen = (train(pipeline.load(name), config(name, epochs=1), each) for each in (data, blind))
    assert seen.metrics == unseen.metrics
    assert "knn_acc" in seen.result.metrics and "knn_acc" not in unseen.result.metrics


def test_rotations_are_exact_and_labeled_by_quarter_turns() -> None:
    images_BCHW = torch.arange(8.0).reshape(2, 1, 2, 2)
    all_BCHW, directions_B = rotnet.turned(images_BCHW, 4)
    assert directions_B.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    # Image 0 is 0 1 / 2 3; counter-clockwise by a quarter 1 3 / 0 2, by a half 3 2 / 1 0.
    assert [all_BCHW[row].flatten().tolist() for row in (0, 2, 4, 6)] == [
        [0, 1, 2, 3],
        [1, 3, 0, 2],
        [3, 2, 1, 0],
        [2, 0, 3, 1],
    ]
    halves_BCHW, directions_B = rotnet.turned(images_BCHW, 2)
    assert torch.equal(halves_BCHW[2:], images_BCHW.flip(2, 3)) and directions_B.tolist() == [0, 0, 1, 1]


def test_rotations_are_learned(train: Callable[..., Any], data: ImageData) -> None:
    settings = config("rotnet", epochs=8, **{"views.affine_scale": 0.0})
    found = [each["rotations_right"] for each in train(rotnet, settings, data).metrics]
    assert found[-1] > 0.5


def test_rotnet_has_no_projection_head_to_mine_in(data: ImageData) -> None:
    settings = pipeline.configs("scan", "rotnet", {"neighbors.mining_space": "head"})
    found = dict(pipeline.limits("scan", "rotnet", settings, replace(data.shape, num_train=1000)))
    assert found["neighbors.mining_space"] == (
        "neighbors.mining_space is head, but the pretext rotnet leaves features of backbone; write auto"
    )


def test_the_constant_of_nce_is_measured_once_and_saved(data: ImageData) -> None:
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), "pretext", 0, FaissSearch(1))
    steps = instdisc.train(config("instdisc"), data, {}, runtime)
    first, second = (float(next(steps).state()["memory"]["constant"]) for _ in range(2))
    assert first == second > 0


def test_shuffled_keys_come_back_in_the_order_of_their_images() -> None:
    backbone = backbones.build("small", in_channels=1, image_size_px=8, seed=0)
    encoder = models.ContrastiveModel(backbone, 4).eval()
    views_BCHW = torch.rand(6, 1, 8, 8)
    order_T = torch.tensor([3, 0, 5, 1, 4, 2])
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), "pretext", 0, FaissSearch(1))
    with torch.no_grad():
        torch.testing.assert_close(
            moco.shuffled_keys(encoder, views_BCHW, order_T, runtime), encoder(views_BCHW), rtol=1e-5, atol=1e-6
        )


def test_shuffling_deals_images_to_other_parts_of_the_batch_norm() -> None:
    backbone = backbones.build("small", in_channels=1, image_size_px=8, seed=0)
    encoder = models.ContrastiveModel(backbone, 4).train()
    momentum.split_batch_norms(encoder, 2)
    views_BCHW = torch.rand(6, 1, 8, 8)
    order_T = torch.tensor([3, 0, 5, 1, 4, 2])
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), "pretext", 0, FaissSearch(1))
    with torch.no_grad():
        expected = torch.empty(6, 4)
        expected[order_T] = encoder(views_BCHW[order_T])
        plain = encoder(views_BCHW)
    found = moco.shuffled_keys(encoder, views_BCHW, order_T, runtime)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, plain, atol=1e-3)


def test_a_queue_is_trimmed_to_whole_batches(data: ImageData) -> None:
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), "pretext", 0, FaissSearch(1))
    state = next(moco.train(config("moco"), data, {}, runtime)).state()
    # 100 keys hold two batches of 40; three batches went in, so the ring stands at the second.
    assert state["slow"]["queue.keys_QD"].shape == (80, 128)
    assert int(state["slow"]["queue.position"]) == 40


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"queue_size": 39}, "queue_size"), ({"bn_splits": 3}, "bn_splits"), ({"bn_splits": 40}, "bn_splits")],
)
def test_settings_of_moco_that_exclude_each_other_are_named(data: ImageData, changes: dict[str, int], key: str) -> None:
    assert list(dict(moco.limits(config("moco", **changes), data.shape))) == [key]
