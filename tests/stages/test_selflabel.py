"""SCAN self-labeling on made-up patterns."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from trainables.interfaces import EndsTrial, ImageData, Result
from trainables.settings import build
from trainables.stages import selflabel
from trainables.stages.selflabel import Config


def trained(train: Callable[..., Any], data: ImageData, finished: dict[str, Result], **changes: Any) -> Any:
    small = {"augmentation": "affine", "batch_size": 60, "epochs": 2, "confidence_threshold": 0.5, **changes}
    return train(selflabel, build(Config, small), data, {slot: finished[slot] for slot in selflabel.INPUTS})


def parameters(result: Result) -> dict[str, torch.Tensor]:
    """Weights without the batch norms' statistics."""
    return {
        f"{part}.{name}": value
        for part, weights in result.weights.items()
        for name, value in weights.items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    }


def test_a_stage_without_a_confident_image_says_what_to_change(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    text = (
        "self-labeling epoch 1: no image is confident above 0.999999; lower selflabel.confidence_threshold or train "
        "scan longer"
    )
    with pytest.raises(EndsTrial, match=text):
        trained(train, data, finished, confidence_threshold=0.999999)


def test_an_average_written_over_the_student_is_a_smaller_learning_rate(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    # methods.md, golden numbers: ema_mode overwrite with decay a and rate lr is SGD with lr (1 - a), momentum included.
    sgd = {"optimizer.name": "sgd", "optimizer.momentum": 0.9, "optimizer.weight_decay": 0.0}
    over = trained(train, data, finished, **sgd, **{"optimizer.lr": 0.03}, ema_mode="overwrite", ema_decay=0.9).result
    slow = trained(train, data, finished, **sgd, **{"optimizer.lr": 0.003}).result
    start = finished["scan"].weights["backbone"]
    for name, value in parameters(over).items():
        torch.testing.assert_close(value, parameters(slow)[name], rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(value, over.weights["backbone"][name]) for name, value in start.items())


def test_an_average_kept_aside_leaves_the_student_s_path_as_it_is(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    aside = trained(train, data, finished, ema_mode="shadow_eval", ema_decay=0.5)
    plain = trained(train, data, finished)
    assert [each["loss"] for each in aside.metrics] == [each["loss"] for each in plain.metrics]
    assert not torch.equal(aside.result.weights["head"]["weight"], plain.result.weights["head"]["weight"])


def test_an_average_that_keeps_nothing_is_the_student(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    aside = trained(train, data, finished, ema_mode="shadow_eval", ema_decay=0.0)
    plain = trained(train, data, finished)
    for part, weights in plain.result.weights.items():
        for name, value in weights.items():
            assert torch.equal(value, aside.result.weights[part][name]), name


def test_the_plateau_rule_stops_and_keeps_the_last_epoch_that_gained(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    # At a threshold that every image passes from the first epoch on there is no gain after it.
    done = trained(train, data, finished, confidence_threshold=0.34, stop_rule="plateau", patience_epochs=2, epochs=10)
    assert [each["train_confident_fraction"] for each in done.metrics] == [1.0, 1.0, 1.0]
    assert done.result.facts["kept_epoch"] == 1
    first = trained(train, data, finished, confidence_threshold=0.34, epochs=1)
    assert torch.equal(done.result.weights["head"]["weight"], first.result.weights["head"]["weight"])


def test_the_last_rule_keeps_the_last_epoch(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    assert trained(train, data, finished, epochs=3).result.facts["kept_epoch"] == 3


def test_a_collapsed_model_gets_no_credit_for_being_sure(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    head = {"weight": torch.zeros(3, 512), "bias": torch.tensor([9.0, 0.0, 0.0])}
    scan = finished["scan"]
    collapsed = Result(weights={**scan.weights, "head": head}, facts=scan.facts)
    done = trained(train, data, {**finished, "scan": collapsed}, **{"optimizer.lr": 1e-9}, epochs=1)
    assert done.metrics[0]["train_confident_fraction"] == 1.0
    assert done.metrics[0]["guarded_confidence"] == 0.0


def test_it_leaves_patterns_that_are_clustered_as_they_are(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    assert trained(train, data, finished).result.metrics["acc"] == 1.0
