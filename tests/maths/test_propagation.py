"""Label propagation against hand-worked numbers, the exact solution, and SciPy's solver class by class."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags, identity
from scipy.sparse.linalg import cg

from trainables.maths import propagation, spc_labels
from trainables.maths.propagation import knn_graph, propagate, propagate_dense

POINTS_ND = np.array([[1, 0], [0.9, 0.1], [0.1, 0.9], [0, 1], [0.6, 0.5]])
POINTS_ND /= np.linalg.norm(POINTS_ND, axis=1, keepdims=True)


def nearest(points_ND: NDArray[np.float64], k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The k + 1 most similar rows, the row itself among them."""
    similarity_NN = points_ND @ points_ND.T
    neighbors_NK = np.argsort(-similarity_NN, axis=1, kind="stable")[:, : k + 1]
    return np.take_along_axis(similarity_NN, neighbors_NK, axis=1), neighbors_NK


def blobs(num_images: int, num_classes: int, seed: int = 0) -> tuple[csr_matrix, torch.Tensor]:
    """A neighbor graph of noisy directions, and one-hot labels for about a fifth of them."""
    rng = np.random.default_rng(seed)
    class_N = rng.integers(num_classes, size=num_images)
    points_ND = rng.normal(size=(num_classes, 8))[class_N] + 0.7 * rng.normal(size=(num_images, 8))
    points_ND /= np.linalg.norm(points_ND, axis=1, keepdims=True)
    labels_NC = np.eye(num_classes)[class_N] * (rng.random(num_images) < 0.2)[:, None]
    return knn_graph(*nearest(points_ND, 10)), torch.from_numpy(labels_NC)


def test_the_graph_of_five_points_has_the_golden_weights() -> None:
    similarities_NK, neighbors_NK = nearest(POINTS_ND, 2)
    golden = {(0, 1): 0.993884, (0, 4): 0.768221, (1, 4): 0.834219, (2, 3): 0.993884, (2, 4): 0.721105}
    golden[3, 4] = 0.640184
    weights_NN = np.zeros((5, 5))
    for (row, column), weight in golden.items():
        weights_NN[row, column] = weights_NN[column, row] = weight
    scale_N = weights_NN.sum(axis=1) ** -0.5
    expected_NN = scale_N[:, None] * weights_NN * scale_N
    np.testing.assert_allclose(knn_graph(similarities_NK, neighbors_NK).toarray(), expected_NN, atol=1e-6)


@pytest.mark.parametrize("solver", ["cg", "dense"])
def test_five_points_get_the_golden_distributions(solver: str) -> None:
    graph = knn_graph(*nearest(POINTS_ND, 2))
    labels_NC = torch.zeros(5, 2, dtype=torch.float64)
    labels_NC[0, 0] = labels_NC[3, 1] = 1.0
    if solver == "dense":
        probabilities_NC = propagate_dense(graph, labels_NC, decay=0.99)
    else:
        probabilities_NC, _ = propagate(graph, labels_NC, decay=0.99, tolerance=1e-10)
    first_N = [0.529818, 0.520863, 0.496633, 0.487143, 0.509991]
    torch.testing.assert_close(
        probabilities_NC, torch.tensor([[p, 1 - p] for p in first_N], dtype=torch.float64), atol=1e-6, rtol=0
    )


def test_an_image_is_no_neighbor_of_itself_wherever_it_stands() -> None:
    graph = knn_graph(np.array([[0.5, 1.0], [1.0, 0.5]]), np.array([[1, 0], [1, 0]]))
    np.testing.assert_allclose(graph.toarray(), [[0, 1], [1, 0]])


def test_the_larger_of_two_one_way_weights_counts_and_negative_ones_are_dropped() -> None:
    # 0-1 weighs 0.8 (one way 0.2), 1-2 is negative: degrees 0.8, 0.8, 0; 0.8 / 0.8 = 1.
    graph = knn_graph(np.array([[0.8], [0.2], [-0.3]]), np.array([[1], [0], [1]]))
    np.testing.assert_allclose(graph.toarray(), [[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert graph.nnz == 2


def test_an_isolated_image_keeps_its_label_and_an_unreached_one_stays_zero() -> None:
    graph = knn_graph(np.array([[1.0], [1.0], [-1.0], [-1.0]]), np.array([[1], [0], [0], [0]]))
    labels_NC = torch.tensor([[1.0, 0], [0, 0], [0, 1], [0, 0]])
    probabilities_NC, _ = propagate(graph, labels_NC, decay=0.9)
    assert probabilities_NC.tolist() == [[1, 0], [1, 0], [0, 1], [0, 0]]


def test_a_class_without_a_label_keeps_a_zero_column() -> None:
    graph, labels_NC = blobs(60, 3)
    labels_NC[:, 1] = 0
    probabilities_NC, _ = propagate(graph, labels_NC, decay=0.99)
    assert not bool(probabilities_NC[:, 1].any())
    assert bool(probabilities_NC[:, 0].any())


def test_without_any_label_everything_stays_zero() -> None:
    graph, labels_NC = blobs(60, 3)
    probabilities_NC, report = propagate(graph, torch.zeros_like(labels_NC), decay=0.99)
    assert not bool(probabilities_NC.any())
    assert report == propagation.Report("cg", 0, 0, 0.0)


@pytest.mark.parametrize("columns", [1, 3, 100])
def test_the_solution_is_that_of_scipy_class_by_class(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(propagation, "_CPU_COLUMNS", columns)
    monkeypatch.setattr(propagation, "_CPU_ELEMENTS", 0)
    # Some classes stop by tolerance and one by the limit: both must hold the solver's very iterate.
    monkeypatch.setattr(propagation, "DENSE_LIMIT", 0)
    graph, labels_NC = blobs(400, 7)
    system_NN = identity(400, format="csr") - 0.99 * graph
    solution_NC = np.stack([cg(system_NN, y_N, rtol=1e-3, maxiter=30)[0] for y_N in labels_NC.numpy().T], axis=1)
    solution_NC = solution_NC.clip(min=0)
    expected_NC = solution_NC / solution_NC.sum(axis=1, keepdims=True)
    probabilities_NC, report = propagate(graph, labels_NC, decay=0.99)
    assert report.num_unconverged == 1
    np.testing.assert_allclose(probabilities_NC.numpy(), expected_NC, atol=1e-9)


def test_rows_are_distributions() -> None:
    graph, labels_NC = blobs(400, 7)
    probabilities_NC, _ = propagate(graph, labels_NC, decay=0.99)
    assert bool((probabilities_NC >= 0).all())
    torch.testing.assert_close(probabilities_NC.sum(dim=1), torch.ones(400, dtype=torch.float64))


def test_float32_labels_give_the_float64_solution() -> None:
    graph, labels_NC = blobs(100, 3)
    wide_NC, _ = propagate(graph, labels_NC, decay=0.99)
    narrow_NC, _ = propagate(graph, labels_NC.float(), decay=0.99)
    assert torch.equal(wide_NC, narrow_NC)


def test_a_decay_of_zero_gives_the_labels_back() -> None:
    graph, labels_NC = blobs(60, 3)
    probabilities_NC, report = propagate(graph, labels_NC, decay=0.0)
    assert torch.equal(probabilities_NC, labels_NC)
    assert report.iterations == 1


def test_small_sets_that_do_not_converge_are_solved_exactly_and_say_so() -> None:
    graph, labels_NC = blobs(100, 3)
    probabilities_NC, report = propagate(graph, labels_NC, decay=0.99, max_iterations=1)
    assert (report.solver, report.iterations, report.num_unconverged) == ("dense", 1, 3)
    assert torch.equal(probabilities_NC, propagate_dense(graph, labels_NC, decay=0.99))


def test_large_sets_that_do_not_converge_keep_the_last_iterate_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(propagation, "DENSE_LIMIT", 99)
    graph, labels_NC = blobs(100, 3)
    _, report = propagate(graph, labels_NC, decay=0.99, max_iterations=1)
    assert (report.solver, report.num_unconverged) == ("cg", 3)
    assert report.residual > 1e-3


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_a_decay_outside_its_range_is_refused_with_its_value(decay: float) -> None:
    graph, labels_NC = blobs(60, 3)
    with pytest.raises(ValueError, match=rf"decay must be at least 0 and below 1, but is {decay}"):
        propagate(graph, labels_NC, decay=decay)


def test_labels_of_another_data_set_are_refused_with_both_sizes() -> None:
    graph, labels_NC = blobs(60, 3)
    with pytest.raises(ValueError, match="the graph has 60 images, the labels 59"):
        propagate(graph, labels_NC[:59], decay=0.9)


@pytest.mark.parametrize(
    ("similarities", "neighbors", "text"),
    [
        ([[1.0], [float("nan")]], [[1], [0]], "row 1, column 0 is nan"),
        ([[1.0], [1.0]], [[1], [2]], "at least 0 and below 2, but go from 1 to 2"),
        ([[1.0], [1.0]], [[-1], [0]], "but go from -1 to 0"),
        ([[1.0, 0.5], [1.0, 0.5]], [[1, 1], [0, 1]], "listed twice in one row"),
        ([[1.0]], [[1], [0]], r"one shape, but are \(1, 1\) and \(2, 1\)"),
    ],
)
def test_a_table_that_is_no_neighbor_table_is_refused(
    similarities: list[list[float]], neighbors: list[list[int]], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        knn_graph(np.array(similarities), np.array(neighbors))


def listing_of_the_paper(
    similarities_NK: NDArray[np.float64], neighbors_NK: NDArray[np.int64], labels_NC: NDArray[np.float64], share: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """SPC, the listing of section 4.3.2, in SciPy: propagated rows, and which images lead some class.

    Differs: neighbors stand in rows as the text says, where the listing swaps rows and columns; the maximum undoes it.
    """
    num_images, num_neighbors = neighbors_NK.shape[0], neighbors_NK.shape[1] - 1
    rows = np.repeat(np.arange(num_images), num_neighbors)
    cells = (similarities_NK[:, 1:].ravel(), (rows, neighbors_NK[:, 1:].ravel()))
    weights = csr_matrix(cells, shape=(num_images, num_images))
    weights = weights + weights.T.multiply(weights.T > weights) - weights.multiply(weights.T > weights)
    degree_N = np.asarray(weights.sum(axis=1)).ravel()
    degree_N[degree_N == 0] = 1
    scale = diags(1 / np.sqrt(degree_N))
    system = identity(num_images) - 0.99 * (scale @ weights @ scale)
    solved_NC = np.stack([cg(system, labels_N, rtol=1e-3, maxiter=30)[0] for labels_N in labels_NC.T], axis=1)
    solved_NC = np.maximum(solved_NC, 0)
    propagated_NC = solved_NC / np.maximum(solved_NC.sum(axis=1, keepdims=True), 1e-12)
    leads_N = np.zeros(num_images, dtype=bool)
    for shares_N in propagated_NC.T:
        leads_N[np.argsort(-shares_N, kind="stable")[: int(share * num_images)]] = True
    return propagated_NC, leads_N


@pytest.mark.parametrize("seed", range(3))
def test_the_printed_listing_of_spc_gives_the_same_labels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    class_N = rng.integers(5, size=400)
    points_ND = np.abs(rng.normal(size=(5, 8))[class_N] + 0.5 * rng.normal(size=(400, 8)))
    points_ND /= np.linalg.norm(points_ND, axis=1, keepdims=True)
    # The image itself first, as exact search has it.
    table = nearest(points_ND, 12)
    probabilities_NC = torch.softmax(torch.from_numpy(6 * np.eye(5)[class_N] + rng.normal(size=(400, 5))), dim=1)
    sure = spc_labels.strong_set(probabilities_NC, 0.98)
    assert 20 < int(sure.mask_N.sum()) < 380
    labels_NC = spc_labels.seed_labels(sure, 5).double()
    expected_NC, leads_N = listing_of_the_paper(*table, labels_NC.numpy(), share=0.05)

    propagated_NC, report = propagate(knn_graph(*table), labels_NC, decay=0.99, max_iterations=30)
    assert report.solver == "cg"
    torch.testing.assert_close(propagated_NC, torch.from_numpy(expected_NC), atol=2e-3, rtol=0)
    strong = spc_labels.intersect(
        sure, spc_labels.top_fraction(propagated_NC, 0.05, "dataset"), require_label_agreement=False
    )
    np.testing.assert_array_equal(strong.mask_N.numpy(), sure.mask_N.numpy() & leads_N)
    expected_N = np.where(strong.mask_N, sure.labels_N, expected_NC.argmax(axis=1))
    np.testing.assert_array_equal(spc_labels.hard_labels(propagated_NC, probabilities_NC, strong).numpy(), expected_N)
