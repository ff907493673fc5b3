"""Refined assignments (AN) in the stages that start from SCAN: what they change, what they leave, and resuming."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from trainables import pipeline, settings
from trainables.interfaces import ImageData, Result
from trainables.maths import metrics
from trainables.runner.runtime import SingleProcess, StageRuntime
from trainables.settings import build
from trainables.vector_search.faiss_search import FaissSearch

Train = Callable[..., Any]

SMALL: dict[str, dict[str, Any]] = {
    "scan": {
        "augmentation": "affine",
        "num_neighbors": 5,
        "batch_size": 40,
        "epochs": 3,
        "optimizer.lr": 1e-3,
        "num_heads": 2,
    },
    "selflabel": {"augmentation": "affine", "batch_size": 40, "epochs": 3, "confidence_threshold": 0.4},
    "spc": {
        "strong_threshold": 0.4,
        "graph_neighbors": 60,  # so many that labels reach images of other patterns
        "propagation_decay": 0.5,
        "weak_label": "lp_soft",
        "top_fraction_per_class": 0.05,
        "strong_augmentation": "affine",
        "weak_augmentation": "affine",
        "batch_size": 30,
        "epochs": 3,
        "an_batch_size": 50,
    },
}
THRESHOLD = {"scan": 0.3, "selflabel": 0.6, "spc": 0.4}
"""Entropy at which some of the rows are unsure and some are not."""

LASTING = {"an.mode": "both", "an.class_prior": "running", "an.prior_decay": 0.5, "an.empty_reference": "queue"}


def config(name: str, **changes: Any) -> Any:
    return build(pipeline.load(name).Config, {**SMALL[name], **changes})


def done(train: Train, name: str, data: ImageData, finished: dict[str, Result], **changes: Any) -> Any:
    stage, saved = pipeline.load(name), changes.pop("saved", None)
    inputs = {slot: finished[slot] for slot in stage.INPUTS}
    return train(stage, config(name, **changes), data, inputs, saved=saved)


@pytest.fixture(scope="module")
def unsure(finished: dict[str, Result]) -> dict[str, Result]:
    """A SCAN model that is far from sure, and hardly uses its last cluster."""
    start = finished["scan"]
    head = start.weights["head"]
    head = {"weight": head["weight"] * 0.3, "bias": head["bias"] + torch.tensor([1.2, 0.0, -1.2])}
    weights = {**start.weights, "head": head}
    softer = {
        name: (rows_NC**0.3) / (rows_NC**0.3).sum(1, keepdims=True)
        for name, rows_NC in start.arrays.items()
        if name.startswith("probabilities")
    }
    return {**finished, "scan": replace(start, weights=weights, arrays={**start.arrays, **softer})}


@pytest.mark.parametrize("name", SMALL)
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_last_bit(
    train: Train, data: ImageData, unsure: dict[str, Result], name: str
) -> None:
    stage = pipeline.load(name)
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), stage.NAMESPACE, 0, FaissSearch(1))
    steps = stage.train(config(name, **LASTING), data, {slot: unsure[slot] for slot in stage.INPUTS}, runtime)
    saved = copy.deepcopy(next(steps).state())
    whole, rest = (done(train, name, data, unsure, saved=each, **LASTING) for each in (None, saved))
    assert rest.metrics == whole.metrics[1:]
    for key, value in whole.result.arrays.items():
        assert np.array_equal(rest.result.arrays[key], value), key


@pytest.mark.parametrize("name", SMALL)
def test_what_happened_is_reported_and_the_corrected_predictions_are_kept_for_figures(
    train: Train, data: ImageData, unsure: dict[str, Result], name: str
) -> None:
    found = done(train, name, data, unsure, **{"an.mode": "correction", "an.entropy_threshold": THRESHOLD[name]})
    for each in found.metrics:
        assert 0 <= each["an_changed_fraction"] <= each["an_unsure_fraction"] <= 1
        assert each["an_missing_clusters"] >= 0
    assert any("an_unsure_acc_before" in each and "an_unsure_acc_after" in each for each in found.metrics)
    assert {"an_acc_before", "an_acc_after"} <= set(found.result.metrics)
    assert set(found.result.metrics) <= set(pipeline.load(name).METRICS)
    refined_NC = found.result.arrays["refined_eval"]
    assert refined_NC.shape == found.result.arrays["probabilities_eval"].shape
    np.testing.assert_allclose(refined_NC.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_before_its_first_epoch_nothing_changes(
    train: Train, data: ImageData, unsure: dict[str, Result], name: str
) -> None:
    plain = done(train, name, data, unsure)
    late = done(train, name, data, unsure, **{"an.mode": "both", "an.start_epoch": 3})
    assert late.metrics == plain.metrics
    assert not {key for key in plain.result.metrics if key.startswith("an_")}
    assert "refined_eval" not in plain.result.arrays


@pytest.mark.parametrize("name", SMALL)
def test_each_part_changes_the_training_on_its_own(
    train: Train, data: ImageData, unsure: dict[str, Result], name: str
) -> None:
    losses = {
        an: done(train, name, data, unsure, **{"an.mode": an, "an.unsure_share": 0.4}, epochs=1).metrics[0]["loss"]
        for an in ("none", "correction", "reweight", "both")
    }
    assert len(set(losses.values())) == 4
    assert all(np.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("empty", ["skip", "identity", "queue"])
def test_batches_without_a_sure_row_give_numbers_all_the_same(
    train: Train, data: ImageData, unsure: dict[str, Result], name: str, empty: str
) -> None:
    found = done(
        train,
        name,
        data,
        unsure,
        **{"an.mode": "both", "an.entropy_threshold": 1e-6, "an.empty_reference": empty},
        epochs=1,
    ).metrics[0]
    assert all(np.isfinite(value) for value in found.values())
    if empty == "skip" and name != "spc":  # propagated labels may be exactly sure
        assert found["an_unsure_fraction"] == 1 and found["an_changed_fraction"] == 0


@pytest.mark.parametrize("name", SMALL)
def test_labels_steer_nothing(train: Train, data: ImageData, unsure: dict[str, Result], name: str) -> None:
    unknown = (replace(part, labels_N=torch.full_like(part.labels_N, -1)) for part in (data.train, data.eval))
    blind = replace(data, **dict(zip(("train", "eval"), unknown, strict=True)))
    seeing, unseeing = (done(train, name, each, unsure, epochs=2, **LASTING).result for each in (data, blind))
    for key, value in seeing.arrays.items():
        assert np.array_equal(unseeing.arrays[key], value), key
    assert not any(metrics.looks_at_labels(key) for key in unseeing.metrics)


def test_scan_can_hold_its_predictions_against_refined_ones_by_cross_entropy(
    train: Train, data: ImageData, finished: dict[str, Result]
) -> None:
    by_dot, by_cross_entropy = (
        done(train, "scan", data, finished, **{"an.mode": "both"}, agreement=each, epochs=1).metrics[0]["consistency"]
        for each in ("dot", "ce")
    )
    # The logarithm of a mean is above the mean of the logarithms.
    assert by_cross_entropy > by_dot


def test_weak_labels_of_every_kind_are_refined(train: Train, data: ImageData, unsure: dict[str, Result]) -> None:
    for weak_label in ("lp_soft", "model_soft"):
        plain, corrected = (
            done(
                train,
                "spc",
                data,
                unsure,
                weak_label=weak_label,
                **{"an.mode": an, "an.entropy_threshold": 0.5},
                epochs=1,
            )
            for an in ("none", "correction")
        )
        assert not np.array_equal(plain.result.arrays["targets_train"], corrected.result.arrays["targets_train"])
        strong_N = plain.result.arrays["strong_train"]
        assert np.array_equal(strong_N, corrected.result.arrays["strong_train"])
        np.testing.assert_array_equal(
            plain.result.arrays["targets_train"][strong_N], corrected.result.arrays["targets_train"][strong_N]
        )


@pytest.mark.parametrize("name", SMALL)
def test_without_refinement_its_settings_do_not_count(name: str) -> None:
    assert {key for key in settings.effective(config(name)) if key.startswith("an")} == {"an.mode"}
