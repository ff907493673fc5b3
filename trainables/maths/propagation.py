"""Label propagation over a neighbor graph: from a few sure labels to a distribution for every image.

The system (I - decay * W) P = Y is solved for all classes at once by conjugate gradients. One solver serves the CPU
and the GPU; the iterates are those of a textbook solver run class by class, in float64.

Axes: N images, K neighbors, C classes, G classes with at least one label, B columns solved together.
"""

import warnings
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import reverse_cuthill_mckee
from torch import Tensor

DENSE_LIMIT = 2000
"""Up to so many images, columns that conjugate gradients leave unfinished are solved exactly instead."""

# Sixteen float64 columns make a row two cache lines; fewer waste memory accesses, more leave the cache (measured).
_CPU_COLUMNS, _CPU_ELEMENTS = 16, 1 << 19
_DEVICE_ELEMENTS = 1 << 28


@dataclass(frozen=True)
class Report:
    """How a propagation went. residual: the largest ||r|| / ||Y_c|| that conjugate gradients left behind."""

    solver: Literal["cg", "dense"]
    iterations: int
    num_unconverged: int
    residual: float


def knn_graph(similarities_NK: NDArray[np.floating[Any]], neighbors_NK: NDArray[np.integer[Any]]) -> csr_matrix:
    """The symmetric, degree-normalized neighbor graph D^(-1/2) max(W, W^T) D^(-1/2).

    Args:
        similarities_NK: inner products; below 0 counts as 0.
        neighbors_NK: indices of the neighbors, distinct within a row. The image's own index is dropped wherever it
            stands, so for k neighbors beside itself a row must hold k + 1.

    Returns:
        Shape (N, N), float64, zero diagonal, sorted indices, eigenvalues in [-1, 1]. An image without links has an
        empty row.

    Raises:
        ValueError: shapes differ, a similarity is not finite, an index is not an image, or a neighbor is listed twice.

    Source: SPC, section 4.2.2; the element-wise maximum, and the degree of an isolated image read as 1.
    """
    num_images, num_neighbors = neighbors_NK.shape
    _check_table(similarities_NK, neighbors_NK)
    weights_NK = np.clip(similarities_NK, 0.0, None).astype(np.float64)
    weights_NK[neighbors_NK == np.arange(num_images)[:, None]] = 0.0
    row_ends = np.arange(0, num_images * num_neighbors + 1, num_neighbors)
    # 32-bit indices halve the traffic of every product where they are wide enough.
    wide = np.int32 if 2 * weights_NK.size < np.iinfo(np.int32).max else np.int64
    parts = (weights_NK.ravel(), neighbors_NK.astype(wide).ravel(), row_ends.astype(wide))
    one_way = csr_matrix(parts, shape=(num_images, num_images))
    one_way.sort_indices()
    if not one_way.has_canonical_format:
        raise ValueError("a neighbor is listed twice in one row of the neighbor table; its entries must be distinct.")
    one_way.eliminate_zeros()
    graph = one_way.maximum(one_way.T.tocsr()).tocsr()
    degree_N = np.asarray(graph.sum(axis=1)).ravel()
    scale_N = 1.0 / np.sqrt(np.where(degree_N > 0, degree_N, 1.0))
    graph.data *= np.repeat(scale_N, np.diff(graph.indptr)) * scale_N[graph.indices]
    return graph


def propagate(
    graph: csr_matrix, labels_NC: Tensor, *, decay: float, tolerance: float = 1e-3, max_iterations: int = 30
) -> tuple[Tensor, Report]:
    """Solve (I - decay * graph) P = labels by conjugate gradients and make each row a distribution.

    Args:
        graph: from ``knn_graph``.
        labels_NC: one-hot rows where the label is known, zero rows elsewhere; its device does the work.
        decay: how far labels travel (the paper's gamma); at least 0 and below 1.
        tolerance: a class is finished once ||r|| <= tolerance * ||Y_c||, and is not touched from then on.
        max_iterations: products with the graph at most, at least 1.

    Returns:
        (probabilities_NC, report). float64 on the device of the labels; negatives count as 0, rows sum to one, a row
        that no label reaches stays zero, and so does the column of a class without a label. A class that is not
        finished keeps its last iterate and is counted, unless there are at most DENSE_LIMIT images: then all classes
        are solved exactly, and the report says "dense".

    Raises:
        ValueError: decay is outside [0, 1), or graph and labels differ in the number of images.

    Source: SPC, Eq. 7-9 (without the constant factor 1 - decay, which the rows' scaling cancels); tolerance and
    iteration limit as in LaplaceNet.
    """
    _check_system(graph, labels_NC, decay)
    present_G = labels_NC.any(dim=0).nonzero().ravel()
    labels_NG = labels_NC if len(present_G) == labels_NC.shape[1] else labels_NC[:, present_G]
    solution_NG, report = _solve(graph, labels_NG, decay, tolerance, max_iterations)
    if report.num_unconverged and len(labels_NC) <= DENSE_LIMIT:
        return propagate_dense(graph, labels_NC, decay=decay), replace(report, solver="dense")
    solution_NC = torch.zeros(labels_NC.shape, dtype=torch.float64, device=labels_NC.device)
    solution_NC[:, present_G] = solution_NG
    return _as_distributions(solution_NC), report


def propagate_dense(graph: csr_matrix, labels_NC: Tensor, *, decay: float) -> Tensor:
    """The exact solution of what ``propagate`` solves, with the same arguments and the same output.

    Holds two N x N matrices of float64: for up to about 10,000 images.

    Raises:
        ValueError: as ``propagate``.
    """
    _check_system(graph, labels_NC, decay)
    system_NN = torch.from_numpy(graph.toarray()).to(labels_NC.device).mul_(-decay)
    system_NN.diagonal().add_(1.0)
    # The eigenvalues are at least 1 - decay, so the factor always exists.
    factor_NN = torch.linalg.cholesky(system_NN)
    return _as_distributions(torch.cholesky_solve(labels_NC.double(), factor_NN))


def _solve(
    graph: csr_matrix, labels_NG: Tensor, decay: float, tolerance: float, max_iterations: int
) -> tuple[Tensor, Report]:
    """All columns, a few at a time; none of them is zero."""
    on_cpu = labels_NG.device.type == "cpu"
    order_N = _cache_order(graph) if on_cpu else None
    if order_N is not None:
        graph, labels_NG = graph[order_N][:, order_N], labels_NG[torch.from_numpy(order_N)]
    matrix_NN = _on_device(graph, labels_NG.device)
    solution_NG = torch.empty(labels_NG.shape, dtype=torch.float64, device=labels_NG.device)
    iterations, num_unconverged, residual = 0, 0, 0.0
    width = _num_columns(len(labels_NG), on_cpu)
    for start in range(0, labels_NG.shape[1], width):
        labels_NB = labels_NG[:, start : start + width].to(torch.float64, memory_format=torch.contiguous_format)
        solved = _conjugate_gradients(matrix_NN, labels_NB, decay, tolerance, max_iterations)
        solution_NG[:, start : start + width] = solved.columns_NB
        iterations = max(iterations, solved.iterations)
        num_unconverged += int((solved.residual_B > tolerance).sum())
        residual = max(residual, float(solved.residual_B.max()))
    if order_N is not None:
        solution_NG = torch.empty_like(solution_NG).index_copy_(0, torch.from_numpy(order_N), solution_NG)
    return solution_NG, Report("cg", iterations, num_unconverged, residual)


@dataclass(frozen=True)
class _Solved:
    columns_NB: Tensor
    residual_B: Tensor
    iterations: int


def _conjugate_gradients(
    matrix_NN: Tensor, labels_NB: Tensor, decay: float, tolerance: float, max_iterations: int
) -> _Solved:
    """Conjugate gradients from zero on every column side by side; no column of the labels is zero."""
    solution_NB = torch.zeros_like(labels_NB)
    residual_NB, direction_NB = labels_NB.clone(), labels_NB.clone()
    scratch_NB = torch.empty_like(labels_NB)
    first_B = _dot(labels_NB, labels_NB, scratch_NB)
    square_B, limit_B = first_B, first_B * tolerance**2
    running_B = square_B > limit_B
    iterations = 0
    while iterations < max_iterations and bool(running_B.any()):
        image_NB = torch.addmm(direction_NB, matrix_NN, direction_NB, alpha=-decay)
        length_B = torch.where(running_B, square_B / _dot(direction_NB, image_NB, scratch_NB), 0.0)
        solution_NB.addcmul_(direction_NB, length_B)
        residual_NB.addcmul_(image_NB, length_B, value=-1.0)
        previous_B, square_B = square_B, _dot(residual_NB, residual_NB, scratch_NB)
        running_B = square_B > limit_B
        direction_NB.mul_(torch.where(running_B, square_B / previous_B, 0.0)).add_(residual_NB)
        iterations += 1
    return _Solved(solution_NB, (square_B / first_B).sqrt(), iterations)


def _dot(left_NB: Tensor, right_NB: Tensor, scratch_NB: Tensor) -> Tensor:
    return torch.mul(left_NB, right_NB, out=scratch_NB).sum(dim=0)


def _num_columns(num_images: int, on_cpu: bool) -> int:
    """How many classes are solved together: what caches hold on a CPU, what memory holds on a device."""
    if on_cpu:
        return max(_CPU_COLUMNS, _CPU_ELEMENTS // num_images)
    return max(1, _DEVICE_ELEMENTS // num_images)


def _cache_order(graph: csr_matrix) -> NDArray[np.int64]:
    """An order of the images in which neighbors stand close together: products then read from the cache."""
    order_N: NDArray[np.int64] = reverse_cuthill_mckee(graph, symmetric_mode=True).astype(np.int64)
    return order_N


def _on_device(graph: csr_matrix, device: torch.device) -> Tensor:
    parts = (torch.from_numpy(graph.indptr), torch.from_numpy(graph.indices), torch.from_numpy(graph.data))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(*parts, size=graph.shape, check_invariants=False).to(device)


def _as_distributions(solution_NC: Tensor) -> Tensor:
    solution_NC = solution_NC.clamp(min=0.0)
    total_N1 = solution_NC.sum(dim=1, keepdim=True)
    return solution_NC / torch.where(total_N1 > 0, total_N1, 1.0)


def _check_table(similarities_NK: NDArray[np.floating[Any]], neighbors_NK: NDArray[np.integer[Any]]) -> None:
    if similarities_NK.shape != neighbors_NK.shape:
        raise ValueError(
            f"similarities and neighbors must have one shape, but are {similarities_NK.shape} and {neighbors_NK.shape}."
        )
    bad = np.argwhere(~np.isfinite(similarities_NK))
    if len(bad):
        row, column = bad[0]
        raise ValueError(
            f"similarities must be finite, but row {row}, column {column} is {similarities_NK[row, column]}; "
            "the features they come from hold a NaN or an infinity."
        )
    low, high, num_images = neighbors_NK.min(), neighbors_NK.max(), len(neighbors_NK)
    if low < 0 or high >= num_images:
        raise ValueError(
            f"neighbors must be images, so at least 0 and below {num_images}, but go from {low} to {high}."
        )


def _check_system(graph: csr_matrix, labels_NC: Tensor, decay: float) -> None:
    if not 0.0 <= decay < 1.0:
        raise ValueError(f"decay must be at least 0 and below 1, but is {decay!r}; at 1 the system has no solution.")
    if graph.shape[0] != len(labels_NC):
        raise ValueError(f"the graph has {graph.shape[0]} images, the labels {len(labels_NC)}; they must be the same.")
