"""Which image files belong to a data set, with which labels: folders in every usual layout, ImageNet, Tiny ImageNet.

Nothing is decoded here. Classes are the names of the folders, or the labels of a table, sorted.
Axes: N images.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .loaded import DataError
from .splits import divided

SUFFIXES = (".jpeg", ".jpg", ".png")
EVAL_FOLDERS = ("val", "test", "eval")
"""Names of the folder with the images for evaluation; the first that exists is read."""

TRAIN_SHARE = 0.8
_LONGEST_LIST_BYTES = 1 << 24
_LAYOUTS = (
    "Set root to a folder with train/<class>/*.png and val/<class>/*.png, with <class>/*.png, or with images alone"
    " (dataset.labels names a table with their labels)"
)


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
    """The files of a data set."""

    train: Part
    eval: Part
    class_names: tuple[str, ...]


def folder(root: Path, union: bool, classes: str = "", labels: str = "") -> Tree:
    """Find the images of a folder.

    Args:
        root: holds train and one of val, test, eval, or the class folders themselves, or images alone. Names that
            start with a dot, and files that are no images by their suffix, are passed over.
        union: the parts will be joined, so that one alone is enough.
        classes: a text file with the names of the classes to keep, one in a line; empty keeps all.
        labels: a table (CSV) with the columns file, label and perhaps split, for images that lie in no class folders.

    Returns:
        Images without parts are divided 80 to 20, class by class, always in the same way.

    Raises:
        DataError: a folder is missing, empty or holds one class; the parts have different classes; see ``_table`` too.
    """
    if not root.is_dir():
        raise DataError(f"{root.resolve()} is not a folder. {_LAYOUTS}; there is nothing to download for name: folder.")
    if labels:
        return _tabled(root, Path(labels), union)
    if not (root / "train").is_dir():
        if not _folders(root) and any(_images(root)):
            return _divided(_unlabeled(root), (), root, union)
        names = _chosen(_class_names(root), classes, root)
        return _divided(_labeled(root, names), names, root, union)
    flat = not _folders(root / "train") and any(_images(root / "train"))
    names = () if flat else _class_names(root / "train")
    beside = next((root / name for name in EVAL_FOLDERS if (root / name).is_dir()), None)
    if beside is None and not union:
        raise DataError(
            f"{root.resolve()} has a folder train but none of {', '.join(EVAL_FOLDERS)} beside it. Add one, or set"
            " protocol: union to train and evaluate on the same images."
        )
    if flat:
        return Tree(_unlabeled(root / "train"), _nothing() if beside is None else _unlabeled(beside), ())
    if beside is not None and _class_names(beside) != names:
        differ = sorted(set(_class_names(beside)) ^ set(names))
        raise DataError(
            f"{beside} and {root / 'train'} must hold the same classes, but {', '.join(map(repr, differ))} is in only"
            " one of them. Add the missing class folders, or remove the others."
        )
    names = _chosen(names, classes, root)
    return Tree(_labeled(root / "train", names), _nothing() if beside is None else _labeled(beside, names), names)


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
    return folder(root, union=False, classes=classes)


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
    names = _chosen(all_names, classes, base)
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


def _chosen(names: Sequence[str], classes: str, root: Path) -> tuple[str, ...]:
    """The classes that the list keeps, in the order of ``names``."""
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


def _nothing() -> Part:
    return Part((), torch.zeros(0, dtype=torch.int64))


def _unlabeled(part: Path) -> Part:
    paths = tuple(sorted(map(str, _images(part))))
    if not paths:
        raise DataError(f"{part} holds no {', '.join(SUFFIXES)} file. Add images.")
    return Part(paths, torch.full((len(paths),), -1))


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


def _divided(whole: Part, names: Sequence[str], root: Path, union: bool) -> Tree:
    if union:
        return Tree(whole, _nothing(), tuple(names))
    for label in whole.labels_N.unique().tolist():
        count = int((whole.labels_N == label).sum())
        if count < 2:
            place = root / names[label] if label >= 0 else root
            raise DataError(
                f"{place} must hold at least two images, one to train on and one to evaluate on, but holds"
                f" {count}. Add images, or set protocol: union."
            )
    train_N, eval_N = divided(whole.labels_N, TRAIN_SHARE)
    return Tree(whole.picked(train_N), whole.picked(eval_N), tuple(names))


def _tabled(root: Path, table: Path, union: bool) -> Tree:
    """The images that a table names; its column split tells train from val, test or eval where there is one."""
    rows = _table(table)
    names = tuple(sorted({row["label"] for row in rows} - {""}))
    if len(names) < 2:
        raise DataError(f"{table} must have at least two different labels, but has {len(names)}.")
    absent = [row["file"] for row in rows if not (root / row["file"]).is_file()]
    if absent:
        raise DataError(
            f"{table} names {absent[0]!r}, which is not in {root.resolve()} ({len(absent)} of {len(rows)} are not)."
            " The column file holds paths under root."
        )
    labels_N = torch.tensor([names.index(row["label"]) if row["label"] else -1 for row in rows])
    whole = Part(tuple(str(root / row["file"]) for row in rows), labels_N)
    if "split" not in rows[0]:
        return _divided(whole, names, table, union)
    train_N = torch.tensor([row["split"] == "train" for row in rows])
    return Tree(whole.picked(train_N.nonzero()[:, 0]), whole.picked((~train_N).nonzero()[:, 0]), names)


def _table(table: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with the columns file and label.

    Raises:
        DataError: it is missing, has not these columns, no rows, a file twice, or an unknown split.
    """
    if not table.is_file():
        raise DataError(f"labels: {table.resolve()} is not a file. It is a CSV table with the columns file and label.")
    with table.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        columns = reader.fieldnames or ()
        rows = list(reader)
    if not {"file", "label"} <= set(columns) or not rows:
        raise DataError(
            f"{table} must have the columns file and label in its first line and images below, but has"
            f" {', '.join(columns) or 'no columns'} and {len(rows)} rows."
        )
    known = ("train", *EVAL_FOLDERS)
    seen: set[str] = set()
    for number, row in enumerate(rows, start=2):
        if row["file"] in seen:
            raise DataError(f"{table}: line {number} names {row['file']!r} a second time. Name each image once.")
        if row.get("split", "train") not in known:
            raise DataError(
                f"{table}: line {number}: split must be one of {', '.join(known)}, but is {row['split']!r}."
            )
        seen.add(row["file"])
    return rows
