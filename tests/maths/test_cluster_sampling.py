"""Drawing images uniformly over clusters."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.maths.cluster_sampling import uniform_over_clusters


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_large_cluster_gives_no_image_twice_and_a_small_one_is_repeated() -> None:
    # 10 images, two clusters in use: 10 // 2 + 1 = 6 of each. Cluster 0 has 9 (without replacement), cluster 3 one.
    labels_N = torch.tensor([0] * 9 + [3])
    drawn = uniform_over_clusters(labels_N, 5, 10, generator()).tolist()
    of_large = [row for row in drawn if row < 9]
    assert len(drawn) == 10 and len(set(of_large)) == len(of_large)
    # Of twelve two are cut off at random.
    assert 4 <= drawn.count(9) <= 6


def test_a_cluster_exactly_as_large_as_its_share_is_drawn_with_replacement() -> None:
    # Two clusters of six, 10 wanted: six of each, and a cluster of six is not larger than that.
    labels_N = torch.arange(12) % 2
    twice = [uniform_over_clusters(labels_N, 2, 10, generator(seed)).unique().numel() < 10 for seed in range(5)]
    assert any(twice)


def test_the_order_mixes_the_clusters_and_comes_from_the_generator() -> None:
    labels_N = torch.arange(100) // 50
    first, same, other = (uniform_over_clusters(labels_N, 2, 100, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, same) and not torch.equal(first, other)
    assert 0 < int(labels_N[first[:20]].sum()) < 20


@given(st.lists(st.integers(0, 7), min_size=1, max_size=60), st.integers(1, 200))
def test_every_cluster_in_use_is_drawn_alike(labels: list[int], count: int) -> None:
    labels_N = torch.tensor(labels)
    drawn = uniform_over_clusters(labels_N, 8, count, generator())
    assert len(drawn) == count and 0 <= int(drawn.min()) and int(drawn.max()) < len(labels)
    used = labels_N.unique()
    met_C = torch.bincount(labels_N[drawn], minlength=8)
    most = count // len(used) + 1
    assert int(met_C.max()) <= most and int(met_C.sum()) == count
    assert set(met_C.nonzero().flatten().tolist()) <= set(used.tolist())


def test_the_mean_share_of_each_image_is_that_of_its_cluster() -> None:
    labels_N = torch.tensor([0] * 30 + [1] * 10)
    counts_N = torch.zeros(40)
    for seed in range(200):
        counts_N += torch.bincount(uniform_over_clusters(labels_N, 2, 40, generator(seed)), minlength=40)
    assert float(counts_N[:30].mean() / 200) == pytest.approx(20 / 30, abs=0.02)
    assert float(counts_N[30:].mean() / 200) == pytest.approx(20 / 10, abs=0.06)
