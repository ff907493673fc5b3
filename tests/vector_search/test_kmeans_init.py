"""Where k-means starts: in every cluster once, whichever way the points are chosen."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import make_blobs

from trainables.vector_search import faiss_search, kmeans_init
from trainables.vector_search.faiss_search import FaissSearch

SEARCH = FaissSearch(1)


def starts(points_ND: NDArray[np.float32], k: int, seed: int = 0) -> NDArray[np.float32]:
    return kmeans_init.first_centroids(points_ND, k, np.random.default_rng(seed))


@pytest.fixture(params=["all points", "a sample", "a sample, step by step"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "all points":
        monkeypatch.setattr(kmeans_init, "ALL_MULTIPLY_ADDS", 0)
        monkeypatch.setattr(kmeans_init, "SAMPLE", 600)
    if "step" in request.param:
        monkeypatch.setattr(kmeans_init, "KEPT_DISTANCES", 0)
    return str(request.param)


@pytest.mark.parametrize("seed", range(5))
def test_every_separated_cluster_has_its_start(way: str, seed: int) -> None:
    points_ND, labels_N = make_blobs(3000, 8, centers=30, cluster_std=0.05, random_state=seed)
    points_ND = points_ND.astype("f4")
    found_KD = starts(points_ND, 30, seed)
    nearest_K = ((found_KD[:, None] - points_ND) ** 2).sum(2).argmin(1)
    assert sorted(labels_N[nearest_K].tolist()) == list(range(30))
    assert not (found_KD - points_ND[nearest_K]).any(), "a start is one of the points"


@pytest.mark.parametrize("k", [1, 7, 50])
def test_few_distinct_points_give_as_many_starts_as_asked_for(way: str, k: int) -> None:
    points_ND = np.repeat(np.eye(4, dtype=np.float32), 25, axis=0)
    found_KD = starts(points_ND, k)
    assert found_KD.shape == (k, 4)
    assert (found_KD.sum(1) == 1).all()


def test_the_same_seed_gives_the_same_starts_and_another_one_others(way: str) -> None:
    points_ND = np.random.default_rng(0).normal(size=(500, 4)).astype("f4")
    assert (starts(points_ND, 20) == starts(points_ND, 20)).all()
    assert (starts(points_ND, 20) != starts(points_ND, 20, seed=1)).any()


def test_distances_kept_or_computed_at_each_step_lead_to_the_same_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    points_ND = np.random.default_rng(0).normal(size=(400, 4)).astype("f4")
    kept_KD = starts(points_ND, 100)
    monkeypatch.setattr(kmeans_init, "KEPT_DISTANCES", 0)
    assert (starts(points_ND, 100) == kept_KD).all()


def test_five_points_a_cluster_start_nearly_as_well_as_all_and_far_better_than_chance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points_ND = make_blobs(5000, 16, centers=100, cluster_std=2.0, random_state=0)[0].astype("f4")

    def mean_inertia() -> float:
        return float(np.mean([SEARCH.kmeans(points_ND, 100, seed, 20, 1).inertia for seed in range(5)]))

    by_all = mean_inertia()
    monkeypatch.setattr(kmeans_init, "ALL_MULTIPLY_ADDS", 0)
    monkeypatch.setattr(kmeans_init, "SAMPLE", 500)
    assert mean_inertia() < 1.15 * by_all
    chance = [points_ND[np.random.default_rng(seed).choice(5000, 100, replace=False)] for seed in range(5)]
    monkeypatch.setattr(faiss_search, "first_centroids", lambda *_: chance.pop())
    assert mean_inertia() > 1.3 * by_all
