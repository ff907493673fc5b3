"""DeepCluster: pseudo-labels, what an epoch tells, and that nothing but the seed decides."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from trainables.interfaces import Clustering, DataShape, ImageData, Split
from trainables.runner.runtime import SingleProcess, StageRuntime
from trainables.settings import build
from trainables.stages import deepcluster
from trainables.stages.deepcluster import Config
from trainables.training.deepcluster import _drawn, _Round
from trainables.vector_search.faiss_search import FaissSearch

Train = Callable[..., Any]


def config(**changes: Any) -> Config:
    small = {
        "augmentation": "affine",
        "batch_size": 40,
        "num_clusters": 6,
        "clustering.pca_dim": 8,
        "epochs": 2,
        "optimizer.lr": 0.02,
    }
    return build(Config, {**small, **changes})


def interrupted(stage: Any, settings: Any, data: ImageData, after: int, inputs: Any = None) -> Any:
    """What was saved after some epochs, as it comes back from the disk."""
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), stage.NAMESPACE, 0, FaissSearch(1))
    steps = stage.train(settings, data, inputs or {}, runtime)
    for _ in range(after):
        epoch = next(steps)
    buffer = io.BytesIO()
    torch.save(dict(epoch.state()), buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("clustering", ["kmeans", "pic"])
def test_resumed_in_the_middle_it_ends_on_the_same_bits(train: Train, data: ImageData, clustering: str) -> None:
    settings = config(epochs=3, **{"clustering.method": clustering})
    whole = train(deepcluster, settings, data)
    saved = interrupted(deepcluster, settings, data, after=1)
    rest = train(deepcluster, settings, data, saved=saved)
    assert rest.metrics == whole.metrics[1:]
    for name, array in whole.result.arrays.items():
        np.testing.assert_array_equal(rest.result.arrays[name], array)
    for name, value in whole.result.weights["backbone"].items():
        assert torch.equal(rest.result.weights["backbone"][name], value)
    timeless = [{k: v for k, v in each.metrics.items() if "seconds" not in k} for each in (rest.result, whole.result)]
    assert timeless[0] == timeless[1]


def test_it_tells_patterns_apart(train: Train, union: ImageData) -> None:
    found = train(deepcluster, config(epochs=4), union).result.metrics
    assert found["acc"] > 0.9
    assert found["nmi"] > 0.8


def test_the_seed_decides_everything(train: Train, data: ImageData) -> None:
    first, same, other = (train(deepcluster, config(epochs=1), data, seed=seed) for seed in (0, 0, 1))
    assert first.metrics == same.metrics != other.metrics


def test_labels_change_no_weight(train: Train, data: ImageData) -> None:
    blind = replace(data, train=Split(data.train.images_NCHW, torch.full_like(data.train.labels_N, -1)))
    with_labels, without = (train(deepcluster, config(), each) for each in (data, blind))
    for name, value in with_labels.result.weights["backbone"].items():
        assert torch.equal(without.result.weights["backbone"][name], value)
    assert "pseudo_nmi" in with_labels.metrics[0] and "pseudo_nmi" not in without.metrics[0]


def test_agreement_between_epochs_is_told_from_the_second_on(train: Train, data: ImageData) -> None:
    done = train(deepcluster, config(), data)
    assert "assignment_nmi" not in done.metrics[0]
    assert 0 < done.metrics[1]["assignment_nmi"] <= 1
    assert 0 < done.result.metrics["assignment_nmi"] <= 1


def test_one_epoch_alone_has_a_criterion_too(train: Train, data: ImageData) -> None:
    assert "assignment_nmi" in train(deepcluster, config(epochs=1), data).result.metrics


def test_the_agreement_is_that_of_the_labels_of_both_epochs(
    train: Train, data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Everything moves to other numbers between the two clusterings: the same partition.
    turns = iter((0, 1, 1))

    def kmeans(self: FaissSearch, points_ND: Any, k: int, **rest: Any) -> Clustering:
        turn = next(turns, None)
        labels_N = (np.arange(len(points_ND)) % 3 + (turn or 0)) % k
        return Clustering(np.zeros((k, points_ND.shape[1]), np.float32), labels_N, np.zeros(len(labels_N)), 0.0, k - 3)

    monkeypatch.setattr(FaissSearch, "kmeans", kmeans)
    done = train(deepcluster, config(), data)
    assert done.metrics[1]["assignment_nmi"] == pytest.approx(1.0)
    assert done.metrics[1]["num_empty_train_clusters"] == 3.0
    assert done.metrics[1]["pseudo_nmi"] == pytest.approx(1.0)


def test_more_clusters_than_kinds_of_images_leave_some_empty_and_training_goes_on(train: Train) -> None:
    images_NCHW = torch.zeros(40, 1, 8, 8, dtype=torch.uint8)
    images_NCHW[::2, :, :4] = 200
    images_NCHW[1::4, :, :, :4] = 90
    part = Split(images_NCHW, torch.arange(40) % 2)
    copies = ImageData("copies", part, part, ("a", "b"), (0.3,), (0.3,), "copies")
    done = train(
        deepcluster, config(num_clusters=8, batch_size=10, **{"clustering.pca_dim": 2}, augmentation="eval"), copies
    )
    assert done.metrics[0]["num_empty_train_clusters"] > 0
    assert np.isfinite(done.metrics[1]["loss"])


def test_the_streamed_pca_trains_like_the_whole_one(train: Train, data: ImageData) -> None:
    # Signs of directions may differ, which k-means does not see; so do last bits.
    whole, streamed = (
        train(deepcluster, config(epochs=1, **{"clustering.incremental_pca": each}), data) for each in (False, True)
    )
    key = "mean_squared_distance"
    assert streamed.metrics[0][key] == pytest.approx(whole.metrics[0][key], rel=0.1)


def test_the_sampler_of_an_epoch_is_as_long_as_asked(data: ImageData) -> None:
    found = _Round(
        Clustering(np.zeros((2, 1), np.float32), np.zeros(120, np.int64), np.zeros(120, np.float32), 0.0, 1),
        torch.zeros(120, dtype=torch.int64), torch.ones(120), np.zeros((120, 1), np.float32), None, 0, False,
    )  # fmt: skip
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), "deepcluster", 0, FaissSearch(1))
    for share, count in ((1.0, 120), (0.25, 30), (2.5, 300)):
        for uniform in (True, False):
            settings = config(epochs_between_reassignments=share, uniform_sampler=uniform)
            assert len(_drawn(settings, found, runtime, 0)) == count
    passes = _drawn(config(uniform_sampler=False), found, runtime, 0)
    assert sorted(passes.tolist()) == list(range(120))


def test_two_ranks_split_the_features_and_put_them_together_again(data: ImageData) -> None:
    # Each rank extracts its half of a batch; what the gather returns here is the other's rows as well.
    from trainables.nets import backbones
    from trainables.training.deepcluster_features import Extractor

    backbone = backbones.build("small", in_channels=1, image_size_px=8, seed=0)

    def rows(rank: int, world_size: int) -> list[torch.Tensor]:
        given: list[torch.Tensor] = []

        class ProcessGroup(SingleProcess):
            def gather(self, rows: torch.Tensor) -> torch.Tensor:
                given.append(rows)
                return rows

        runtime = StageRuntime(ProcessGroup(torch.device("cpu"), rank, world_size), "deepcluster", 0, FaissSearch(1))
        extractor = Extractor(backbone, data, runtime, 50, None, 0, False)
        list(extractor._batches(data.train, 0))
        return given

    alone, first, second = rows(0, 1), rows(0, 2), rows(1, 2)
    assert [len(each) for each in first] == [len(each) for each in second] == [25, 25, 10]
    for whole, *halves in zip(alone, first, second, strict=True):
        torch.testing.assert_close(torch.cat(halves)[: len(whole)], whole)


@pytest.mark.parametrize(
    ("changes", "name", "sentence"),
    [
        ({"num_clusters": 200}, "num_clusters", "num_clusters must be at most the number of training images (120)"),
        ({"num_clusters": 0}, "", ""),
        ({"batch_size": 121}, "batch_size", "batch_size must be at most the number of training images (120)"),
        ({"clustering.pca_dim": 121}, "clustering.pca_dim", "pca_dim must be at most 120, the smaller of"),
        (
            {"clustering.method": "pic", "clustering.pic_neighbors": 120},
            "clustering.pic_neighbors",
            "pic_neighbors must be below the number of",
        ),
        (
            {"clustering.pca_dim": 0, "clustering.incremental_pca": True},
            "clustering.incremental_pca",
            "there is no PCA to fit",
        ),
        ({"network": "alexnet_dc"}, "network", "backbone alexnet_dc takes images of at least 64 px"),
    ],
)
def test_what_the_data_set_cannot_carry(changes: dict[str, Any], name: str, sentence: str) -> None:
    found = dict(deepcluster.limits(config(**changes), DataShape(120, 60, 3, 1, 8)))
    assert set(found) == ({name} if name else set())
    assert sentence in found.get(name, "")


def test_ten_clusters_for_each_class_must_fit_too() -> None:
    found = dict(deepcluster.limits(config(num_clusters=0, batch_size=10), DataShape(29, 60, 3, 1, 8)))
    assert "but is 30" in found["num_clusters"]


def test_features_that_are_not_finite_are_refused(train: Train, data: ImageData) -> None:
    with pytest.raises(FloatingPointError, match="features are not finite"):
        train(deepcluster, config(**{"optimizer.lr": 1e30}, epochs=3), data)
