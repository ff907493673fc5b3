"""Agreement of repeated clusterings, and clusters that are merged."""

import numpy as np
import pytest
import torch

from trainables.maths import num_clusters


def test_the_names_of_the_clusters_do_not_matter() -> None:
    assert num_clusters.adjusted_rand(np.array([0, 0, 1, 1, 2]), np.array([2, 2, 0, 0, 1])) == 1.0


def test_the_adjusted_rand_index_of_a_small_table_by_hand() -> None:
    # Table [[2, 0], [1, 1]]: 1 pair together in both; 1 + 1 = 2 in the rows, 3 in the columns, 6 in all.
    # Expected 2 * 3 / 6 = 1, so (1 - 1) / (2.5 - 1) = 0.
    assert num_clusters.adjusted_rand(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])) == pytest.approx(0.0)


def test_every_pair_is_compared_and_one_clustering_has_none() -> None:
    a, b = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    # Of a and b: table of ones, no pair together in both: (0 - 4/6) / (2 - 4/6) = -1/2.
    assert num_clusters.agreements([a, b, a]) == pytest.approx((-0.5, 1.0, -0.5))
    assert num_clusters.agreements([a]) == ()


def test_the_two_clusters_that_share_their_images_are_merged_first() -> None:
    # The images of clusters 0 and 2 lie between both; cluster 1 stands alone; 3 is nobody's.
    rows_NC = np.array([[0.6, 0.0, 0.4, 0.0], [0.4, 0.0, 0.6, 0.0], [0.0, 0.9, 0.05, 0.05], [0.55, 0.0, 0.45, 0.0]])
    by_size = num_clusters.merged(rows_NC, [4, 2, 1])
    assert by_size[4].tolist() == [0, 2, 1, 0]
    assert by_size[2].tolist() == [0, 0, 1, 0]
    assert by_size[1].tolist() == [0, 0, 0, 0]


def test_halves_of_blobs_are_put_together_again() -> None:
    generator = torch.Generator().manual_seed(0)
    truth_N = torch.arange(90) % 3
    points_ND = torch.eye(3)[truth_N] * 6 + torch.randn(90, 3, generator=generator)
    centers_CD = torch.cat([torch.eye(3) * 6 + 0.5, torch.eye(3) * 6 - 0.5])
    rows_NC = (-torch.cdist(points_ND, centers_CD)).softmax(1).numpy()
    found_N = num_clusters.merged(rows_NC, [3])[3]
    assert num_clusters.adjusted_rand(found_N, truth_N.numpy()) == 1.0


def test_a_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 cluster"):
        num_clusters.merged(np.eye(3), [0])
