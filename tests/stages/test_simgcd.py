"""SimGCD on made-up patterns: what labels may do, refined targets, resuming, frozen parts, and what it refuses."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from trainables.interfaces import DataShape, ImageData, Result, Split, State
from trainables.maths import metrics
from trainables.runner.runtime import SingleProcess, StageRuntime
from trainables.settings import SettingsError, build, effective
from trainables.settings import value as value_of
from trainables.stages import linear_probe, simgcd
from trainables.stages.simgcd import Config
from trainables.training.alternating_normalization import Sizes
from trainables.vector_search.faiss_search import FaissSearch

Train = Callable[..., Any]
LASTING = {"an.mode": "both", "an.class_prior": "running", "an.prior_decay": 0.5, "an.empty_reference": "queue"}


def config(**changes: Any) -> Config:
    small = {
        "augmentation": "affine",
        "known_classes": 2,
        "hidden_dim": 32,
        "feature_dim": 16,
        "trained_part": "all",
        "teacher_warmup_epochs": 2,
        "batch_size": 40,
        "epochs": 2,
        "optimizer.lr": 0.05,
    }
    return build(Config, {**small, **changes})


@pytest.fixture(scope="module")
def run(train: Train, finished: dict[str, Result]) -> Callable[..., Any]:
    """run(data, saved=None, **changes of the config)"""

    def _run(data: ImageData, saved: State | None = None, **changes: Any) -> Any:
        return train(simgcd, config(**changes), data, {"pretext": finished["pretext"]}, saved=saved)

    return _run


@pytest.fixture(scope="module")
def plain(run: Callable[..., Any], data: ImageData) -> Any:
    return run(data)


def first_state(data: ImageData, finished: dict[str, Result], **changes: Any) -> State:
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), "simgcd", 0, FaissSearch(1))
    steps = simgcd.train(config(**changes), data, {"pretext": finished["pretext"]}, runtime)
    return copy.deepcopy(next(steps).state())


def relabeled(data: ImageData, labels_N: torch.Tensor) -> ImageData:
    return replace(data, train=Split(data.train.images_NCHW, labels_N))


def same_arrays(one: Result, other: Result) -> None:
    assert one.arrays.keys() == other.arrays.keys()
    for name, value in one.arrays.items():
        assert np.array_equal(other.arrays[name], value), name


def test_new_patterns_are_found_beside_known_ones(run: Callable[..., Any], data: ImageData) -> None:
    done = run(data, epochs=8)
    assert done.metrics[-1]["loss"] < done.metrics[0]["loss"]
    last = done.result.metrics
    assert min(last["acc"], last["acc_old"], last["acc_new"]) > 0.9
    assert set(last) <= set(simgcd.METRICS)


@pytest.mark.parametrize("changes", [{}, LASTING, {"trained_part": "last_block", "augmentation": "simgcd"}])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_last_bit(
    run: Callable[..., Any], data: ImageData, finished: dict[str, Result], changes: dict[str, Any]
) -> None:
    whole, rest = run(data, **changes), run(data, saved=first_state(data, finished, **changes), **changes)
    assert rest.metrics == whole.metrics[1:]
    same_arrays(whole.result, rest.result)


def test_the_result_says_whose_labels_it_saw(plain: Any, data: ImageData) -> None:
    labeled_N, facts = plain.result.arrays["labeled_train"], plain.result.facts
    # 80 of the 120 images belong to the two known classes, and half of these have a label.
    assert (labeled_N.sum(), facts["num_labeled"], facts["num_known"], facts["looks_at_labels"]) == (40, 40, 2, True)
    assert set(data.train.labels_N.numpy()[labeled_N]) == {0, 1}
    assert (plain.result.arrays["probabilities_train"].shape, plain.result.arrays["features_eval"].shape) == (
        (120, 3),
        (60, 512),
    )


@pytest.mark.parametrize("changes", [{}, LASTING])
def test_labels_of_other_images_steer_nothing(
    run: Callable[..., Any], plain: Any, data: ImageData, changes: dict[str, Any]
) -> None:
    # Images without a label get any other one of the same kind: half of the known ones the other known class (of all of
    # them, no accuracy would change that takes the best map of clusters to classes), new ones none.
    labels_N = data.train.labels_N.clone()
    labeled_N = torch.tensor(plain.result.arrays["labeled_train"])
    swapped_R = (~labeled_N & (labels_N < 2)).nonzero()[::2]
    labels_N[swapped_R] = 1 - labels_N[swapped_R]
    labels_N[labels_N == 2] = -1
    seen, unseen = (run(each, **changes) for each in (data, relabeled(data, labels_N)))
    same_arrays(seen.result, unseen.result)
    for name in (*simgcd.TERMS, "view_agreement"):
        assert seen.result.metrics[name] == unseen.result.metrics[name], name
    assert seen.result.metrics["acc"] != unseen.result.metrics["acc"]


def test_labels_that_may_be_seen_do_train(run: Callable[..., Any], plain: Any, data: ImageData) -> None:
    swapped_N = torch.tensor([1, 0, 2])[data.train.labels_N]
    other = run(relabeled(data, swapped_N))
    assert np.array_equal(plain.result.arrays["labeled_train"], other.result.arrays["labeled_train"])
    assert not np.array_equal(plain.result.arrays["probabilities_eval"], other.result.arrays["probabilities_eval"])


def test_accuracies_are_of_the_unlabeled_images_under_one_map(plain: Any, data: ImageData) -> None:
    rest_N = ~plain.result.arrays["labeled_train"]
    clusters_U = plain.result.arrays["probabilities_train"].argmax(1)[rest_N]
    labels_U = data.train.labels_N.numpy()[rest_N]
    class_C = metrics.hungarian_map(metrics.contingency(clusters_U, labels_U, 3, 3))
    right_U = class_C[clusters_U] == labels_U
    found = plain.result.metrics
    for name, part_U in (("acc", labels_U >= 0), ("acc_old", labels_U < 2), ("acc_new", labels_U == 2)):
        assert found[name] == pytest.approx(right_U[part_U].mean()), name


def test_labeled_images_are_not_judged_where_all_images_are(run: Callable[..., Any], union: ImageData) -> None:
    done = run(union, epochs=1).result
    train_NC, rest_N = done.arrays["probabilities_train"], ~done.arrays["labeled_train"]
    assert np.array_equal(train_NC, done.arrays["probabilities_eval"])
    counts_CY = metrics.contingency(train_NC.argmax(1)[rest_N], union.train.labels_N.numpy()[rest_N], 3, 3)
    assert done.metrics["acc"] == pytest.approx(metrics.accuracy(counts_CY))


def test_accuracies_look_at_labels_and_the_criterion_does_not() -> None:
    assert {"acc", "acc_old", "acc_new"} <= metrics.LABEL_METRICS
    assert not metrics.looks_at_labels(simgcd.CRITERION[0])


def test_the_split_is_the_settings_and_not_the_trial_s_seed(
    train: Train, plain: Any, data: ImageData, finished: dict[str, Result], run: Callable[..., Any]
) -> None:
    first = plain.result.arrays["labeled_train"]
    other_trial = train(simgcd, config(epochs=1), data, {"pretext": finished["pretext"]}, seed=1).result
    assert np.array_equal(other_trial.arrays["labeled_train"], first)
    assert not np.array_equal(run(data, epochs=1, split_seed=1).result.arrays["labeled_train"], first)


def test_without_new_classes_there_is_no_accuracy_of_them(run: Callable[..., Any], data: ImageData) -> None:
    found = run(data, epochs=1, known_classes=3).result.metrics
    assert "acc_new" not in found and found["acc_old"] == pytest.approx(found["acc"])


def test_batches_of_one_kind_give_numbers_all_the_same(run: Callable[..., Any], data: ImageData) -> None:
    # With two images a batch, about half of the 60 batches hold no labeled image or no unlabeled one.
    found = run(data, epochs=1, batch_size=2, **{"an.mode": "both", "an.entropy_threshold": 0.1}).metrics[0]
    assert all(np.isfinite(value) for value in found.values())


def test_the_terms_add_up_to_the_loss(plain: Any) -> None:
    for each in plain.metrics:
        unlabeled = each["distillation"] + 2.0 * each["mean_entropy_gap"] + each["contrast"]
        labeled = each["labeled_cross_entropy"] + each["labeled_contrast"]
        assert each["loss"] == pytest.approx(0.65 * unlabeled + 0.35 * labeled, rel=1e-5)


@pytest.mark.parametrize(("part", "moved"), [("all", {0, 4, 8}), ("last_block", {8}), ("none", set())])
def test_only_the_chosen_part_of_the_backbone_learns(
    run: Callable[..., Any], data: ImageData, finished: dict[str, Result], part: str, moved: set[int]
) -> None:
    before, after = finished["pretext"].weights["backbone"], run(data, epochs=1, trained_part=part).result.weights
    for layer in (0, 4, 8):
        same = torch.equal(before[f"layers.{layer}.weight"], after["backbone"][f"layers.{layer}.weight"])
        assert same is (layer not in moved)
        # Batch norms of frozen convolutions keep their statistics too.
        statistics = f"layers.{layer + 1}.running_mean"
        assert torch.equal(before[statistics], after["backbone"][statistics]) is (layer not in moved)


def test_the_rate_falls_by_a_cosine_from_epoch_to_epoch(run: Callable[..., Any], data: ImageData) -> None:
    floor = 0.05e-3
    rates = [each["lr"] for each in run(data).metrics]
    assert rates == pytest.approx([0.05, (0.05 + floor) / 2])


def test_biases_and_norms_are_not_decayed(data: ImageData, finished: dict[str, Result]) -> None:
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), "simgcd", 0, FaissSearch(1))
    setup = simgcd._set_up(config(**{"optimizer.weight_decay": 0.5}), data, finished["pretext"], runtime)
    decayed, spared = setup.optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.5, 0.0)
    assert {weights.ndim for weights in decayed["params"]} == {2, 4}
    assert {weights.ndim for weights in spared["params"]} == {1}
    assert len(decayed["params"]) + len(spared["params"]) == len(list(setup.model.parameters()))


def test_refined_targets_report_what_they_did_and_leave_an_array_for_figures(
    run: Callable[..., Any], data: ImageData
) -> None:
    done = run(data, **{"an.mode": "correction", "an.entropy_threshold": 0.3})
    for each in done.metrics:
        assert 0 <= each["an_changed_fraction"] <= each["an_unsure_fraction"] <= 1
        assert each["an_missing_clusters"] >= 0
    assert {"an_unsure_acc_before", "an_unsure_acc_after"} <= set(done.metrics[0])
    assert {"an_acc_before", "an_acc_after"} <= set(done.result.metrics)
    refined_NC = done.result.arrays["refined_eval"]
    assert refined_NC.shape == (60, 3)
    np.testing.assert_allclose(refined_NC.sum(1), 1, rtol=1e-5)


def test_a_refinement_that_finds_nothing_unsure_or_begins_later_is_plain_simgcd(
    run: Callable[..., Any], plain: Any, data: ImageData
) -> None:
    late = run(data, **{"an.mode": "both", "an.start_epoch": 2})
    sure = run(data, **{"an.mode": "correction", "an.renormalize": False, "an.entropy_threshold": 50.0})
    for other in (late, sure):
        for name in ("probabilities_train", "probabilities_eval"):
            assert np.array_equal(other.result.arrays[name], plain.result.arrays[name])
    assert not {name for name in plain.result.metrics if name.startswith("an_")}
    assert "refined_eval" not in plain.result.arrays


def test_reweighting_changes_distillation_alone_and_no_target(
    run: Callable[..., Any], plain: Any, data: ImageData
) -> None:
    weighed = run(data, **{"an.mode": "reweight"}, epochs=1, batch_size=120).metrics[0]
    without = run(data, epochs=1, batch_size=120).metrics[0]
    # One step an epoch: everything but the weights is still the same.
    assert weighed["an_changed_fraction"] == 0 and weighed["distillation"] != without["distillation"]
    for name in ("mean_entropy_gap", "contrast", "labeled_cross_entropy", "labeled_contrast"):
        assert weighed[name] == without[name]


def test_labeled_images_are_neither_refined_nor_weighed(data: ImageData, finished: dict[str, Result]) -> None:
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), "simgcd", 0, FaissSearch(1))
    settings = config(
        **{"an.mode": "both", "an.entropy_threshold": 1e-6, "an.empty_reference": "identity"}, batch_size=120
    )
    setup = simgcd._set_up(settings, data, finished["pretext"], runtime)
    (step,) = simgcd._steps(setup, 0)
    first, rows = step.num_unlabeled, torch.randn(2, 120, 3, generator=torch.Generator().manual_seed(0)) * 0.1
    targets, weights = simgcd._targets(setup, list(rows), step, 0)
    bare, _ = simgcd._targets(replace(setup, normalizer=_none(setup)), list(rows), step, 0)
    assert weights is not None
    for target_TC, bare_TC, weights_T in zip(targets, bare, weights, strict=True):
        assert torch.equal(target_TC[first:], bare_TC[first:]) and not torch.equal(target_TC[:first], bare_TC[:first])
        assert torch.equal(weights_T[first:], torch.ones(120 - first))
        assert float(weights_T[:first].mean()) == pytest.approx(1.0, abs=1e-6)


def _none(setup: Any) -> Any:
    return type(setup.normalizer)(config().an, Sizes(3, 3, 120), torch.device("cpu"))


def test_a_linear_probe_judges_what_it_learned(train: Train, run: Callable[..., Any], data: ImageData) -> None:
    settings = build(
        linear_probe.Config,
        {"batch_size": 60, "epochs": 5, "optimizer.lr": 0.3, "optimizer.weight_decay": 1e-6, "schedule": "cosine"},
    )
    probed = train(linear_probe, settings, data, {"probed": run(data, epochs=3).result})
    assert probed.result.metrics["output_acc"] > 0.9


def test_settings_that_do_not_count_have_no_part_in_the_address() -> None:
    counted = set(effective(config()))
    assert not {"views.crop_min_area", "views.jitter_scale", "an.top_k"} & counted
    assert {"split_seed", "views.affine_scale", "memax_weight"} <= counted


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"labeled_share": 0.0}, "labeled_share must be above 0 and at most 1"),
        ({"sup_weight": 35}, "sup_weight must be at least 0 and at most 1"),
        ({"teacher_end": 0.0}, "teacher_end must be above 0"),
        ({"trained_part": "blocks"}, "trained_part must be one of all, last_block, none"),
    ],
)
def test_a_bad_setting_is_refused_with_its_rule(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        config(**changes)


@pytest.mark.parametrize(
    ("changes", "key", "sentence"),
    [
        ({"known_classes": 4}, "known_classes", "known_classes must be at most the 3 classes, but is 4"),
        ({"num_clusters": 1}, "num_clusters", "num_clusters must be at least the 2 known classes, but is 1"),
        ({"known_classes": 3, "labeled_share": 1.0}, "labeled_share", "so no image is unlabeled; lower one of them"),
        ({"batch_size": 121}, "batch_size", "batch_size must be at most the number of training images"),
    ],
)
def test_what_the_data_forbids_is_named(data: ImageData, changes: dict[str, Any], key: str, sentence: str) -> None:
    found = dict(simgcd.limits(config(**changes), data.shape))
    assert list(found) == [key] and sentence in found[key]


def test_data_without_labels_is_refused_before_anything_starts() -> None:
    found = dict(simgcd.limits(config(num_clusters=5), DataShape(120, 60, 0, 1, 8)))
    sentence = "known_classes needs labels of the known classes, but no training image has one; take another method"
    assert found == {"known_classes": sentence}


def test_labels_of_evaluation_images_alone_are_no_labels_to_learn_from() -> None:
    shape = DataShape(120, 60, 4, 1, 8, num_train_unlabeled=120)
    assert "no training image has one" in dict(simgcd.limits(config(), shape))["known_classes"]


@pytest.mark.parametrize(("sizes", "is_refused"), [((1, 0, 9), True), ((2, 0, 9), False), ((0, 9, 9), True)])
def test_a_share_that_leaves_no_label_is_refused_before_anything_starts(
    sizes: tuple[int, ...], is_refused: bool
) -> None:
    # Of three classes one is known, and half of its labels may be seen.
    shape = DataShape(120, 60, 3, 1, 8, num_train_unlabeled=120 - sum(sizes), class_sizes=sizes)
    found = dict(simgcd.limits(config(known_classes=1, labeled_share=0.5), shape))
    assert ("labeled_share must give some image a label" in found.get("labeled_share", "")) == is_refused


def test_half_of_the_classes_are_known_unless_a_number_says_otherwise() -> None:
    assert [Config().num_known(num) for num in (10, 3, 1)] == [5, 1, 1]
    assert Config(known_classes=80).num_known(100) == 80


def test_the_recipes_are_settings_that_its_config_takes() -> None:
    for recipes in simgcd.PRESETS.values():
        for values in recipes.values():
            assert {name: value_of(build(Config, values), name) for name in values} == values


def test_a_list_of_known_classes_decides_whose_labels_train_and_which_categories_they_have(
    data: ImageData, finished: dict[str, Result]
) -> None:
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), "simgcd", 0, FaissSearch(1))
    setup = simgcd._set_up(config(known_list="2,0"), data, finished["pretext"], runtime)
    labels_N, own_N = setup.data.train.labels_N, setup.labels_N
    assert set(labels_N[setup.labeled_N].tolist()) == {0, 2}
    assert [set(own_N[setup.labeled_N & (labels_N == label)].tolist()) for label in (0, 2)] == [{0}, {1}]
    assert (own_N[~setup.labeled_N] == -1).all()


def test_a_list_of_the_first_classes_is_their_number(data: ImageData, run: Callable[..., Any]) -> None:
    listed, counted = run(data, known_list="0,1", epochs=1), run(data, known_classes=2, epochs=1)
    assert listed.metrics == counted.metrics


@pytest.mark.parametrize("text", ["0,x", "0,0", "-1,2", "0;1", "0,,1"])
def test_a_bad_list_of_known_classes_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="known_list must be different whole numbers from 0 on"):
        build(Config, {"known_list": text})


def test_a_listed_class_that_the_data_lack_is_refused(data: ImageData) -> None:
    refused = dict(simgcd.limits(config(known_list="0,3"), data.shape))
    assert refused == {"known_list": "known_list must hold numbers below the 3 classes, but has 3"}


@pytest.mark.parametrize(("an_prior", "shares"), [("equal", None), ("unlabeled", [0.25, 0.25, 0.5])])
def test_the_prior_of_corrected_predictions_knows_that_labels_took_half_of_the_known_classes(
    an_prior: str, shares: list[float] | None
) -> None:
    prior_C = simgcd._prior(config(known_classes=2, an_prior=an_prior), 3, 3)
    assert (None if prior_C is None else pytest.approx(prior_C.tolist())) == shares
