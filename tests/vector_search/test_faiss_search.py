"""Neighbor search and k-means: hand-worked cases, a brute-force oracle, and what is refused."""

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, make_blobs

from trainables.vector_search import faiss_search
from trainables.vector_search.faiss_search import FaissSearch

SEARCH = FaissSearch(1, "cpu")


def floats(*rows: object) -> NDArray[np.float32]:
    return np.array(rows, dtype=np.float32)


# --- kNN ---------------------------------------------------------------------------------------------------------


def test_l2_neighbors_of_four_points_on_a_line() -> None:
    # Points 0, 1, 3, 7: from 3 the squared distances are 9, 4, 0, 16.
    distances_NK, neighbors_NK = SEARCH.knn(floats([0], [1], [3], [7]), None, 3, "l2")
    assert neighbors_NK.tolist() == [[0, 1, 2], [1, 0, 2], [2, 1, 0], [3, 2, 1]]
    assert distances_NK[2].tolist() == [0, 4, 9]
    assert (distances_NK.dtype, neighbors_NK.dtype) == (np.float32, np.int64)


def test_inner_product_neighbors_are_the_most_similar_first() -> None:
    base_ND = floats([1, 0], [0, 1], [0.6, 0.8])
    similarities_MK, neighbors_MK = SEARCH.knn(base_ND, floats([1, 0]), 3, "inner_product")
    assert neighbors_MK.tolist() == [[0, 2, 1]]
    np.testing.assert_allclose(similarities_MK, [[1, 0.6, 0]], rtol=1e-6)


@pytest.mark.parametrize("metric", ["inner_product", "l2"])
def test_neighbors_equal_brute_force_in_double_precision(metric: str) -> None:
    rng = np.random.default_rng(0)
    base_ND, queries_MD = rng.standard_normal((5000, 32)).astype("f4"), rng.standard_normal((70, 32)).astype("f4")
    wide_ND, wide_MD = base_ND.astype("f8"), queries_MD.astype("f8")
    if metric == "inner_product":
        values_MN = wide_MD @ wide_ND.T
        order_MN = np.argsort(-values_MN, axis=1)
    else:
        values_MN = ((wide_MD[:, None] - wide_ND) ** 2).sum(axis=2)
        order_MN = np.argsort(values_MN, axis=1)
    values_MK, neighbors_MK = SEARCH.knn(base_ND, queries_MD, 10, metric)
    np.testing.assert_array_equal(neighbors_MK, order_MN[:, :10])
    np.testing.assert_allclose(values_MK, np.take_along_axis(values_MN, neighbors_MK, axis=1), rtol=1e-4)


@pytest.mark.parametrize("metric", ["inner_product", "l2"])
def test_in_half_precision_the_base_is_rounded_and_nothing_else(metric: str) -> None:
    rng = np.random.default_rng(0)
    base_ND, queries_MD = rng.standard_normal((3000, 32)).astype("f4"), rng.standard_normal((50, 32)).astype("f4")
    rounded_ND = base_ND.astype("f2").astype("f4")
    got_MK, neighbors_MK = SEARCH.knn(base_ND, queries_MD, 10, metric, half=True)
    wanted_MK, wanted_neighbors_MK = SEARCH.knn(rounded_ND, queries_MD, 10, metric)
    np.testing.assert_array_equal(neighbors_MK, wanted_neighbors_MK)
    # A value halfway between two of float16 may go to the other side.
    np.testing.assert_allclose(got_MK, wanted_MK, rtol=5e-4)
    whole_MK, _ = SEARCH.knn(base_ND, queries_MD, 10, metric)
    assert np.abs(got_MK - whole_MK).max() > 1e-6, "nothing was rounded"


def test_in_half_precision_a_row_is_its_own_first_neighbor() -> None:
    base_ND = np.random.default_rng(0).standard_normal((300, 16)).astype("f4")
    _, neighbors_NK = SEARCH.knn(base_ND, None, 5, "l2", half=True)
    assert (neighbors_NK[:, 0] == np.arange(300)).all()
    assert all(len(set(row)) == 5 for row in neighbors_NK.tolist())


def test_values_that_half_precision_has_not_are_refused_with_their_row() -> None:
    with pytest.raises(ValueError, match=r"base_ND row 1 is beyond float16 \(65504\); normalize the rows"):
        SEARCH.knn(floats([1], [70_000]), None, 1, "l2", half=True)
    assert SEARCH.knn(floats([1], [70_000]), None, 1, "l2")[1].tolist() == [[0], [1]]


@pytest.mark.parametrize("metric", ["inner_product", "l2"])
def test_a_row_is_its_own_first_neighbor_even_among_copies(metric: str) -> None:
    # 300 copies of one direction: FAISS alone lists some copy first, and often not the row itself among the k.
    base_ND = np.tile(floats([0.6, 0.8]), (300, 1))
    _, neighbors_NK = SEARCH.knn(base_ND, None, 5, metric)
    assert (neighbors_NK[:, 0] == np.arange(300)).all()
    assert all(len(set(row)) == 5 for row in neighbors_NK.tolist())


def test_a_row_comes_first_although_a_longer_one_is_more_similar() -> None:
    # <a, a> = 1 and <a, b> = 3.
    similarities_NK, neighbors_NK = SEARCH.knn(floats([1, 0], [3, 0]), None, 2, "inner_product")
    assert neighbors_NK.tolist() == [[0, 1], [1, 0]]
    assert similarities_NK.tolist() == [[1, 3], [9, 3]]


@pytest.mark.parametrize("metric", ["inner_product", "l2"])
def test_ties_are_broken_by_index_also_at_the_last_place(metric: str) -> None:
    # Every base row is as near to the query as the others, so the first three are the answer.
    base_ND = np.tile(floats([0, 1]), (200, 1))
    _, neighbors_MK = SEARCH.knn(base_ND, floats([0, 1]), 3, metric)
    assert neighbors_MK.tolist() == [[0, 1, 2]]


def test_self_is_left_out_of_ties_and_the_others_stay_in_order() -> None:
    _, neighbors_NK = SEARCH.knn(np.ones((50, 2), np.float32), None, 4, "l2")
    assert neighbors_NK[2].tolist() == [2, 0, 1, 3]
    assert neighbors_NK[40].tolist() == [40, 0, 1, 2]


@pytest.mark.parametrize("metric", ["inner_product", "l2"])
def test_a_smaller_k_is_a_prefix_of_a_larger_one_bit_by_bit(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Rounded values tie often, and 450 rows make three batches of queries.
    monkeypatch.setattr(faiss_search, "ROWS_PER_SEARCH", 200)
    base_ND = np.random.default_rng(1).integers(-2, 3, (450, 4)).astype("f4") + np.float32(0.1)
    values_NK, neighbors_NK = SEARCH.knn(base_ND, None, 128, metric)
    for k in (1, 5, 64):
        fewer_values_NK, fewer_neighbors_NK = SEARCH.knn(base_ND, None, k, metric)
        np.testing.assert_array_equal(fewer_values_NK, values_NK[:, :k])
        np.testing.assert_array_equal(fewer_neighbors_NK, neighbors_NK[:, :k])


def test_a_row_of_a_later_batch_of_queries_is_still_its_own_first_neighbor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss_search, "ROWS_PER_SEARCH", 2)
    _, neighbors_NK = SEARCH.knn(floats([0], [1], [3], [7], [15]), None, 2, "l2")
    assert neighbors_NK.tolist() == [[0, 1], [1, 0], [2, 1], [3, 2], [4, 3]]


def test_k_may_be_all_rows() -> None:
    _, neighbors_NK = SEARCH.knn(floats([0], [1], [5]), None, 3, "l2")
    assert neighbors_NK.tolist() == [[0, 1, 2], [1, 0, 2], [2, 1, 0]]


def test_a_single_row_has_itself() -> None:
    distances_NK, neighbors_NK = SEARCH.knn(floats([2, 3]), None, 1, "l2")
    assert (distances_NK.tolist(), neighbors_NK.tolist()) == ([[0]], [[0]])


def test_arrays_may_be_read_only_and_not_contiguous() -> None:
    base_ND = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(6, 2))
    base_ND.setflags(write=False)
    assert SEARCH.knn(base_ND, base_ND[::2], 1, "l2")[1].tolist() == [[0], [2], [4]]
    assert SEARCH.kmeans(base_ND, 2, 0, 5, 1).labels_N.shape == (6,)


@pytest.mark.parametrize(
    ("base", "queries", "k", "metric", "message"),
    [
        (floats([0], [1]), None, 3, "l2", "k must be at least 1 and at most 2, the rows of base_ND, but is 3."),
        (floats([0], [1]), None, 0, "l2", "k must be at least 1 and at most 2, the rows of base_ND, but is 0."),
        (floats([0], [1]), None, 1, "cosine", "metric must be one of inner_product, l2, but is 'cosine'."),
        (floats([0], [np.nan], [1]), None, 1, "l2", r"base_ND row 1 holds nan or inf \(1 such rows\)"),
        (floats([0]), floats([1], [np.inf]), 1, "l2", r"queries_MD row 1 holds nan or inf"),
        (floats([1], [0]), None, 1, "inner_product", r"base_ND row 1 is all zeros and has no direction"),
        (floats([1]), floats([0]), 1, "inner_product", r"queries_MD row 0 is all zeros"),
        (np.zeros((2, 2)), None, 1, "l2", r"base_ND must be a float32 NumPy array .* but is float64 of shape \(2, 2\)"),
        (floats(1, 2), None, 1, "l2", r"of shape \(rows, width\), not empty, but is float32 of shape \(2,\)"),
        (np.zeros((0, 2), np.float32), None, 1, "l2", r"not empty, but is float32 of shape \(0, 2\)"),
        ([[1.0]], None, 1, "l2", "base_ND must be a float32 NumPy array .* but is a list"),
        (floats([1]), floats([1, 2]), 1, "l2", "queries_MD must be as wide as base_ND, .* 2 values instead of 1"),
        (floats([1e30], [-1e30]), None, 2, "l2", "l2 values are beyond float32; normalize the rows first"),
        (floats([1e30], [-1e30]), None, 2, "inner_product", "inner_product values are beyond float32"),
    ],
)
def test_knn_refuses(base: object, queries: object, k: int, metric: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SEARCH.knn(base, queries, k, metric)


def test_zero_rows_are_fine_for_distances() -> None:
    assert SEARCH.knn(floats([0, 0], [1, 0]), None, 2, "l2")[0].tolist() == [[0, 1], [0, 1]]


# --- k-means -----------------------------------------------------------------------------------------------------


def test_two_pairs_of_points_are_two_clusters() -> None:
    # Centers (0, .5) and (10, .5); each point is .5 away, so inertia is 4 * .25.
    found = SEARCH.kmeans(floats([0, 0], [0, 1], [10, 0], [10, 1]), 2, seed=0, iterations=10, restarts=3)
    assert sorted(found.centroids_CD.tolist()) == [[0, 0.5], [10, 0.5]]
    assert found.labels_N[0] == found.labels_N[1] != found.labels_N[2] == found.labels_N[3]
    assert found.distances_N.tolist() == [0.25] * 4
    assert (found.inertia, found.num_empty) == (1.0, 0)


@pytest.mark.parametrize(("name", "k"), [("digits", 10), ("blobs", 10), ("many blobs", 40)])
def test_inertia_is_within_two_percent_of_scikit_learns(name: str, k: int) -> None:
    if name == "digits":
        points_ND = (load_digits().data / 16).astype("f4")
    else:
        points_ND = make_blobs(1500, 32, centers=k, cluster_std=3.0, random_state=0)[0].astype("f4")
    ours = SEARCH.kmeans(points_ND, k, seed=0, iterations=100, restarts=10).inertia
    assert ours <= 1.02 * KMeans(k, n_init=10, random_state=0).fit(points_ND).inertia_


def test_no_point_is_left_out_of_a_large_set() -> None:
    # FAISS's own limit is 256 points a cluster; with one cluster the centroid must be the mean of all.
    points_ND = np.random.default_rng(0).standard_normal((3000, 2)).astype("f4")
    centroid_CD = SEARCH.kmeans(points_ND, 1, 0, 5, 1).centroids_CD
    np.testing.assert_allclose(centroid_CD[0], points_ND.mean(axis=0), atol=1e-5)


def test_the_seed_decides_the_result_bit_by_bit() -> None:
    points_ND = np.random.default_rng(0).standard_normal((500, 8)).astype("f4")
    first, again, other = (SEARCH.kmeans(points_ND, 20, seed, 3, 2) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.centroids_CD, again.centroids_CD)
    np.testing.assert_array_equal(first.labels_N, again.labels_N)
    assert not np.array_equal(first.centroids_CD, other.centroids_CD)


def test_more_restarts_are_never_worse() -> None:
    points_ND = make_blobs(400, 8, centers=20, random_state=1)[0].astype("f4")
    inertias = [SEARCH.kmeans(points_ND, 20, 0, 20, restarts).inertia for restarts in (1, 3, 9)]
    assert inertias == sorted(inertias, reverse=True)


def test_clusters_that_stay_empty_are_counted() -> None:
    # All points are one point: four of five clusters have nothing to hold.
    found = SEARCH.kmeans(np.ones((50, 3), np.float32), 5, 0, 10, 1)
    assert found.num_empty == 5 - len(set(found.labels_N.tolist())) == 4
    assert found.centroids_CD.shape == (5, 3)
    assert found.inertia == pytest.approx(0, abs=1e-3)


def test_as_many_clusters_as_points_leave_no_inertia() -> None:
    found = SEARCH.kmeans(floats([0], [1], [4]), 3, 0, 5, 1)
    assert (found.inertia, found.num_empty) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((floats([0], [1]), 3, 0, 1, 1), "k must be at least 1 and at most 2, the rows of points_ND, but is 3"),
        ((floats([0], [np.nan]), 1, 0, 1, 1), "points_ND row 1 holds nan or inf"),
        ((floats([0], [1]), 1, -1, 1, 1), r"seed must be at least 0 and below 2\*\*31, but is -1"),
        ((floats([0], [1]), 1, 0, 0, 1), "iterations must be at least 1, but is 0"),
        ((floats([0], [1]), 1, 0, 1, 0), "restarts must be at least 1, but is 0"),
    ],
)
def test_kmeans_refuses(arguments: tuple[NDArray[np.float32], int, int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SEARCH.kmeans(*arguments)


def test_assign_gives_the_nearest_centroid_and_its_squared_distance() -> None:
    labels_N, distances_N = SEARCH.assign(floats([0, 1], [9, 0]), floats([0, 0], [10, 0]))
    assert (labels_N.tolist(), distances_N.tolist()) == ([0, 1], [1, 1])


def test_assign_refuses_centroids_of_another_width() -> None:
    with pytest.raises(ValueError, match="points_ND must be as wide as centroids_CD, .* 2 values instead of 1"):
        SEARCH.assign(floats([0, 1]), floats([0]))


def test_a_small_distance_keeps_its_digits_far_from_the_origin() -> None:
    # Expanding the square at 1000 would round 0.01 ** 2 away.
    _, distances_N = SEARCH.assign(floats([1000.0, 1000.0]), floats([1000.0, 1000.25]))
    assert distances_N.tolist() == [0.0625]


# --- threads and devices -----------------------------------------------------------------------------------------


def test_a_call_runs_with_its_own_threads_and_gives_the_old_number_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    nearest = faiss_search._nearest
    monkeypatch.setattr(faiss_search, "_nearest", lambda *a: (seen.append(faiss.omp_get_max_threads()), nearest(*a))[1])
    before = faiss.omp_get_max_threads()
    FaissSearch(before + 3, "cpu").knn(floats([0], [1]), None, 1, "l2")
    assert (seen, faiss.omp_get_max_threads()) == ([before + 3], before)


def test_bad_threads_and_absent_gpus_are_refused() -> None:
    with pytest.raises(ValueError, match="threads must be at least 1, but is 0"):
        FaissSearch(0)
    with pytest.raises(ValueError, match="device must be cpu, auto or below .*, the visible GPUs, but is 99"):
        FaissSearch(1, 99)


@pytest.mark.gpu
@pytest.mark.skipif(faiss.get_num_gpus() == 0, reason="needs a GPU")
def test_the_gpu_finds_the_neighbors_that_the_cpu_finds() -> None:
    base_ND = np.random.default_rng(0).standard_normal((5000, 64)).astype("f4")
    for metric in ("inner_product", "l2"):
        on_gpu, on_cpu = FaissSearch(1, 0).knn(base_ND, None, 20, metric), SEARCH.knn(base_ND, None, 20, metric)
        assert (on_gpu[1] == on_cpu[1]).mean() > 0.999
        np.testing.assert_allclose(on_gpu[0], on_cpu[0], rtol=1e-3, atol=1e-3)


# --- PCA and power iteration clustering --------------------------------------------------------------------------


def test_whitened_points_are_those_of_a_singular_value_decomposition() -> None:
    points_ND = np.random.default_rng(0).standard_normal((200, 6)).astype("f4") * floats(1, 2, 3, 4, 5, 6) + 1
    found_NE = SEARCH.whiten(points_ND, 3).apply(points_ND)
    centered_ND = points_ND.astype("f8") - points_ND.mean(0, dtype="f8")
    left_NE = np.linalg.svd(centered_ND, full_matrices=False)[0][:, :3] * np.sqrt(200)
    np.testing.assert_allclose(np.abs(found_NE), np.abs(left_NE), atol=1e-4)


def test_whitening_fits_all_points_and_not_a_sample_of_them() -> None:
    # FAISS takes 1,000 points for each dimension; 2,500 in one dimension, the last of them far out.
    points_ND = np.zeros((2500, 1), np.float32)
    points_ND[:1250] = 1
    points_ND[-1] = 1000
    whitened_NE = SEARCH.whiten(points_ND, 1).apply(points_ND)
    assert whitened_NE.std() == pytest.approx(1.0, abs=1e-4)


def test_a_direction_without_spread_is_zero_and_counted_instead_of_infinite() -> None:
    points_ND = np.random.default_rng(0).standard_normal((50, 4)).astype("f4")
    points_ND[:, 2:] = 0
    fitted = SEARCH.whiten(points_ND, 3)
    assert fitted.num_flat == 1
    assert np.isfinite(fitted.apply(points_ND)).all() and (fitted.apply(points_ND)[:, 2] == 0).all()


def test_whitening_repeats_bit_by_bit() -> None:
    points_ND = np.random.default_rng(0).standard_normal((100, 20)).astype("f4")
    first, second = SEARCH.whiten(points_ND, 5), SEARCH.whiten(points_ND.copy(), 5)
    np.testing.assert_array_equal(first.matrix_DE, second.matrix_DE)


@pytest.mark.parametrize(
    ("points", "dim", "message"),
    [
        (floats([1, 2], [3, 4], [5, 7]), 3, "dim must be at least 1 and at most 2, the smaller side of points_ND, but"),
        (floats([1, 2], [3, 4]), 0, "dim must be at least 1"),
        (floats([1, np.nan], [3, 4]), 1, "points_ND row 0 holds nan or inf"),
        (floats([1, 2], [1, 2], [1, 2]), 1, "points_ND are all the same"),
    ],
)
def test_what_cannot_be_whitened_is_refused(points: NDArray[np.float32], dim: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SEARCH.whiten(points, dim)


@pytest.mark.parametrize(
    ("neighbors", "sigma", "damping", "message"),
    [
        (3, 0.2, 0.001, "neighbors must be at least 1 and below 3, the rows of points_ND, but is 3"),
        (1, 0.0, 0.001, "sigma must be above 0"),
        (1, 0.2, 1.0, "damping above 0 and below 1"),
    ],
)
def test_what_power_iteration_cannot_cluster_is_refused(
    neighbors: int, sigma: float, damping: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SEARCH.pic(floats([1, 2], [3, 4], [5, 6]), neighbors, sigma, damping)
