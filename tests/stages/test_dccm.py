"""DCCM on made-up patterns."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from trainables import settings
from trainables.interfaces import ImageData, Split
from trainables.maths import correlation, metrics
from trainables.settings import build
from trainables.stages import dccm
from trainables.stages.dccm import Config

SMALL: dict[str, Any] = {
    "augmentation": "affine", "outer_batch": 60, "inner_batch": 20, "inner_repeats": 2, "epochs": 3,
    "optimizer.lr": 1e-3
}  # fmt: skip


def trained(train: Callable[..., Any], data: ImageData, *, saved: Any = None, **changes: Any) -> Any:
    return train(dccm, build(Config, {**SMALL, **changes}), data, saved=saved)


def test_patterns_that_stand_apart_are_clustered(train: Callable[..., Any], data: ImageData) -> None:
    assert trained(train, data, epochs=6).result.metrics["acc"] > 0.9


def test_going_on_from_an_epoch_equals_an_uninterrupted_run(train: Callable[..., Any], data: ImageData) -> None:
    whole = trained(train, data)
    # A state is read when it is saved, so the run is stopped there.
    stopped = trained(train, data, epochs=1)
    rest = trained(train, data, saved=stopped.epochs[0].state())
    assert whole.metrics[1:] == rest.metrics
    for part, weights in whole.result.weights.items():
        assert all(torch.equal(value, rest.result.weights[part][name]) for name, value in weights.items()), part
    for name, array in whole.result.arrays.items():
        np.testing.assert_array_equal(array, rest.result.arrays[name])


def test_labels_steer_nothing(train: Callable[..., Any], data: ImageData) -> None:
    blind = replace(
        data,
        train=Split(data.train.images_NCHW, torch.full((120,), -1)),
        eval=Split(data.eval.images_NCHW, torch.full((60,), -1)),
    )
    seeing, unseeing = trained(train, data, epochs=1), trained(train, blind, epochs=1)
    free = {name: value for name, value in seeing.metrics[0].items() if not metrics.looks_at_labels(name)}
    assert unseeing.metrics[0] == free
    assert not any(metrics.looks_at_labels(name) for name in unseeing.metrics[0])


def test_the_loss_is_the_weighted_sum_of_its_terms(train: Callable[..., Any], data: ImageData) -> None:
    weights = {"graph": 2.0, "label": 3.0, "mi": 0.5, "consistency": 0.25}
    changes = {f"{name}_loss_weight": value for name, value in weights.items()}
    for each in trained(train, data, epochs=2, train_on_original=True, label_threshold=0.5, **changes).metrics:
        wanted = sum(value * each[f"{name}_loss"] for name, value in weights.items())
        assert each["loss"] == pytest.approx(wanted, abs=1e-5) and each["label_loss"] > 0


def test_a_tail_below_the_outer_batch_is_trained_on_too(train: Callable[..., Any], data: ImageData) -> None:
    # 120 images are an outer batch of 80 and one of 40; every image is confident where any probability suffices.
    done = trained(train, data, epochs=1, outer_batch=80, label_threshold=0.01)
    assert done.metrics[0]["confident_labels"] == 120


def test_bcubed_is_that_of_the_graph_among_the_kept_predictions(train: Callable[..., Any], data: ImageData) -> None:
    result = trained(train, data, epochs=1).result
    linked = correlation.pseudo_graph(torch.tensor(result.arrays["probabilities_eval"]), 0.95).numpy()
    labels = data.eval.labels_N.numpy()
    precision = np.mean([(labels[row] == labels[i]).mean() for i, row in enumerate(linked)])
    recall = np.mean(
        [(row & (labels == labels[i])).sum() / (labels == labels[i]).sum() for i, row in enumerate(linked)]
    )
    assert result.metrics["bcubed_precision"] == pytest.approx(precision)
    assert result.metrics["bcubed_recall"] == pytest.approx(recall)


def test_the_criterion_is_void_where_a_cluster_is_empty(train: Callable[..., Any], data: ImageData) -> None:
    one = replace(data, eval=Split(data.eval.images_NCHW[:2], data.eval.labels_N[:2]))
    assert trained(train, one, epochs=1).result.metrics["guarded_confidence"] == 0.0


def test_the_falling_threshold_is_dac_s() -> None:
    config = Config(graph_threshold=0.99, graph_threshold_schedule="falling")
    found = [dccm.graph_threshold(config, epoch) for epoch in (0, 25, 50, 80)]
    assert found == pytest.approx([0.99, 0.87, 0.75, 0.75])
    assert dccm.graph_threshold(Config(), 80) == 0.95


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"inner_batch": 64, "outer_batch": 60}, r"inner_batch must be at most outer_batch \(60\), but is 64"),
        ({"train_on_transformed": False}, "train_on_transformed must be true where train_on_original is false"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(settings.SettingsError, match=text):
        build(Config, changes)


def test_what_the_data_cannot_carry_is_found_before_the_start(data: ImageData) -> None:
    found = dict(dccm.limits(Config(network="dccm_c4"), data.shape))
    assert set(found) == {"outer_batch", "network"}
