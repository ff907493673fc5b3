"""Images in .npy and .npz files: every shape and kind of number, with labels and without."""

from pathlib import Path

import numpy as np
import pytest

from tests.data.test_own_images import read
from trainables.data.loaded import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)


def saved(tmp_path: Path, **arrays: np.ndarray) -> Path:
    np.savez(tmp_path / "images.npz", **arrays)
    return tmp_path / "images.npz"


@pytest.mark.parametrize("kind", ["npy", "npz"])
@pytest.mark.parametrize("channels", [0, 1, 3])
def test_images_are_read_as_they_are(tmp_path: Path, kind: str, channels: int) -> None:
    array = IMAGES[..., 0] if channels == 0 else IMAGES[..., :channels]
    path = tmp_path / "images.npy"
    np.save(path, array)
    if kind == "npz":
        path = saved(tmp_path, images=array)
    data = read(path, protocol="union")
    expected = array if channels else array[..., None]
    np.testing.assert_array_equal(data.train.images_NCHW[:].permute(0, 2, 3, 1).numpy(), expected)
    assert data.class_names == () and data.train.names[:2] == ("images/0", "images/1") and data.root == ""


@pytest.mark.parametrize(
    "array",
    [
        IMAGES / 255,
        (IMAGES / 255).astype(np.float32),
        IMAGES.astype(np.float64),
        IMAGES.astype(np.int64),
        IMAGES.astype(np.uint16) * 257,
        IMAGES.astype(">i4"),
        np.asfortranarray(IMAGES),
        np.repeat(IMAGES, 2, axis=2)[:, :, ::2],
    ],
)
def test_numbers_of_every_kind_mean_the_same_pixels(tmp_path: Path, array: np.ndarray) -> None:
    data = read(saved(tmp_path, images=array), protocol="union")
    np.testing.assert_array_equal(data.train.images_NCHW[:].permute(0, 2, 3, 1).numpy(), IMAGES)


def test_truth_values_are_black_and_white(tmp_path: Path) -> None:
    data = read(saved(tmp_path, images=IMAGES[..., 0] > 99), protocol="union")
    assert set(data.train.images_NCHW[:].unique().tolist()) == {0, 255}


def test_labels_beside_the_images_are_read_and_may_be_unknown(tmp_path: Path) -> None:
    labels = np.array([5, 5, 7, 7, -1, 5, 7, -2, 5, 7, 7, 7])
    data = read(saved(tmp_path, images=IMAGES, labels=labels), protocol="union")
    assert data.class_names == ("5", "7")
    assert data.train.labels_N.tolist() == [{5: 0, 7: 1}.get(label, -1) for label in labels.tolist()]
    np.save(tmp_path / "images.npy", IMAGES)
    np.save(tmp_path / "labels.npy", labels)
    other = read(tmp_path / "images.npy", labels=str(tmp_path / "labels.npy"), protocol="union")
    assert other.train.labels_N.tolist() == data.train.labels_N.tolist()
    assert read(tmp_path / "images.npz", labels="none", protocol="union").class_names == ()


@pytest.mark.parametrize(
    ("train", "judged", "labels"),
    [("train_images", "test_images", "{}_labels"), ("x_train", "x_test", "y_{}"), ("train", "test", "{}_labels")],
)
def test_parts_are_told_by_their_names(tmp_path: Path, train: str, judged: str, labels: str) -> None:
    # MedMNIST has its labels as a column.
    arrays = {
        train: IMAGES[:8],
        judged: IMAGES[8:],
        labels.format("train"): np.arange(8)[:, None] % 2,
        labels.format("test"): np.arange(4) % 2,
    }
    data = read(saved(tmp_path, **arrays))
    assert (len(data.train), len(data.eval)) == (8, 4) and data.class_names == ("0", "1")
    assert data.train.names[0] == "train/0" and data.eval.names[0] == "test/0"


def test_a_part_and_an_array_that_are_not_used_are_said(tmp_path: Path) -> None:
    path = saved(tmp_path, train_images=IMAGES[:4], val_images=IMAGES[4:8], test_images=IMAGES[8:], notes=np.zeros(3))
    assert set(read(path).left_out) == {
        "The array notes of images.npz was left out.",
        "test holds 4 images that were left out; val is judged.",
    }
    assert len(read(path, protocol="union").train) == 12


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": IMAGES[0, 0]}, r"must be images of shape \(N, H, W\) or"),
        ({"images": np.zeros((4, 8, 8, 5), np.uint8)}, "with 1 or 3 channels"),
        ({"images": IMAGES.transpose(0, 3, 1, 2)}, "Its channels come second: write array.transpose"),
        ({"images": IMAGES - 300.0}, "must hold levels from 0 to 255, .* but holds float64 from"),
        ({"images": IMAGES / 2.0}, "must hold levels from 0 to 255, .* Convert it to uint8"),
        ({"images": np.full((4, 8, 8), np.nan)}, "holds NaN or infinity"),
        ({"images": np.full((4, 8, 8), "a")}, "Convert it to uint8"),
        ({"images": IMAGES, "labels": np.zeros(3, int)}, "labels must be 12 whole numbers"),
        ({"pictures": IMAGES}, r"must hold the array images, .* but holds pictures"),
        ({"train_images": IMAGES, "test_images": IMAGES[..., :1]}, "must have images of one size and channel count"),
        ({"images": np.zeros((4, 8, 9), np.uint8)}, "must be squares while image_size is 0, but are 9x8 px"),
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read(saved(tmp_path, **arrays))


def test_an_array_of_python_objects_is_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "images.npy")
