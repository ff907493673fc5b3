"""Agreement of two clusterings above chance."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.training import view_agreement

CLUSTERS_N = torch.arange(300) % 3


def test_equal_clusterings_agree_wholly_whatever_the_clusters_are_called() -> None:
    assert view_agreement.above_chance(CLUSTERS_N, CLUSTERS_N) == pytest.approx(1.0)
    assert view_agreement.above_chance(CLUSTERS_N, (CLUSTERS_N + 1) % 3) == pytest.approx(1.0)


def test_one_cluster_for_all_agrees_with_nothing() -> None:
    one_N = torch.zeros(300, dtype=torch.int64)
    assert view_agreement.above_chance(one_N, one_N) == 0.0
    assert view_agreement.above_chance(CLUSTERS_N, one_N) == 0.0


def test_a_cluster_for_every_image_is_chance_alone() -> None:
    own_N = torch.arange(300)
    assert view_agreement.above_chance(own_N, own_N) == 0.0


@given(st.integers(0, 500))
def test_images_in_another_order_agree_about_as_chance_does(seed: int) -> None:
    order_N = torch.randperm(300, generator=torch.Generator().manual_seed(seed))
    assert 0.0 <= view_agreement.above_chance(CLUSTERS_N, CLUSTERS_N[order_N]) < 0.1
