"""SPC refinement on made-up patterns."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trainables.interfaces import ImageData, Result
from trainables.settings import build
from trainables.stages import spc
from trainables.stages.spc import Config

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
