"""PCA from a stream of batches equals PCA of the whole matrix."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trainables.maths.streaming_pca import Moments, column_scale
from trainables.vector_search.faiss_search import FaissSearch


def rows() -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((300, 12)) * np.arange(1, 13) + 5).astype(np.float32)


def streamed(rows_ND: NDArray[np.float32]) -> Moments:
    sums = Moments(rows_ND.shape[1], torch.device("cpu"))
    for part in np.array_split(rows_ND, 7):
        sums.add(torch.from_numpy(part))
    return sums


def test_it_equals_the_search_s_whitening_but_for_signs() -> None:
    rows_ND = rows()
    ours_NE = streamed(rows_ND).whitening(5).apply(rows_ND)
    theirs_NE = FaissSearch(1, "cpu").whiten(rows_ND, 5).apply(rows_ND)
    np.testing.assert_allclose(np.abs(ours_NE), np.abs(theirs_NE), atol=2e-4)


def test_whitened_directions_have_mean_0_variance_1_and_no_correlation() -> None:
    rows_ND = rows()
    points_NE = streamed(rows_ND).whitening(6).apply(rows_ND).astype(np.float64)
    np.testing.assert_allclose(points_NE.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(points_NE.T @ points_NE / len(points_NE), np.eye(6), atol=1e-4)


def test_a_direction_without_spread_becomes_zero_and_is_counted() -> None:
    rows_ND = np.concatenate([rows()[:, :3], np.zeros((300, 2), np.float32)], axis=1)
    fitted = streamed(rows_ND).whitening(4)
    assert fitted.num_flat == 1
    assert (fitted.apply(rows_ND)[:, 3] == 0).all()


def test_blocks_of_columns_weigh_the_same() -> None:
    # The total variance of each block is 1, whatever its width and scale.
    variance_D = torch.tensor([4.0, 4.0, 9.0, 0.0])
    scale_D = column_scale(variance_D, (1, 3))
    scaled_D = variance_D * scale_D**2
    assert scaled_D.tolist() == pytest.approx([1.0, 1 / 3, 1 / 3, 0.0])


def test_standardized_blocks_are_those_of_the_scaled_rows() -> None:
    rows_ND = rows()
    scale_D = column_scale(torch.from_numpy(rows_ND.var(axis=0, dtype=np.float64)), (4, 8)).float().numpy()
    expected_NE = FaissSearch(1, "cpu").whiten(rows_ND * scale_D, 3).apply(rows_ND * scale_D)
    found_NE = streamed(rows_ND).whitening(3, (4, 8)).apply(rows_ND)
    np.testing.assert_allclose(np.abs(found_NE), np.abs(expected_NE), atol=2e-3)


def test_rows_that_are_all_the_same_are_refused() -> None:
    with pytest.raises(ValueError, match="all the same"):
        streamed(np.ones((10, 3), np.float32)).whitening(2)


def test_rows_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="nan or inf"):
        streamed(np.full((10, 3), np.nan, np.float32)).whitening(2)
