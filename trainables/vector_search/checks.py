"""What the searches refuse: arrays and arguments that FAISS would take and answer nonsense for.

Each check raises ValueError, which names the array, the row and the rule.
Axes: N base rows or points, M queries, D feature width, K neighbors, C centroids.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST_HALF = float(np.finfo(np.float16).max)


class NoDirection(ValueError):
    """Rows of features are all zeros, and are to be compared by their directions: a network has collapsed."""

    def __init__(self, name: str, row: int, count: int) -> None:
        super().__init__(name, row, count)
        self.count = count

    def __str__(self) -> str:
        name, row, count = self.args
        return (
            f"{name} row {row} is all zeros and has no direction, which inner_product compares "
            f"({count} such rows). Its network may have collapsed; metric l2 takes such rows."
        )


def knn(base_ND: Any, queries_MD: Any, k: int, metric: str, *, half: bool = False) -> None:
    """Refuse arguments that ``knn`` would answer nonsense for; they are those of ``FaissSearch.knn``.

    Raises:
        ValueError: names the array, the row and the rule.
    """
    if metric not in ("inner_product", "l2"):
        raise ValueError(f"metric must be one of inner_product, l2, but is {metric!r}.")
    arrays = {"base_ND": base_ND} | ({} if queries_MD is None else {"queries_MD": queries_MD})
    for name, rows_ND in arrays.items():
        _check_rows(name, rows_ND)
        zero_N = ~rows_ND.any(axis=1)
        if metric == "inner_product" and zero_N.any():
            raise NoDirection(name, int(zero_N.argmax()), int(zero_N.sum()))
    if queries_MD is not None:
        _check_same_width("queries_MD", queries_MD, "base_ND", base_ND)
    if half and np.abs(base_ND).max() > _MOST_HALF:
        row = int(np.abs(base_ND).max(axis=1).argmax())
        raise ValueError(
            f"base_ND row {row} is beyond float16 ({_MOST_HALF:g}); normalize the rows, or leave half out."
        )
    if not 1 <= k <= len(base_ND):
        raise ValueError(f"k must be at least 1 and at most {len(base_ND)}, the rows of base_ND, but is {k}.")


def kmeans(points_ND: Any, k: int, seed: int, iterations: int, restarts: int) -> None:
    """Refuse arguments that ``kmeans`` would answer nonsense for; they are those of ``FaissSearch.kmeans``.

    Raises:
        ValueError: names the array, the row and the rule.
    """
    _check_rows("points_ND", points_ND)
    if not 1 <= k <= len(points_ND):
        raise ValueError(f"k must be at least 1 and at most {len(points_ND)}, the rows of points_ND, but is {k}.")
    if not 0 <= seed < 2**31:
        raise ValueError(f"seed must be at least 0 and below 2**31, but is {seed}.")
    for name, value in (("iterations", iterations), ("restarts", restarts)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, but is {value}.")


def assign(points_ND: Any, centroids_CD: Any) -> None:
    """Refuse arguments that ``assign`` would answer nonsense for; they are those of ``FaissSearch.assign``.

    Raises:
        ValueError: names the array, the row and the rule.
    """
    _check_rows("points_ND", points_ND)
    _check_rows("centroids_CD", centroids_CD)
    _check_same_width("points_ND", points_ND, "centroids_CD", centroids_CD)


def pic(points_ND: Any, neighbors: int, sigma: float, damping: float) -> None:
    """Refuse arguments that ``pic`` would answer nonsense for; they are those of ``FaissSearch.pic``.

    Raises:
        ValueError: names the array, the row and the rule.
    """
    _check_rows("points_ND", points_ND)
    if not 1 <= neighbors < len(points_ND):
        rule = f"at least 1 and below {len(points_ND)}, the rows of points_ND"
        raise ValueError(f"neighbors must be {rule}, but is {neighbors}.")
    if not (sigma > 0 and 0 < damping < 1):
        raise ValueError(
            f"sigma must be above 0, and damping above 0 and below 1, but they are {sigma:g} and {damping:g}."
        )


def whiten(points_ND: Any, dim: int) -> None:
    """Refuse arguments that ``whiten`` would answer nonsense for; they are those of ``FaissSearch.whiten``.

    Raises:
        ValueError: names the array, the row and the rule.
    """
    _check_rows("points_ND", points_ND)
    if not 1 <= dim <= min(points_ND.shape):
        rule = f"at least 1 and at most {min(points_ND.shape)}, the smaller side of points_ND"
        raise ValueError(f"dim must be {rule}, but is {dim}.")


def _check_rows(name: str, rows_ND: Any) -> None:
    if not isinstance(rows_ND, np.ndarray) or rows_ND.dtype != np.float32 or rows_ND.ndim != 2 or not rows_ND.size:
        kind = type(rows_ND).__name__
        shown = f"{rows_ND.dtype} of shape {rows_ND.shape}" if isinstance(rows_ND, np.ndarray) else f"a {kind}"
        raise ValueError(f"{name} must be a float32 NumPy array of shape (rows, width), not empty, but is {shown}.")
    bad_N = ~np.isfinite(rows_ND).all(axis=1)
    if bad_N.any():
        raise ValueError(
            f"{name} row {bad_N.argmax()} holds nan or inf ({bad_N.sum()} such rows). "
            "Every value must be finite; the network that made it has diverged."
        )


def _check_same_width(name: str, rows: NDArray[np.float32], other: str, other_rows: NDArray[np.float32]) -> None:
    if rows.shape[1] != other_rows.shape[1]:
        raise ValueError(
            f"{name} must be as wide as {other}, but its rows have {rows.shape[1]} values instead of "
            f"{other_rows.shape[1]}."
        )
