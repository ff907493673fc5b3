"""What can be seen of a folder of images without training: how many, how large, gray or in color, which folders."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from trainables.data.loaded import DataError, shortened
from trainables.inference import folder

LOOKED_AT = 256
"""Files that are opened, spread over all of them."""


@dataclass(frozen=True)
class Survey:
    """A folder of images.

    side_px: median of the shorter sides. sizes: how many different sizes were seen. is_gray: no image that was looked
    at has a color. class_folders: folder -> number of images, where every image lies in a folder of the root and there
    are at least two of these; else empty. num_unreadable: of the files that were looked at.
    """

    root: Path
    num_images: int
    side_px: int
    sizes: int
    is_gray: bool
    class_folders: dict[str, int]
    num_unreadable: int = 0


def surveyed(root: Path) -> Survey:
    """Look at a folder.

    Raises:
        DataError: there is no such folder, no image in it, or none that can be opened.
    """
    place = folder.opened(root)
    names = folder.names(place)
    rows = np.unique(np.linspace(0, len(names) - 1, min(len(names), LOOKED_AT)).astype(int))
    sizes, gray, errors = Counter[tuple[int, int]](), True, []
    for row in rows.tolist():
        try:
            with Image.open(place / names[row]) as image:
                sizes[image.size] += 1
                gray = gray and _is_gray(image)
        except (OSError, SyntaxError, ValueError) as error:
            errors.append(f"{place / names[row]} is no readable image ({error}). Copy it again, or remove it.")
    if errors and not sizes:
        raise DataError(shortened(errors))
    side_px = int(np.median([min(size) for size, count in sizes.items() for _ in range(count)]))
    return Survey(root, len(names), side_px, len(sizes), gray, _class_folders(names), len(errors))


def _is_gray(image: Image.Image) -> bool:
    if image.mode in ("1", "L", "LA", "I", "I;16", "F"):
        return True
    # A small copy says it as well, and large photographs take long.
    small_HWC = np.asarray(image.convert("RGB").resize((32, 32)), dtype=np.int16)
    return bool((np.ptp(small_HWC, axis=2) <= 2).all())


def _class_folders(names: tuple[str, ...]) -> dict[str, int]:
    paths = [PurePosixPath(name).parts for name in names]
    if any(len(parts) != 2 for parts in paths):
        return {}
    counts = Counter(parts[0] for parts in paths)
    return dict(counts) if len(counts) > 1 else {}
