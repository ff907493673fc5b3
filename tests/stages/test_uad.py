"""UAD: its two modules, each against DeepCluster and against what the paper's equations give."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from trainables.interfaces import DataShape, ImageData, Split
from trainables.maths import uncertainty
from trainables.nets import backbones, feature_maps
from trainables.runner.runtime import SingleProcess, StageRuntime
from trainables.settings import build
from trainables.stages import deepcluster, linear_probe, uad
from trainables.stages.uad import Config
from trainables.training.deepcluster import Weighting, _weights
from trainables.training.deepcluster_classifier import Learner
from trainables.training.deepcluster_features import Extractor, Fusion
from trainables.vector_search.faiss_search import FaissSearch

Train = Callable[..., Any]
SMALL: dict[str, Any] = {
    "augmentation": "affine",
    "batch_size": 40,
    "num_clusters": 6,
    "clustering.pca_dim": 8,
    "epochs": 2,
    "optimizer.lr": 0.02,
}
SHAPE = DataShape(120, 60, 3, 1, 8)


def config(**changes: Any) -> Config:
    return build(Config, {**SMALL, **changes})


def fused(data: ImageData, epoch: int = 0, batch_size: int = 50, **changes: Any) -> np.ndarray:
    """The matrix that is clustered before PCA, of an untrained network."""
    fusion = {
        "low_level_channels": 4,
        "channel_selection_scope": "per_run",
        "low_level_source": "pool1",
        "high_level_source": "top",
        "operation": "concat",
        "block_norm": "none",
        **changes,
    }
    backbone = backbones.build("small", in_channels=1, image_size_px=8, seed=0)
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), "uad", 0, FaissSearch(1))
    return Extractor(backbone, data, runtime, batch_size, Fusion(**fusion), 0, False)._matrix(data.train, epoch)


class AsDeepCluster:
    """UAD under DeepCluster's name, so that both draw the same random numbers."""

    NAMESPACE = "deepcluster"
    train = staticmethod(uad.train)


def test_with_both_modules_off_it_is_deepcluster_to_the_last_bit(train: Train, data: ImageData) -> None:
    ours = train(AsDeepCluster, config(fusion=False, uncertainty_weighting=False), data)
    theirs = train(deepcluster, build(deepcluster.Config, SMALL), data)
    assert ours.metrics == theirs.metrics
    for name, value in theirs.result.weights["backbone"].items():
        assert torch.equal(ours.result.weights["backbone"][name], value)


@pytest.mark.parametrize("off", ["fusion", "uncertainty_weighting"])
def test_each_module_changes_the_numbers(train: Train, data: ImageData, off: str) -> None:
    both, one = train(uad, config(epochs=1), data), train(uad, config(epochs=1, **{off: False}), data)
    assert both.metrics[0]["loss"] != one.metrics[0]["loss"]
    assert ("weight_mean" in one.metrics[0]) == (off == "fusion")


def test_the_fused_matrix_is_low_level_channels_then_the_high_level_feature(data: ImageData) -> None:
    # Four channels of 4 x 4 and 512.
    rows_ND = fused(data)
    assert rows_ND.shape == (120, 4 * 16 + 512)
    np.testing.assert_array_equal(rows_ND[:, 64:], fused(data, low_level_channels=1)[:, 16:])


def test_channels_stay_for_a_run_an_epoch_or_a_batch(data: ImageData) -> None:
    low = {
        (scope, epoch): fused(data, epoch, channel_selection_scope=scope)[:, :64]
        for scope in ("per_run", "per_epoch", "per_batch")
        for epoch in (0, 1)
    }
    np.testing.assert_array_equal(low["per_run", 0], low["per_run", 1])
    assert not np.array_equal(low["per_epoch", 0], low["per_epoch", 1])
    # The first batch of 50 sees the same channels under both, the second others.
    np.testing.assert_array_equal(low["per_batch", 1][:50], low["per_epoch", 1][:50])
    assert not np.array_equal(low["per_batch", 1][50:], low["per_epoch", 1][50:])


def test_unit_blocks_have_length_one(data: ImageData) -> None:
    rows_ND = fused(data, block_norm="l2_each")
    np.testing.assert_allclose(np.linalg.norm(rows_ND[:, :64], axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(rows_ND[:, 64:], axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("incremental", [False, True])
def test_standardized_blocks_weigh_the_same_in_the_pca(
    data: ImageData, incremental: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Making the low block a thousand times larger must not change what is clustered.
    from trainables.maths import fusion as fusing

    fuse = fusing.fuse
    backbone = backbones.build("small", in_channels=1, image_size_px=8, seed=0)
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), "uad", 0, FaissSearch(1))
    settings = Fusion(4, "per_run", "pool1", "top", "concat", "zscore_each")
    points = []
    for factor in (1.0, 1000.0):
        monkeypatch.setattr(fusing, "fuse", lambda low, high, factor=factor, **rest: fuse(factor * low, high, **rest))
        points.append(Extractor(backbone, data, runtime, 50, settings, 4, incremental).points(0).train_NE)
    similarity_NN = [each @ each.T for each in points]
    np.testing.assert_allclose(similarity_NN[0], similarity_NN[1], atol=5e-3)


@pytest.mark.parametrize("incremental", [False, True])
@pytest.mark.parametrize("block_norm", ["none", "l2_each", "zscore_each"])
def test_the_share_of_the_high_level_falls_as_the_low_level_drowns_it(
    data: ImageData, incremental: bool, block_norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainables.maths import fusion as fusing

    fuse = fusing.fuse
    backbone = backbones.build("small", in_channels=1, image_size_px=8, seed=0)
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), "uad", 0, FaissSearch(1))
    settings, shares = Fusion(4, "per_run", "pool1", "top", "concat", block_norm), []
    for factor in (1e-3, 1.0, 1e3):
        monkeypatch.setattr(fusing, "fuse", lambda low, high, factor=factor, **rest: fuse(factor * low, high, **rest))
        shares.append(Extractor(backbone, data, runtime, 50, settings, 4, incremental).points(0).high_level_share)
    if block_norm == "none":
        assert shares[0] == pytest.approx(1, abs=1e-3) and 1e-3 < shares[1] < 1 - 1e-3 and shares[2] < 1e-3
    else:
        assert shares == pytest.approx([shares[0]] * 3, abs=5e-3) and 0.01 < shares[0] < 0.99


def test_noise_is_the_same_in_every_pass_of_an_epoch_and_other_in_the_next(data: ImageData) -> None:
    one, again, next_one = (fused(data, operation="gaussian_noise", epoch=epoch) for epoch in (0, 0, 1))
    plain = fused(data)
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - next_one).max() > 0
    size_N = np.sqrt((plain**2).mean(axis=1, keepdims=True))
    assert ((one - plain) / size_N).std() == pytest.approx(0.1, rel=0.02)


def test_weights_are_those_of_the_clustering_s_own_distances(train: Train, data: ImageData) -> None:
    arrays = train(uad, config(uncertainty_offset=0.25), data).result.arrays
    expected_N = uncertainty.confidence_weights(
        torch.tensor(arrays["distances"]), torch.tensor(arrays["pseudo_labels"]), 6, offset=0.25,
        direction="confident_up",
    )  # fmt: skip
    np.testing.assert_array_equal(arrays["weights"], expected_N.numpy())
    assert arrays["weights"].min() == 0.25 and arrays["weights"].max() == 1.25


def weighting(**changes: Any) -> Weighting:
    usual = {
        "uncertainty_offset": 0.5,
        "distance": "squared_l2",
        "direction": "confident_up",
        "loss_form": "weighted_nll",
        "source_index": "image_id",
    }
    return Weighting(**{**usual, **changes})


def test_the_plain_distance_is_the_root_of_the_squared_one() -> None:
    # Distances 0, 1, 2: scaled to 0, 1/2, 1; their squares to 0, 1/4, 1.
    squared_N, labels_N = torch.tensor([0.0, 1.0, 4.0]), torch.zeros(3, dtype=torch.int64)
    assert _weights(weighting(distance="l2"), squared_N, labels_N).tolist() == [1.5, 1.0, 0.5]
    assert _weights(weighting(), squared_N, labels_N).tolist() == [1.5, 1.25, 0.5]


def test_figure_5_gives_an_image_the_weight_of_the_image_at_its_place_by_cluster() -> None:
    # By cluster the images are 1, 3, 0, 2; so image 1 gets the weight of image 0, image 3 that of image 1, and so on.
    squared_N, labels_N = torch.tensor([0.0, 1.0, 4.0, 3.0]), torch.tensor([1, 0, 1, 0])
    own_N = _weights(weighting(), squared_N, labels_N)
    assert own_N.tolist() == [1.5, 1.5, 0.5, 0.5]
    shuffled_N = _weights(weighting(source_index="cluster_order"), squared_N, labels_N)
    assert shuffled_N[[1, 3, 0, 2]].tolist() == own_N.tolist()


def test_the_normalized_loss_does_not_grow_with_the_offset(train: Train, data: ImageData) -> None:
    # With a huge offset all weights are alike, so that their scale alone differs.
    first = [
        train(uad, config(epochs=1, uncertainty_offset=offset, weighted_loss_form=form), data).metrics[0]["loss"]
        for form, offset in (("normalized", 50.0), ("weighted_nll", 50.0))
    ]
    assert first[1] / first[0] > 20


@pytest.mark.parametrize(
    ("changes", "name", "sentence"),
    [
        ({"low_level_channels": 33}, "low_level_channels", "at most 32, the channels of pool1, but is 33"),
        (
            {"clustering.pca_dim": 0, "fusion_block_norm": "zscore_each"},
            "fusion_block_norm",
            "is part of the PCA, but pca_dim",
        ),
        ({"network": "alexnet_dc"}, "network", "at least 64 px"),
        ({"num_clusters": 121}, "num_clusters", "at most the number of training images (120)"),
        ({"clustering.pca_dim": 119, "high_level_source": "last_pool"}, "", ""),
    ],
)
def test_what_the_data_set_cannot_carry(changes: dict[str, Any], name: str, sentence: str) -> None:
    found = dict(uad.limits(config(**changes), SHAPE))
    assert set(found) == ({name} if name else set())
    assert sentence in found.get(name, "")


def test_the_fused_row_may_be_wider_than_the_high_level_feature_alone() -> None:
    shape = DataShape(2000, 60, 3, 1, 8)
    assert not dict(uad.limits(config(**{"clustering.pca_dim": 600}), shape))
    assert (
        "at most 512"
        in dict(uad.limits(config(**{"clustering.pca_dim": 600}, fusion=False), shape))["clustering.pca_dim"]
    )


def test_settings_of_a_module_that_is_off_do_not_count() -> None:
    from trainables.settings import effective

    on, off = effective(config()), effective(config(fusion=False, uncertainty_weighting=False))
    assert {"low_level_channels", "uncertainty_offset"} <= set(on) - set(off)
    assert set(off) - {"fusion", "uncertainty_weighting"} == set(effective(build(deepcluster.Config, SMALL)))


@pytest.mark.parametrize("seen", ["high", "fused"])
def test_resumed_in_the_middle_it_ends_on_the_same_bits(train: Train, data: ImageData, seen: str) -> None:
    settings = config(epochs=3, channel_selection_scope="per_epoch", classifier_input=seen)
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), "uad", 0, FaissSearch(1))
    steps = uad.train(settings, data, {}, runtime)
    next(steps)
    saved = copy.deepcopy(next(steps).state())
    whole, rest = train(uad, settings, data), train(uad, settings, data, saved=saved)
    assert rest.metrics == whole.metrics[2:]
    np.testing.assert_array_equal(rest.result.arrays["weights"], whole.result.arrays["weights"])


def test_alexnet_trains_on_fused_features_with_dropout_and_resumes_to_the_same_bits(train: Train) -> None:
    generator = torch.Generator().manual_seed(0)
    part = Split(torch.randint(0, 256, (8, 3, 64, 64), generator=generator, dtype=torch.uint8), torch.arange(8) % 2)
    images = ImageData("noise", part, part, ("a", "b"), (0.5,) * 3, (0.3,) * 3, "noise")
    settings = build(
        Config,
        {
            "network": "alexnet_dc",
            "num_clusters": 3,
            "clustering.pca_dim": 4,
            "batch_size": 8,
            "epochs": 2,
            "low_level_channels": 1,
        },
    )
    assert not dict(uad.limits(settings, images.shape))
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), "uad", 0, FaissSearch(1))
    steps = uad.train(settings, images, {}, runtime)
    rest = train(uad, settings, images, saved=copy.deepcopy(next(steps).state()))
    expected = next(steps).metrics
    assert rest.metrics[0]["loss"] == expected["loss"]
    assert (rest.result.facts["network"], rest.result.facts["sobel"]) == ("alexnet_dc", True)
    assert rest.result.facts["fusion"]["low_level_source"] == "pool1"
    probe = train(linear_probe, linear_probe.Config(batch_size=8, epochs=1), images, {"probed": rest.result})
    assert probe.result.facts["layers"] == ["conv1", "conv2", "conv3", "conv4", "conv5", "output"]


def test_the_classifier_may_see_the_kept_low_level_channels_too(data: ImageData) -> None:
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), "uad", 0, FaissSearch(1))
    fusion = Fusion(4, "per_epoch", "pool1", "top", "concat", "none", for_classifier=True)
    learner = Learner(config(), data, runtime, fusion)
    trained, _ = learner.fresh_classifier(6, epoch=0)
    assert learner.classifier is not None
    first_C = learner.classifier.low_C
    images_BCHW = torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        learner.classifier.eval()
        low_BCHW = feature_maps.collect(learner.backbone, images_BCHW, ("pool1",))["pool1"]
        seen_BD = torch.cat([low_BCHW[:, first_C].flatten(1), learner.backbone(images_BCHW)], dim=1)
        assert torch.equal(trained(images_BCHW), learner.classifier.top(seen_BD))
    assert seen_BD.shape[1] == 4 * 16 + learner.backbone.width
    learner.fresh_classifier(6, epoch=1)
    assert not torch.equal(learner.classifier.low_C, first_C)


def test_what_the_classifier_sees_changes_the_training(train: Train, data: ImageData) -> None:
    high, both = train(uad, config(epochs=1), data), train(uad, config(epochs=1, classifier_input="fused"), data)
    assert high.metrics[0]["loss"] != both.metrics[0]["loss"]
