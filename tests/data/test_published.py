"""Public data sets in their official formats: what is read from small files like the published ones.

The files are made here, byte by byte as the publishers describe them, with the checksums replaced by theirs.
"""

import hashlib
import pickle  # noqa: TID251 - CIFAR's official format, written here and read by torchvision
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.data import public_sets, superclasses
from trainables.data.datasets import Spec, load
from trainables.data.loaded import DataError

# The super-class of each of the 100 classes, as `coarse_labels` beside `fine_labels` has it in the published files.
COARSE_OF_FINE = """
 4  1 14  8  0  6  7  7 18  3  3 14  9 18  7 11  3  9  7 11  6 11  5 10  7  6 13 15  3 15  0 11  1 10 12 14 16  9 11  5
 5 19  8  8 15 13 14 17 18 10 16  4 17  4  2  0 17  4 18 17 10  3  2 12 12 16 12  1  9 19  2 10  0  1 16 12  9 13 15 13
16 19  2  4  6 19  5  5  8 19 18  1  2 15  6  0 17  8 14 13
"""


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def pixels(num: int, size: int, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(num, 3, size, size)"""
    return np.random.default_rng(seed).integers(0, 256, (num, 3, size, size), dtype=np.uint8)


@pytest.fixture
def cifar100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """200 and 100 images; image i has class i % 100."""
    from torchvision.datasets import CIFAR100

    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name, num, seed in (("train", 200, 0), ("test", 100, 1)):
        fine = [row % 100 for row in range(num)]
        # One row of 3,072 bytes for an image: all of red, then green, then blue.
        entry = {"data": pixels(num, 32, seed).reshape(num, -1), "fine_labels": fine}
        (folder / name).write_bytes(pickle.dumps(entry, protocol=2))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": list(superclasses.CLASS_NAMES)}, protocol=2))
    known = {name: md5(folder / name) for name in public_sets.CIFAR100_MD5}
    monkeypatch.setattr(public_sets, "CIFAR100_MD5", known)
    monkeypatch.setattr(CIFAR100, "train_list", [["train", known["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", known["test"]]])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": known["meta"]})
    return tmp_path


@pytest.fixture
def stl10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """12, 8 and 20 images of 96 px; labels from 1 to 10."""
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for name, num, seed in (("train", 12, 0), ("test", 8, 1), ("unlabeled", 20, 2)):
        # Column after column of red, then green, then blue (A. Coates, STL-10's description).
        pixels(num, 96, seed).transpose(0, 1, 3, 2).tofile(folder / f"{name}_X.bin")
        if name != "unlabeled":
            (np.arange(num) % 10 + 1).astype(np.uint8).tofile(folder / f"{name}_y.bin")
    monkeypatch.setattr(public_sets, "STL10_MD5", {name: md5(folder / name) for name in public_sets.STL10_MD5})
    return tmp_path


def test_every_class_of_cifar100_is_in_its_official_super_class() -> None:
    assert superclasses.GROUP_OF_CLASS == tuple(map(int, COARSE_OF_FINE.split()))


def test_class_names_of_cifar100_are_numbered_as_in_its_files() -> None:
    names = superclasses.CLASS_NAMES
    assert (len(names), names[0], names[8], names[47], names[99]) == (100, "apple", "bicycle", "maple_tree", "worm")
    groups = superclasses.GROUP_NAMES
    assert (len(groups), groups[0], groups[9], groups[19]) == (
        20,
        "aquatic_mammals",
        "large_man-made_outdoor_things",
        "vehicles_2",
    )


def test_cifar100_is_read(cifar100: Path) -> None:
    data = load(Spec(name="cifar100", root=str(cifar100)))
    assert torch.equal(data.train.images_NCHW[:], torch.from_numpy(pixels(200, 32, 0)))
    assert torch.equal(data.eval.images_NCHW[:], torch.from_numpy(pixels(100, 32, 1)))
    assert data.train.labels_N.tolist() == [row % 100 for row in range(200)]
    assert (data.class_names, data.class_groups) == (superclasses.CLASS_NAMES, superclasses.GROUP_OF_CLASS)
    assert (data.mean, data.std) == ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))


def test_cifar20_has_the_same_images_with_super_classes(cifar100: Path) -> None:
    fine, coarse = (load(Spec(name=name, root=str(cifar100))) for name in ("cifar100", "cifar20"))
    assert torch.equal(fine.train.images_NCHW[:], coarse.train.images_NCHW[:])
    assert coarse.eval.labels_N.tolist() == list(map(int, COARSE_OF_FINE.split()))
    assert (coarse.class_names, coarse.class_groups) == (superclasses.GROUP_NAMES, ())
    assert fine.fingerprint != coarse.fingerprint


def test_an_altered_cifar100_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name in public_sets.CIFAR100_MD5:
        (folder / name).write_bytes(b"cbuiltins\nopen\n(S'" + str(tmp_path / "opened").encode() + b"'\nS'w'\ntR.")
    with pytest.raises(DataError, match=r"train is not the published file: its md5 must be 16019d7e"):
        load(Spec(name="cifar100", root=str(tmp_path)))
    assert not (tmp_path / "opened").exists()


def test_stl10_is_read(stl10: Path) -> None:
    data = load(Spec(name="stl10", root=str(stl10)))
    assert torch.equal(data.train.images_NCHW[:], torch.from_numpy(pixels(12, 96, 0)))
    assert torch.equal(data.eval.images_NCHW[:], torch.from_numpy(pixels(8, 96, 1)))
    assert data.train.labels_N.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert (data.class_names[0], data.class_names[7], data.class_names[9]) == ("airplane", "monkey", "truck")


@pytest.mark.parametrize("protocol", ["split", "union"])
def test_pretexts_see_stl10s_unlabeled_images_after_the_others_without_a_copy(stl10: Path, protocol: str) -> None:
    data = load(Spec(name="stl10", root=str(stl10), protocol=protocol))
    wanted = [pixels(12, 96, 0), *([pixels(8, 96, 1)] if protocol == "union" else []), pixels(20, 96, 2)]
    images_NCHW = data.pretext.images_NCHW[:]
    assert torch.equal(images_NCHW, torch.from_numpy(np.concatenate(wanted)))
    assert images_NCHW.data_ptr() == data.train.images_NCHW[:].data_ptr()
    assert data.unlabeled is not None and data.pretext.labels_N[-20:].tolist() == [-1] * 20
    assert torch.equal(data.unlabeled.images_NCHW[:], torch.from_numpy(pixels(20, 96, 2)))


def test_stl10_without_its_unlabeled_images_needs_no_file_of_them(stl10: Path) -> None:
    (stl10 / "stl10_binary" / "unlabeled_X.bin").unlink()
    data = load(Spec(name="stl10", root=str(stl10), unlabeled=False))
    assert data.unlabeled is None and data.pretext is data.train
    with pytest.raises(DataError, match="unlabeled_X.bin is missing: STL10 needs"):
        load(Spec(name="stl10", root=str(stl10)))


def test_the_fingerprint_sees_the_unlabeled_images(stl10: Path) -> None:
    whole, without = (load(Spec(name="stl10", root=str(stl10), unlabeled=each)) for each in (True, False))
    assert whole.fingerprint != without.fingerprint


@pytest.mark.parametrize(
    ("name", "kind", "part"),
    [
        ("cifar100", "CIFAR100", {"train": True}),
        ("cifar20", "CIFAR100", {"train": True}),
        ("stl10", "STL10", {"split": "train"}),
    ],
)
def test_download_asks_torchvision_and_a_failure_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str, part: dict[str, Any]
) -> None:
    asked: list[Any] = []

    class Unreachable:
        def __init__(self, root: Path, **kwargs: Any) -> None:
            asked.append((root, kwargs))
            raise URLError("no route")

    Unreachable.__name__ = kind
    monkeypatch.setattr(f"torchvision.datasets.{kind}", Unreachable)
    with pytest.raises(DataError, match=rf"{kind} could not be downloaded into .*no route.* copy the folder"):
        load(Spec(name=name, root=str(tmp_path), download=True))
    assert asked == [(tmp_path, {"download": True, **part})]


def jpeg(path: Path, level: int, size: tuple[int, int] = (64, 64)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ramp = np.linspace(0, 100, size[0]).astype(np.uint8)[None, :, None] + np.full((size[1], 1, 3), level, np.uint8)
    Image.fromarray(ramp.astype(np.uint8)).save(path, "JPEG")


SYNSETS = ("n01443537", "n01629819", "n02124075")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Two images to train on in each of three classes, one to judge; listed in another order than their names."""
    base = tmp_path / "tiny-imagenet-200"
    for label, synset in enumerate(SYNSETS):
        for number in range(2):
            jpeg(base / "train" / synset / "images" / f"{synset}_{number}.JPEG", 50 * label + 10 * number)
        (base / "train" / synset / f"{synset}_boxes.txt").write_text("n_0.JPEG\t0\t0\t63\t63\n")
    lines = []
    for number, synset in enumerate(reversed(SYNSETS)):
        jpeg(base / "val" / "images" / f"val_{number}.JPEG", 50 * (2 - number))
        lines.append(f"val_{number}.JPEG\t{synset}\t0\t32\t44\t62\n")
    (base / "val" / "val_annotations.txt").write_text("".join(lines))
    (base / "wnids.txt").write_text("\n".join(reversed(SYNSETS)))
    return tmp_path


def test_tiny_imagenet_is_read_in_the_order_of_its_synsets(tiny: Path) -> None:
    data = load(Spec(name="tiny_imagenet", root=str(tiny)))
    assert data.class_names == SYNSETS
    assert data.train.labels_N.tolist() == [0, 0, 1, 1, 2, 2] and data.eval.labels_N.tolist() == [2, 1, 0]
    assert data.train.images_NCHW.shape == (6, 3, 64, 64)
    # The left column is nearly the class's level.
    assert (data.eval.images_NCHW[:][:, 0, :, 0].float().mean(1) / 50).round().tolist() == [2, 1, 0]
    assert data.mean == public_sets.IMAGENET_MEAN and data.shape.image_size_px == 64


def test_tiny_imagenet_without_its_annotations_is_refused(tiny: Path) -> None:
    (tiny / "tiny-imagenet-200" / "val" / "val_annotations.txt").unlink()
    with pytest.raises(DataError, match=r"val_annotations.txt is missing: Tiny ImageNet must lie in"):
        load(Spec(name="tiny_imagenet", root=str(tiny)))


def test_an_annotation_of_no_class_is_refused_with_its_line(tiny: Path) -> None:
    path = tiny / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    path.write_text(path.read_text() + "val_9.JPEG\tn99\t0\t0\t1\t1\n")
    with pytest.raises(DataError, match=r"val_annotations.txt: line 4 names the synset 'n99', which has no folder"):
        load(Spec(name="tiny_imagenet", root=str(tiny)))


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    """Photographs of several sizes, two to train on and one to judge in each class."""
    for label, synset in enumerate(SYNSETS):
        jpeg(tmp_path / "train" / synset / f"{synset}_1.JPEG", 50 * label, (300, 260))
        jpeg(tmp_path / "train" / synset / f"{synset}_2.JPEG", 50 * label, (200, 400))
        jpeg(tmp_path / "val" / synset / f"ILSVRC2012_val_{label}.JPEG", 50 * label, (600, 520))
    return tmp_path


def test_imagenet_is_kept_at_256_px_and_seen_at_224(imagenet: Path) -> None:
    data = load(Spec(name="imagenet", root=str(imagenet)))
    assert data.train.images_NCHW.shape == (6, 3, 256, 256) and data.shape.image_size_px == 224
    assert data.class_names == SYNSETS and data.train.labels_N.tolist() == [0, 0, 1, 1, 2, 2]
    # The ramp of 300 px is cut to its middle 260 of 300: from 100 * 20 / 300 on.
    row_W = data.train.images_NCHW[:][0, 0, 128].float()
    assert (float(row_W[0]), float(row_W[-1])) == (pytest.approx(7, abs=2), pytest.approx(93, abs=2))


def test_a_list_of_classes_keeps_those_in_the_order_of_their_synsets(imagenet: Path, tmp_path: Path) -> None:
    listed = tmp_path / "imagenet_2.txt"
    listed.write_text("# two of them\nn02124075 Egyptian cat\n\nn01443537 goldfish\n")
    data = load(Spec(name="imagenet", root=str(imagenet), classes=str(listed)))
    assert data.class_names == ("n01443537", "n02124075")
    assert data.train.labels_N.tolist() == [0, 0, 1, 1] and len(data.eval) == 2
    listed.write_text("n01443537\nn99999999\n")
    with pytest.raises(DataError, match=r"lists 'n99999999', which has no folder in .* \(1 of 2 have none\)"):
        load(Spec(name="imagenet", root=str(imagenet), classes=str(listed)))


def test_imagenets_unsorted_validation_images_are_refused(imagenet: Path) -> None:
    for path in sorted((imagenet / "val").rglob("*.JPEG")):
        path.rename(imagenet / "val" / path.name)
    for synset in SYNSETS:
        (imagenet / "val" / synset).rmdir()
    with pytest.raises(DataError, match=r"val holds images without class folders. Sort them once with torchvision"):
        load(Spec(name="imagenet", root=str(imagenet)))


def test_a_missing_imagenet_says_how_it_must_lie(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train is not a folder. ImageNet must lie as root/train/<synset>"):
        load(Spec(name="imagenet", root=str(tmp_path)))
