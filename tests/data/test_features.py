"""Matrices of features: what is read, how it is divided, and which files are refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables import pipeline
from trainables.data import augment
from trainables.data.batch_random import BatchRandom
from trainables.data.datasets import Spec, load
from trainables.data.loaded import DataError
from trainables.interfaces import ImageData
from trainables.settings import SettingsError

MATRIX = np.arange(40, dtype=np.float64).reshape(10, 4)
LABELS = np.array([3, 7] * 5)


def read(path: Path, **changes: object) -> ImageData:
    return load(Spec(name="features", root=str(path), **changes))  # type: ignore[arg-type]


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    path = tmp_path / "parts.npz"
    np.savez(path, train=MATRIX, train_labels=LABELS, eval=MATRIX[:4] + 0.5, eval_labels=[7, -1, 3, 3])
    return path


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    path = tmp_path / "alone.npz"
    np.savez(path, features=MATRIX, labels=LABELS)
    return path


def test_rows_are_images_of_one_pixel(parts: Path) -> None:
    data = read(parts)
    assert data.train.images_NCHW.shape == (10, 4, 1, 1) and data.train.images_NCHW.dtype == torch.float32
    assert torch.equal(data.eval.images_NCHW[:].flatten(1), torch.from_numpy(MATRIX[:4] + 0.5).float())
    assert (data.mean, data.std) == ((), ())
    assert data.shape.is_features and (data.shape.num_channels, data.shape.image_size_px) == (4, 1)


def test_labels_are_numbered_in_order_and_unknown_ones_stay_unknown(parts: Path) -> None:
    data = read(parts)
    assert data.class_names == ("3", "7")
    assert data.train.labels_N.tolist() == [0, 1] * 5 and data.eval.labels_N.tolist() == [1, -1, 0, 0]


def test_features_alone_are_divided_class_by_class(alone: Path) -> None:
    data = read(alone)
    assert data.train.labels_N.bincount().tolist() == [4, 4] and data.eval.labels_N.bincount().tolist() == [1, 1]


def test_union_keeps_all_rows_in_their_order(alone: Path, parts: Path) -> None:
    data = read(alone, protocol="union")
    assert data.is_union and torch.equal(data.train.images_NCHW[:].flatten(1), torch.from_numpy(MATRIX).float())
    assert len(read(parts, protocol="union").eval) == 14


def test_a_single_array_takes_its_labels_from_a_second_file(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", MATRIX)
    np.save(tmp_path / "y.npy", LABELS)
    with_labels = read(tmp_path / "x.npy", labels=str(tmp_path / "y.npy"), protocol="union")
    assert with_labels.train.labels_N.tolist() == [0, 1] * 5
    without = read(tmp_path / "x.npy")
    assert without.class_names == () and without.train.labels_N.unique().tolist() == [-1] and len(without.eval) == 2


def test_the_fingerprint_sees_one_number_and_not_the_place(alone: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "moved.npz", features=MATRIX, labels=LABELS)
    assert read(tmp_path / "moved.npz").fingerprint == read(alone).fingerprint
    np.savez(tmp_path / "moved.npz", features=MATRIX + np.eye(10, 4), labels=LABELS)
    assert read(tmp_path / "moved.npz").fingerprint != read(alone).fingerprint


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": MATRIX}, "must hold the arrays train and eval, or features, but holds x"),
        ({"train": MATRIX, "eval": MATRIX[:, :3]}, "train and eval must have as many columns, but have 4 and 3"),
        ({"features": MATRIX[0]}, r"features must be a matrix of numbers .* but is float64 of shape \(4,\)"),
        ({"features": np.where(MATRIX == 5, np.nan, MATRIX)}, "features must be finite, but 1 of its rows hold NaN"),
        ({"features": MATRIX, "labels": LABELS[:9]}, r"labels must be 10 whole numbers, .* of shape \(9,\)"),
        ({"features": MATRIX, "labels": LABELS / 2}, "labels must be 10 whole numbers, .* but is float64"),
        ({"features": MATRIX, "labels": np.arange(10)}, "a label has one row only; .* Set protocol: union"),
        ({"features": MATRIX.astype(object)}, "cannot be read .*allow_pickle=False"),
    ],
)
def test_bad_arrays_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], words: str) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(DataError, match=rf"bad.npz:? ?{words}"):
        read(tmp_path / "bad.npz")


def test_a_missing_file_and_another_kind_of_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none.npz is not a file"):
        read(tmp_path / "none.npz")
    with pytest.raises(DataError, match="root must name a .npz or .npy file for name: features, but is .*x.csv"):
        read(tmp_path / "x.csv")


def test_features_have_no_size() -> None:
    with pytest.raises(SettingsError, match="image_size must be 0 for features, but is 32"):
        Spec(name="features", image_size=32)


def test_a_network_for_images_is_a_fault_of_the_study(parts: Path) -> None:
    configs = pipeline.configs("kmeans", "", {"pretext.batch_size": 4})
    faults = dict(pipeline.limits("kmeans", "", configs, read(parts).shape))
    assert "the data set has rows of 4 features, but every backbone takes images" in faults["pretext.network"]


def test_augmentations_refuse_features(parts: Path) -> None:
    rows = read(parts).train.images_NCHW[:2]
    draws = BatchRandom(torch.Generator().manual_seed(0), 2)
    with pytest.raises(ValueError, match=r"must be uint8 of shape .* but are torch.float32 of shape \(2, 4, 1, 1\)"):
        augment.AUGMENTATIONS["eval"](rows, draws, augment.Norm((0.5,), (0.5,)))


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 4, len(content) // 2):
        content[place] ^= 0x55
    path.write_bytes(bytes(content))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "flipped": _flipped,
    "no NumPy file": lambda path: path.write_bytes(b"<html></html>" * 100),
    "header alone": lambda path: path.write_bytes(path.read_bytes()[:20]),
}


@pytest.mark.parametrize(
    ("kind", "damage"),
    # Plain arrays have no checksum: other bytes are other numbers.
    [
        (kind, damage)
        for kind in ("npz", "compressed", "npy", "labels")
        for damage in DAMAGE
        if damage != "flipped" or kind in ("npz", "compressed")
    ],
)
def test_a_damaged_file_is_refused_in_a_sentence(tmp_path: Path, kind: str, damage: str) -> None:
    matrix = np.random.default_rng(0).normal(size=(40, 8))
    root, labels = tmp_path / ("x.npz" if kind in ("npz", "compressed") else "x.npy"), tmp_path / "y.npy"
    if root.suffix == ".npz":
        (np.savez_compressed if kind == "compressed" else np.savez)(root, features=matrix)
    else:
        np.save(root, matrix)
    np.save(labels, np.arange(40) % 2)
    damaged = labels if kind == "labels" else root
    DAMAGE[damage](damaged)
    with pytest.raises(DataError, match=rf"{damaged.name}"):
        read(root, labels=str(labels) if root.suffix == ".npy" else "", protocol="union")


@pytest.mark.parametrize("columns", [1, 2])
def test_a_file_of_the_other_kind_than_its_name_says_is_refused(tmp_path: Path, columns: int) -> None:
    np.save(tmp_path / "x.npy", MATRIX[:, :columns])
    (tmp_path / "x.npy").rename(tmp_path / "x.npz")
    with pytest.raises(DataError, match=r"x.npz is no .npz file in spite of its name. Write it again with numpy.savez"):
        read(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", features=MATRIX)
    (tmp_path / "y.npz").rename(tmp_path / "y.npy")
    with pytest.raises(DataError, match="y.npy is no .npy file in spite of its name. Write it again with numpy.save"):
        read(tmp_path / "y.npy")


def test_rows_that_are_all_the_same_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", features=np.ones((10, 4)))
    with pytest.raises(DataError, match="all 10 rows of features are the same, so there is nothing to learn from"):
        read(tmp_path / "x.npz")
