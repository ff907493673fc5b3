"""What a data set is known by: its pixels, or the files that hold them where there are too many to decode.

Axes: N images.
"""

import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any

from ..interfaces import Split
from .decoding.workers import FileImages

VERSION = "images-1"
FILES_VERSION = "files-1"
NUM_READ = 4096
"""Files of a part whose content is read, spread evenly over it."""


def of_pixels(meaning: Mapping[str, Any], parts: Sequence[Split]) -> str:
    """Fingerprint of a data set by its pixels and labels.

    Args:
        meaning: the fields of a Spec that decide the images.
        parts: all splits that a stage can read.

    Returns:
        sha256, in hexadecimal. It does not depend on where the files lie.
    """
    digest = hashlib.sha256(VERSION.encode())
    digest.update(repr(sorted(meaning.items())).encode())
    for part in parts:
        digest.update(repr(tuple(part.images_NCHW.shape)).encode())
        digest.update(part.images_NCHW[:].contiguous().numpy().data)
        digest.update(part.labels_N.contiguous().numpy().data)
    return digest.hexdigest()


def of_files(meaning: Mapping[str, Any], parts: Sequence[Split]) -> str:
    """Fingerprint of a large data set by its files.

    Args:
        meaning: the fields of a Spec that decide the images.
        parts: splits whose images are files.

    Returns:
        sha256, in hexadecimal, of the names, sizes in bytes and labels of all files, and of the content of some.
        Times do not count, since they differ between copies on two machines. A file that changed and kept its size is
        noticed only if it is one of the NUM_READ whose content is read.
    """
    digest = hashlib.sha256(FILES_VERSION.encode())
    digest.update(repr(sorted(meaning.items())).encode())
    for part in parts:
        assert isinstance(part.images_NCHW, FileImages)
        paths = part.images_NCHW.paths
        digest.update(f"{len(paths)}".encode())
        for path in paths:
            text = f"{os.path.basename(path)}\0{os.stat(path).st_size}\n"
            digest.update(text.encode("utf-8", "surrogateescape"))  # a file name need not be UTF-8
        digest.update(part.labels_N.contiguous().numpy().data)
        for number in range(0, len(paths), max(1, len(paths) // NUM_READ)):
            if not stat.S_ISREG(os.stat(paths[number]).st_mode):
                continue  # a pipe would be waited for; the check of the images names it
            with open(paths[number], "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
