"""SPC refinement on made-up patterns."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from trainables.interfaces import ImageData, Result
from trainables.maths import scan_loss
from trainables.runner.runtime import SingleProcess, StageRuntime
from trainables.settings import build
from trainables.stages import spc
from trainables.stages.spc import Config
from trainables.training import spc_mixing
from trainables.vector_search.faiss_search import FaissSearch

SMALL = {
    "strong_threshold": 0.4,
    "graph_neighbors": 5,
    "top_fraction_per_class": 0.05,
    "strong_augmentation": "affine",
    "weak_augmentation": "affine",
    "batch_size": 30,
    "labeled_batch_size": 10,
    "epochs": 2,
}


def trained(train: Callable[..., Any], data: ImageData, finished: dict[str, Result], **changes: Any) -> Any:
    return train(spc, build(Config, {**SMALL, **changes}), data, {slot: finished[slot] for slot in spc.INPUTS})


def test_the_strong_set_holds_the_leaders_of_each_class(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    # 5 % of 120 images lead each of 3 classes; all of them are SCAN's confident ones too.
    done = trained(train, data, finished)
    strong_N = done.result.arrays["strong_train"]
    scan_N = finished["scan"].arrays["probabilities_train"].argmax(1)
    assert np.bincount(scan_N[strong_N], minlength=3).tolist() == [6, 6, 6]


def test_a_strong_image_keeps_scan_s_label_whole(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    arrays = trained(train, data, finished, weak_label="lp_soft").result.arrays
    strong_N, scan_NC = arrays["strong_train"], finished["scan"].arrays["probabilities_train"]
    np.testing.assert_array_equal(arrays["targets_train"][strong_N], np.eye(3)[scan_NC[strong_N].argmax(1)])


def test_a_weak_image_can_keep_scan_s_own_prediction(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    arrays = trained(train, data, finished, weak_label="model_soft").result.arrays
    weak_N, scan_NC = ~arrays["strong_train"], finished["scan"].arrays["probabilities_train"]
    np.testing.assert_allclose(arrays["targets_train"][weak_N], scan_NC[weak_N], atol=1e-6)


def test_the_strong_set_of_the_first_epoch_stays(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    one, three = (trained(train, data, finished, epochs=epochs, **{"optimizer.lr": 0.5}) for epochs in (1, 3))
    np.testing.assert_array_equal(one.result.arrays["strong_train"], three.result.arrays["strong_train"])


def test_labels_propagate_from_the_strong_images_to_the_others_of_their_pattern(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    targets_NC = trained(train, data, finished).result.arrays["targets_train"]
    scan_N = finished["scan"].arrays["probabilities_train"].argmax(1)
    np.testing.assert_array_equal(targets_NC.argmax(1), scan_N)


def test_the_loss_adds_the_mixed_one_with_its_weight(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    for each in trained(train, data, finished, mixed_loss_weight=2.5).metrics:
        assert each["loss"] == pytest.approx(each["loss_strong"] + 2.5 * each["loss_mixed"], abs=1e-5)


def test_the_code_s_mixing_has_no_loss_of_the_strong_alone(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    for each in trained(train, data, finished, mix="code").metrics:
        assert (each["loss_strong"], each["loss_mixed"]) == (0.0, each["loss"])


def test_strong_images_come_in_whole_passes_one_after_another() -> None:
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), "spc", 0, FaissSearch(1), None)
    batches = spc_mixing.strong_batches(torch.arange(10, 17), 5, torch.Generator().manual_seed(0), runtime)
    rows = [row for batch in itertools.islice(batches, 7) for row in batch.rows_B.tolist()]
    # 7 batches of 5 are 5 passes over 7 images; a batch may lie in two of them.
    assert [sorted(rows[start : start + 7]) for start in range(0, 35, 7)] == [list(range(10, 17))] * 5
    assert rows[:7] != rows[7:14]


@pytest.mark.parametrize("split", ["train", "eval"])
def test_the_selection_loss_is_that_of_the_split_that_chooses(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result], split: str
) -> None:
    done = trained(train, data, finished, selection_split=split)
    rows_NC = torch.tensor(done.result.arrays[f"probabilities_{split}"])
    table_NK = torch.tensor(finished["neighbors"].arrays[f"neighbors_{split}"][:, :6])
    assert done.result.metrics["selection_loss"] == pytest.approx(scan_loss.selection_loss(rows_NC, table_NK), abs=1e-6)


def test_the_labels_of_each_epoch_are_held_against_scan_s(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    # The last third of the images bears a wrong true label, so two thirds of SCAN's labels are right.
    wrong_N = data.train.labels_N.clone()
    wrong_N[80:] = (wrong_N[80:] + 1) % 3
    labeled = replace(data, train=replace(data.train, labels_N=wrong_N))
    for epoch in trained(train, labeled, finished).metrics:
        assert epoch["scan_label_acc"] == epoch["label_acc"] == pytest.approx(2 / 3)
        strong, weak = epoch["strong_fraction"], 1 - epoch["strong_fraction"]
        assert strong * epoch["strong_acc"] + weak * epoch["weak_acc"] == pytest.approx(epoch["label_acc"])


def test_too_few_weak_images_are_named_with_the_settings_that_make_them(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    # Every third image leads one of three classes: all are strong.
    text = (
        "SPC epoch 1: only 0 of 120 images are weak, too few for a step; raise spc.strong_threshold or lower "
        "spc.top_fraction_per_class"
    )
    with pytest.raises(RuntimeError, match=text):
        trained(train, data, finished, strong_threshold=0.01, top_fraction_per_class=1.0)


def test_patterns_that_are_clustered_stay_so(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    assert trained(train, data, finished).result.metrics["acc"] == 1.0


@pytest.mark.parametrize(("num_augs", "refused"), [(1, set()), (2, {"compute.cuda_graphs"})])
def test_graphs_hold_one_draw_of_a_batch(data: ImageData, num_augs: int, refused: set[str]) -> None:
    graphs = {"compute.compiled": True, "compute.cuda_graphs": True, "num_augs": num_augs}
    assert set(dict(spc.limits(build(Config, {**SMALL, **graphs}), data.shape))) == refused
