"""DCCM on made-up patterns."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from trainables import pipeline, registry, settings
from trainables.interfaces import ImageData, Split
from trainables.maths import correlation, metrics
from trainables.nets import backbones
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
    weights = {"graph": 2.0, "label": 3.0, "mi": 0.5, "consistency": 0.25, "invariance": 0.75}
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


def test_the_histogram_of_the_beginning_is_that_of_the_untrained_network(
    train: Callable[..., Any], data: ImageData
) -> None:
    slow, fast = (trained(train, data, epochs=1, **{"optimizer.lr": lr}).result.arrays for lr in (1e-9, 1e-2))
    np.testing.assert_array_equal(slow["confidence_untrained"], fast["confidence_untrained"])
    np.testing.assert_allclose(slow["confidence_untrained"], slow["confidence_last"], atol=1e-3)
    assert np.abs(fast["confidence_untrained"] - fast["confidence_last"]).max() > 0.01


def test_no_step_is_made_of_what_is_left_over_of_an_outer_batch(
    train: Callable[..., Any], data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    step = dccm._step

    def counted(setup: Any, images: Any, *rest: Any) -> Any:
        sizes.append(len(images[0]))
        return step(setup, images, *rest)

    monkeypatch.setattr(dccm, "_step", counted)
    # 120 images: outer batches of 50, 50 and 20; 50 are two steps of 20 and ten left over.
    trained(train, data, epochs=1, outer_batch=50, inner_repeats=1, augment_passes=1)
    assert sizes == [20] * 5


@pytest.mark.parametrize("place", ["weights", "rate"])
def test_a_diverged_network_is_said_to_have_diverged(
    train: Callable[..., Any], data: ImageData, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def refuse(*given: Any, **how: Any) -> Any:
        raise AssertionError("its kernel checks its input, and breaks a GPU's context")

    monkeypatch.setattr(torch.nn.functional, "binary_cross_entropy", refuse)
    if place == "rate":
        with pytest.raises(FloatingPointError, match="predictions are not finite"):
            trained(train, data, **{"optimizer.lr": 1e30})
        return
    set_up = dccm._set_up

    def broken(*given: Any) -> Any:
        setup = set_up(*given)
        with torch.no_grad():
            setup.model.clusters.bias.fill_(torch.nan)
        return setup

    monkeypatch.setattr(dccm, "_set_up", broken)
    with pytest.raises(FloatingPointError, match="predictions are not finite"):
        trained(train, data)


def test_the_backbone_gives_the_features_of_the_network_on_all_images_together(
    train: Callable[..., Any], data: ImageData
) -> None:
    result = trained(train, data, epochs=2).result
    backbone = backbones.build(result.facts["network"], in_channels=1, image_size_px=8, seed=9)
    backbone.load_state_dict(result.weights["backbone"])
    network = dccm.classifier(result, data).network
    images_NCHW = data.train.images_NCHW[:].float() / 255
    with torch.no_grad():
        apart_ND = torch.cat([backbone.eval()(each) for each in images_NCHW.split(1)])
        together_ND = network(images_NCHW).features_BD
    # Running variances divide by one image less.
    torch.testing.assert_close(apart_ND, together_ND, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("probe", registry.probes())
def test_a_probe_shows_the_network_plain_pixels(
    train: Callable[..., Any], data: ImageData, monkeypatch: pytest.MonkeyPatch, probe: str
) -> None:
    stage: Any = pipeline.load(probe)
    result, seen = trained(train, data, epochs=1).result, []
    forward = backbones.Backbone.forward

    def spied(self: Any, images_BCHW: torch.Tensor) -> torch.Tensor:
        if not images_BCHW.is_meta:  # where only shapes are asked for
            seen.append(images_BCHW)
        return forward(self, images_BCHW)

    monkeypatch.setattr(backbones.Backbone, "forward", spied)
    train(stage, build(stage.Config, stage.TINY), data, {"probed": result})
    assert seen and all(float(each.min()) >= 0 and float(each.max()) <= 1 + 1e-6 for each in seen)


def test_the_preset_of_the_text_is_the_objective_of_the_text() -> None:
    config = build(Config, dccm.PRESETS["paper"]["cifar10"])
    assert (config.label_loss, config.mi_loss_weight, config.label_loss_weight) == ("ce", 0.1, 5.0)
    assert config.train_on_original and config.train_on_transformed and config.invariance_loss_weight > 0
    assert dccm.PRESETS["repo"]["cifar20"]["optimizer.lr"] == 1e-3


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
