"""Which image files belong to ImageNet and Tiny ImageNet, with which labels; ``own_images.layout`` knows all others.

Nothing is decoded here. Classes are the names of the folders, sorted.
Axes: N images.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .loaded import DataError

SUFFIXES = (".jpeg", ".jpg", ".png")
TRAIN_SHARE = 0.8
_LONGEST_LIST_BYTES = 1 << 24


@dataclass(frozen=True)
class Part:
    """Some image files.

    Attributes:
        paths: of the files.
        labels_N: int64, -1 where unknown.
    """

    paths: tuple[str, ...]
    labels_N: Tensor

    def picked(self, rows_N: Tensor) -> "Part":
        """Take the files of these int64 rows."""
        return Part(tuple(self.paths[row] for row in rows_N.tolist()), self.labels_N[rows_N])


@dataclass(frozen=True)
class Tree:
    """The files of a data set. left_out: a sentence for each kind of file that is not among them."""

    train: Part
    eval: Part
    class_names: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def imagenet(root: Path, classes: str) -> Tree:
    """Find ImageNet: ``root``/train/<synset>/*.JPEG and ``root``/val/<synset>/*.JPEG, classes in synset order.

    Args:
        root: holds train and val.
        classes: text file with the synsets of a subset, one at the start of each line (ImageNet-50, -100, -200);
            empty for all.

    Raises:
        DataError: a folder is missing, or val has no class folders.
    """
    for part in (root / "train", root / "val"):
        if not part.is_dir():
            raise DataError(
                f"{part.resolve()} is not a folder. ImageNet must lie as root/train/<synset>/*.JPEG and"
                " root/val/<synset>/*.JPEG, as torchvision.datasets.ImageNet(root, split) unpacks it; it cannot be"
                " downloaded without an account."
            )
    if not _folders(root / "val") and any(_images(root / "val")):
        raise DataError(
            f"{root / 'val'} holds images without class folders. Sort them once with"
            f" torchvision.datasets.ImageNet({str(root)!r}, split='val') and its devkit archive."
        )
    names, judged = _class_names(root / "train"), _class_names(root / "val")
    if judged != names:
        differ = sorted(set(judged) ^ set(names))
        raise DataError(
            f"{root / 'val'} and {root / 'train'} must hold the same classes, but {', '.join(map(repr, differ))} is in"
            " only one of them. Add the missing class folders, or remove the others."
        )
    names = chosen(names, classes, root)
    return Tree(_labeled(root / "train", names), _labeled(root / "val", names), names)


def tiny_imagenet(root: Path, classes: str) -> Tree:
    """Find Tiny ImageNet: train/<synset>/images/*.JPEG, and val/images with val/val_annotations.txt.

    Args:
        root: holds the folder tiny-imagenet-200.
        classes: text file with the synsets to keep; empty for all.

    Raises:
        DataError: a folder or file is missing, or the annotations name an image or a synset that is not there.
    """
    base = root / "tiny-imagenet-200"
    annotations = base / "val" / "val_annotations.txt"
    if not (base / "train").is_dir() or not annotations.is_file():
        missing = base / "train" if not (base / "train").is_dir() else annotations
        raise DataError(
            f"{missing.resolve()} is missing: Tiny ImageNet must lie in {base.resolve()} as it is published. Unpack"
            " tiny-imagenet-200.zip (http://cs231n.stanford.edu/tiny-imagenet-200.zip) in root."
        )
    all_names = _class_names(base / "train")
    names = chosen(all_names, classes, base)
    places = {name: base / "train" / name / "images" for name in names}
    paths, labels = [], []
    for number, line in enumerate(annotations.read_text().splitlines(), start=1):
        file, _, synset = line.partition("\t")
        synset = synset.partition("\t")[0]
        if synset not in all_names:
            raise DataError(
                f"{annotations}: line {number} names the synset {synset!r}, which has no folder in {base / 'train'}."
                " Unpack the archive again."
            )
        if synset in names:
            paths.append(str(base / "val" / "images" / file))
            labels.append(names.index(synset))
    absent = next((path for path in paths if not Path(path).is_file()), None)
    if absent is not None:
        raise DataError(f"{absent} is missing, but {annotations} names it. Unpack the archive again.")
    return Tree(_labeled_in(places, names), Part(tuple(paths), torch.tensor(labels)), names)


def _folders(part: Path) -> list[str]:
    return sorted(path.name for path in part.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(part: Path) -> Iterator[Path]:
    return (path for path in part.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))


def _class_names(part: Path) -> tuple[str, ...]:
    names = _folders(part)
    if len(names) < 2:
        raise DataError(
            f"{part} must hold a folder for each of at least two classes, but holds {len(names)}"
            f" ({', '.join(names) or 'none'}). Put the images into folders named after their classes."
        )
    return tuple(names)


def chosen(names: Sequence[str], classes: str, root: Path) -> tuple[str, ...]:
    """The classes that a list keeps, in the order of ``names``.

    Args:
        names: of the class folders.
        classes: the list, a text file whose lines begin with a class; empty keeps all.
        root: for the error's text.

    Raises:
        DataError: the list is missing, names a class that has no folder, or fewer than two.
    """
    if not classes:
        return tuple(names)
    if not Path(classes).is_file():
        raise DataError(f"classes: {Path(classes).resolve()} is not a file. It lists the classes, one in a line.")
    if Path(classes).stat().st_size > _LONGEST_LIST_BYTES:
        raise DataError(
            f"{classes} is larger than any list of classes ({_LONGEST_LIST_BYTES:,} bytes). Is it the file?"
        )
    lines = [line.split() for line in Path(classes).read_text().splitlines()]
    wanted = [words[0] for words in lines if words and not words[0].startswith("#")]
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise DataError(
            f"{classes} lists {unknown[0]!r}, which has no folder in {root.resolve()} ({len(unknown)} of"
            f" {len(wanted)} have none). The first word of each line is the name of a class folder."
        )
    if len(set(wanted)) < 2:
        raise DataError(f"{classes} must list at least two classes, but lists {len(set(wanted))}.")
    return tuple(name for name in names if name in set(wanted))


def nothing() -> Part:
    """No files."""
    return Part((), torch.zeros(0, dtype=torch.int64))


def _labeled(part: Path, names: Sequence[str]) -> Part:
    return _labeled_in({name: part / name for name in names}, names)


def _labeled_in(places: Mapping[str, Path], names: Sequence[str]) -> Part:
    """The images of each class, from its own folder."""
    paths, labels, errors = [], [], []
    for label, name in enumerate(names):
        own = sorted(map(str, _images(places[name]))) if places[name].is_dir() else []
        if not own:
            errors.append(f"{places[name]} holds no {', '.join(SUFFIXES)} file. Add images, or remove the folder.")
        paths += own
        labels += [label] * len(own)
    if errors:
        raise DataError("\n".join(errors))
    return Part(tuple(paths), torch.tensor(labels))
