"""SwAV on made-up patterns: views, queue, frozen prototypes, refined codes, resuming, and what it refuses."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from trainables.interfaces import ImageData, Split, State
from trainables.maths import metrics
from trainables.nets import backbones
from trainables.nets.swav import CropQueue, PrototypeModel
from trainables.runner.runtime import SingleProcess, StageRuntime
from trainables.settings import SettingsError, build, effective
from trainables.settings import value as value_of
from trainables.stages import linear_probe, swav
from trainables.stages.swav import Config
from trainables.vector_search.faiss_search import FaissSearch

Train = Callable[..., Any]


def config(**changes: Any) -> Config:
    small = {
        "augmentation": "affine",
        "num_prototypes": 6,
        "batch_size": 40,
        "epochs": 3,
        "optimizer.name": "adam",
        "schedule": "constant",
        "optimizer.lr": 1e-3,
        "feature_dim": 16,
        "hidden_dim": 32,
        "freeze_iterations": 0,
        "queue": False,
    }
    return build(Config, {**small, **changes})


def first_state(settings: Config, data: ImageData) -> State:
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), "swav", 0, FaissSearch(1))
    return copy.deepcopy(next(swav.train(settings, data, {}, runtime)).state())


def test_patterns_that_stand_apart_share_no_prototype(train: Train, data: ImageData) -> None:
    done = train(swav, config(epochs=8, epsilon=0.1), data)
    assert done.metrics[-1]["loss"] < done.metrics[0]["loss"]
    assert done.metrics[-1]["acc_majority"] > 0.9


@pytest.mark.parametrize(
    "changes",
    [
        {"queue": True, "queue_length": 80, "queue_start_epoch": 0},
        {"optimizer.name": "larc", "optimizer.lr": 0.6, "schedule": "warmup_cosine", "warmup_epochs": 1,
         "freeze_iterations": 4},
        {"augmentation": "swav", "views.num_small_crops": 2, "views.small_crop_px": 8, "queue": True,
         "queue_length": 40, "queue_start_epoch": 1, "optimizer.name": "sgd", "optimizer.lr": 0.1},
        {"an.mode": "both", "an.class_prior": "running", "an.empty_reference": "queue"},
    ],
)  # fmt: skip
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_last_bit(
    train: Train, data: ImageData, changes: dict[str, Any]
) -> None:
    settings = config(**changes)
    whole, rest = train(swav, settings, data), train(swav, settings, data, saved=first_state(settings, data))
    assert rest.metrics == whole.metrics[1:]
    for name, value in whole.result.arrays.items():
        assert np.array_equal(rest.result.arrays[name], value), name


def test_frozen_prototypes_keep_their_place_and_the_rest_learns(train: Train, data: ImageData) -> None:
    # Three steps an epoch: after one epoch none has moved, after two they have.
    before = PrototypeModel(backbones.build("small", in_channels=1, image_size_px=8, seed=0), 16, 32, 6)
    for epochs, moved in ((1, False), (2, True)):
        weights = train(swav, config(epochs=epochs, freeze_iterations=3), data).result.weights
        assert torch.allclose(weights["prototypes"]["weight"], before.prototypes.weight, atol=1e-6) is not moved
        assert not torch.equal(weights["projection"]["0.weight"], before.head[0].weight)


def test_prototypes_begin_as_unit_vectors_and_scores_are_cosines() -> None:
    model = PrototypeModel(backbones.build("small", in_channels=1, image_size_px=8, seed=0), 16, 0, 6).eval()
    embeddings, scores = model([torch.rand(5, 1, 8, 8), torch.rand(5, 1, 8, 8), torch.rand(5, 1, 10, 10)])
    assert (embeddings.shape, scores.shape) == ((15, 16), (15, 6))
    for rows in (embeddings, model.prototypes.weight):
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(rows)))
    torch.testing.assert_close(scores, embeddings @ model.prototypes.weight.T)


def test_crops_of_a_list_come_out_as_they_would_alone() -> None:
    model = PrototypeModel(backbones.build("small", in_channels=1, image_size_px=8, seed=0), 16, 32, 6).eval()
    crops = [torch.rand(4, 1, size, size) for size in (8, 8, 12)]
    embeddings, _ = model(crops)
    alone = torch.cat([model(each, "embeddings") for each in crops])
    torch.testing.assert_close(embeddings, alone)


def test_a_queue_serves_once_it_is_full_and_holds_the_newest_first() -> None:
    queue = CropQueue(2, 4, 3, torch.device("cpu"))
    batches = [torch.full((2, 2, 3), float(number)) for number in range(3)]
    queue.put(batches[0])
    assert not queue.is_full
    queue.put(batches[1])
    assert queue.is_full
    queue.put(batches[2])
    assert queue.rows(1)[:, 0].tolist() == [2, 2, 1, 1]
    assert not CropQueue(2, 0, 3, torch.device("cpu")).is_full


def test_the_queue_is_trimmed_to_whole_batches_and_begins_at_its_epoch(data: ImageData) -> None:
    settings = config(queue=True, queue_length=100, queue_start_epoch=0)
    state = first_state(settings, data)["queue"]
    assert state["rows"].shape == (2, 80, 16) and state["held"] == 120
    assert first_state(replace(settings, queue_start_epoch=1), data)["queue"]["held"] == 0


def test_the_queue_changes_codes_from_the_epoch_at_which_it_is_full(train: Train, data: ImageData) -> None:
    # 120 embeddings are full after the first epoch of 3 x 40.
    without = train(swav, config(), data).metrics
    with_it = train(swav, config(queue=True, queue_length=120, queue_start_epoch=0), data).metrics
    assert with_it[0] == without[0]
    assert with_it[1]["loss"] != without[1]["loss"]


def test_the_rate_follows_its_schedule_step_by_step(train: Train, data: ImageData) -> None:
    settings = config(
        schedule="warmup_cosine", **{"optimizer.lr": 0.01}, warmup_epochs=1, warmup_lr=0.001, final_lr=0.0
    )
    rates = [each["lr"] for each in train(swav, settings, data).metrics]
    # What is reported is each epoch's first step: the start, then the height, then half way down.
    assert rates == pytest.approx([0.001, 0.01, 0.005])


def test_small_crops_train_on(train: Train, data: ImageData) -> None:
    found = [
        train(
            swav,
            config(augmentation="swav", **{"views.num_small_crops": count, "views.small_crop_px": 10}, epochs=1),
            data,
        ).metrics[0]
        for count in (0, 2)
    ]
    assert found[0]["loss"] != found[1]["loss"] and np.isfinite(found[1]["loss"])


def test_unlabeled_images_are_trained_on(train: Train, data: ImageData) -> None:
    more = replace(data, unlabeled=Split(data.eval.images_NCHW, torch.full((len(data.eval),), -1)))
    without, with_them = (train(swav, config(epochs=1), each) for each in (data, more))
    assert without.metrics != with_them.metrics
    assert len(with_them.result.arrays["probabilities_eval"]) == len(data.eval)


@pytest.mark.parametrize("an", ["none", "both"])
def test_labels_steer_nothing(train: Train, data: ImageData, an: str) -> None:
    blind = replace(
        data,
        train=Split(data.train.images_NCHW, torch.full((120,), -1)),
        eval=Split(data.eval.images_NCHW, torch.full((60,), -1)),
    )
    seen, unseen = (train(swav, config(epochs=2, **{"an.mode": an}), each) for each in (data, blind))
    for name, value in seen.result.arrays.items():
        assert np.array_equal(unseen.result.arrays[name], value), name
    assert seen.result.metrics["view_agreement"] == unseen.result.metrics["view_agreement"]
    assert not any(metrics.looks_at_labels(name) for name in unseen.result.metrics)


def test_agreement_is_nothing_where_all_images_share_one_cluster(train: Train, data: ImageData) -> None:
    for each in train(swav, config(), data).metrics:
        assert 0 <= each["view_agreement"] <= 1
    # Prototypes of length 0 give every image the same scores, and so the first cluster.
    alike = PrototypeModel(backbones.build("small", in_channels=1, image_size_px=8, seed=0), 16, 32, 6)
    torch.nn.init.zeros_(alike.prototypes.weight)
    setup = swav._set_up(config(), data, StageRuntime(SingleProcess(torch.device("cpu")), "swav", 0, FaissSearch(1)))
    assert swav._agreement(replace(setup, model=alike), torch.zeros(60, dtype=torch.int64)) == 0.0


def test_refined_codes_report_what_they_did_and_leave_an_array_for_figures(train: Train, data: ImageData) -> None:
    done = train(swav, config(**{"an.mode": "correction", "an.entropy_threshold": 0.3}), data)
    for each in done.metrics:
        assert 0 <= each["an_changed_fraction"] <= each["an_unsure_fraction"] <= 1
    refined_NK = done.result.arrays["refined_eval"]
    assert refined_NK.shape == (60, 6)
    np.testing.assert_allclose(refined_NK.sum(1), 1, rtol=1e-5)
    assert set(done.result.metrics) <= set(swav.METRICS)


def test_a_refinement_that_finds_nothing_unsure_or_begins_later_is_plain_swav(train: Train, data: ImageData) -> None:
    plain = train(swav, config(), data)
    late = train(swav, config(**{"an.mode": "both", "an.start_epoch": 3}), data)
    sure = train(swav, config(**{"an.mode": "correction", "an.renormalize": False, "an.entropy_threshold": 50.0}), data)
    for other in (late, sure):
        assert np.array_equal(other.result.arrays["probabilities_eval"], plain.result.arrays["probabilities_eval"])


def test_reweighting_changes_the_loss_and_no_code(train: Train, data: ImageData) -> None:
    plain, weighed = (train(swav, config(epochs=1, **{"an.mode": an}), data) for an in ("none", "reweight"))
    assert weighed.metrics[0]["an_changed_fraction"] == 0
    assert weighed.metrics[0]["loss"] != plain.metrics[0]["loss"]
    assert "refined_eval" not in weighed.result.arrays


def test_a_linear_probe_judges_what_it_learned(train: Train, data: ImageData) -> None:
    probed = train(swav, config(epochs=6), data).result
    settings = build(
        linear_probe.Config,
        {"batch_size": 60, "epochs": 5, "optimizer.lr": 0.3, "optimizer.weight_decay": 1e-6, "schedule": "cosine"},
    )
    assert train(linear_probe, settings, data, {"probed": probed}).result.metrics["output_acc"] > 0.9


def test_settings_that_do_not_count_have_no_part_in_the_address() -> None:
    counted = set(effective(config()))
    assert (
        not {
            "queue_length",
            "queue_start_epoch",
            "warmup_epochs",
            "views.num_small_crops",
            "optimizer.momentum",
            "an.top_k",
        }
        & counted
    )
    assert "optimizer.momentum" in effective(config(**{"optimizer.name": "larc"}))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_prototypes": 1}, "num_prototypes must be at least 2"),
        ({"epsilon": 0.0}, "epsilon must be above 0"),
        ({"optimizer.name": "lars"}, "optimizer.name must be one of larc, sgd, adam"),
        (
            {"views.small_crop_min_area": 0.2},
            r"small_crop_min_area must be below small_crop_max_area \(0.14\), but is 0.2",
        ),
        ({"schedule": "warmup_cosine", "warmup_epochs": 3}, r"warmup_epochs must be below epochs \(3\), but is 3"),
    ],
)
def test_a_bad_setting_is_refused_with_its_rule(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        config(**changes)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"queue": True, "queue_length": 39}, "queue_length"),
        ({"batch_size": 121}, "batch_size"),
        ({"augmentation": "swav", "views.num_small_crops": 1, "views.small_crop_px": 96}, "views.small_crop_px"),
    ],
)
def test_what_the_data_or_another_setting_forbids_is_named(data: ImageData, changes: dict[str, Any], key: str) -> None:
    assert list(dict(swav.limits(config(**changes), data.shape))) == [key]


def test_the_recipes_are_settings_that_its_config_takes() -> None:
    for recipes in swav.PRESETS.values():
        for values in recipes.values():
            assert {name: value_of(build(Config, values), name) for name in values} == values
