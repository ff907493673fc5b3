"""Matrices of features in NumPy files, as images of one pixel: float32 of shape (N, D, 1, 1).

    file.npz    arrays train (N, D) and eval (M, D), with train_labels and eval_labels; or features alone, with labels
    file.npy    features (N, D), with labels in a second file

Labels are whole numbers, -1 where unknown, and may be left out. They keep their values only in order: the smallest
becomes 0, and class names are the values as text.
Axes: N and M rows, D features.
"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..interfaces import Split
from .loaded import DataError, Raw
from .splits import divided, picked

TRAIN_SHARE = 0.8
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy and zipfile raise for a file that was cut short or altered."""

Arrays = Mapping[str, NDArray[Any]]


def features(path: Path, labels: str, union: bool) -> Raw:
    """Read a matrix of features.

    Args:
        path: a .npz or a .npy file.
        labels: a .npy file with the labels of a .npy file; empty where there are none.
        union: the parts will be joined, so that features alone need not be divided (80 to 20, class by class).

    Returns:
        Without mean and std: features are used as they are.

    Raises:
        DataError: a file is missing, not NumPy's or holds Python objects; an array is missing, is no matrix of finite
            numbers, or has not as many labels as rows.
    """
    if path.suffix == ".npz":
        arrays = opened(path)
    elif path.suffix == ".npy":
        arrays = {"features": opened(path)["array"]}
        if labels:
            arrays["labels"] = opened(Path(labels))["array"]
    else:
        raise DataError(f"root must name a .npz or .npy file for name: features, but is {path}.")
    if "features" in arrays:
        (whole,), names = _splits(path, arrays, ("features",), ("labels",))
        if union:
            return Raw(whole, picked(whole, torch.arange(0)), names)
        smallest = int(whole.labels_N.unique(return_counts=True)[1].min())
        if smallest < 2:
            raise DataError(f"{path}: a label has one row only; the parts need one each. Set protocol: union.")
        train_N, eval_N = divided(whole.labels_N, TRAIN_SHARE)
        return Raw(picked(whole, train_N), picked(whole, eval_N), names)
    if not {"train", "eval"} <= set(arrays):
        raise DataError(
            f"{path} must hold the arrays train and eval, or features, but holds {', '.join(sorted(arrays)) or 'none'}."
        )
    (train, evaluation), names = _splits(path, arrays, ("train", "eval"), ("train_labels", "eval_labels"))
    return Raw(train, evaluation, names)


def opened(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of a NumPy file.

    Returns:
        Name -> array of a .npz file; "array" -> the array of a .npy file.

    Raises:
        DataError: it is missing, damaged, holds Python objects, or is of the other kind than its name says.
    """
    if not path.is_file():
        raise DataError(f"{path.resolve()} is not a file. Set it to a file that numpy.save or numpy.savez has written.")
    is_archive = path.suffix.lower() == ".npz"
    writer = "numpy.savez" if is_archive else "numpy.save"
    try:
        # allow_pickle stays off: an array of Python objects could run any code.
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.lib.npyio.NpzFile) != is_archive:
                raise DataError(f"{path} is no {path.suffix} file in spite of its name. Write it again with {writer}.")
            return dict(content) if is_archive else {"array": content}
    except _UNREADABLE as error:
        if isinstance(error, DataError):
            raise
        reason = str(error) or type(error).__name__
        raise DataError(f"{path} cannot be read ({reason}). Copy it again, or write it with {writer}.") from error


def _splits(
    path: Path, arrays: Arrays, parts: tuple[str, ...], labels: tuple[str, ...]
) -> tuple[list[Split], tuple[str, ...]]:
    matrices = [_matrix(path, name, arrays[name]) for name in parts]
    if len({matrix_ND.shape[1] for matrix_ND in matrices}) > 1:
        widths = " and ".join(str(matrix_ND.shape[1]) for matrix_ND in matrices)
        raise DataError(f"{path}: {' and '.join(parts)} must have as many columns, but have {widths}.")
    given = [
        labels_of(path, name, arrays.get(name), len(matrix_ND))
        for name, matrix_ND in zip(labels, matrices, strict=True)
    ]
    values = np.unique(np.concatenate(given))
    values = values[values >= 0]
    splits = []
    for matrix_ND, values_N in zip(matrices, given, strict=True):
        labels_N = np.where(values_N >= 0, np.searchsorted(values, values_N), -1)
        splits.append(Split(torch.from_numpy(matrix_ND)[:, :, None, None], torch.from_numpy(labels_N)))
    return splits, tuple(map(str, values.tolist()))


def _matrix(path: Path, name: str, array: NDArray[Any]) -> NDArray[np.float32]:
    if array.ndim != 2 or not array.size or array.dtype.kind not in "fiu":
        raise DataError(
            f"{path}: {name} must be a matrix of numbers (rows, features), but is {array.dtype} of shape {array.shape}."
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity, and is refused
        matrix_ND = np.ascontiguousarray(array, dtype=np.float32)
    wrong = int((~np.isfinite(matrix_ND)).any(axis=1).sum())
    if wrong:
        raise DataError(f"{path}: {name} must be finite, but {wrong} of its rows hold NaN or infinity. Leave them out.")
    if name != "eval" and len(matrix_ND) > 1 and (matrix_ND == matrix_ND[0]).all():
        raise DataError(f"{path}: all {len(matrix_ND)} rows of {name} are the same, so there is nothing to learn from.")
    return matrix_ND


def labels_of(path: Path, name: str, array: NDArray[Any] | None, num_rows: int) -> NDArray[np.int64]:
    """The labels of a matrix or of images: int64 (N,), -1 where unknown.

    Args:
        name: of the array, for the error's text.
        array: None where there are no labels.

    Raises:
        DataError: they are no whole numbers, or not as many as rows.
    """
    if array is None:
        return np.full(num_rows, -1)
    if array.shape != (num_rows,) or array.dtype.kind not in "iu":
        raise DataError(
            f"{path}: {name} must be {num_rows} whole numbers, one for each row, but is {array.dtype} of shape"
            f" {array.shape}."
        )
    return array.astype(np.int64)
