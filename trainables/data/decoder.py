"""One image file to the pixels of a square; and the program of a process that does this for another one.

As a program this file is run by its path, so that it starts in a moment: it imports neither torch nor this package.

    python -I decoder.py RING_FD SIZE_PX IS_BICUBIC [KEPT_FD FIRST_BYTE]

reads jobs from stdin, [[slot, path, place], ...] as one line of JSON each, writes the pixels of each file into its slot
of the ring, and answers a job with one line on stdout: a JSON list of its errors, [[path, sentence], ...]. It ends with
its stdin, and so with its owner, however that ends. Pixels with a place also go to the file of kept images (see
``decode_cache``).

Source: resizing the shorter side and keeping the middle, as ImageNet's recipes do (He et al. 2016, section 3.4).
Differs: a JPEG whose shorter side is at least twice the size wanted is reduced by a power of two inside its decoder.
Axes: H height, W width.
"""

import json
import mmap
import os
import signal
import sys

import numpy as np
from PIL import Image


class Unreadable(ValueError):
    """A file cannot be read as an image. The text names the file, the rule it breaks and the way out."""


def decoded(path: str, size_px: int, *, is_bicubic: bool = False) -> Image.Image:
    """Decode one image file to RGB.

    Args:
        path: of the file.
        size_px: the shorter side is resized to it, and the middle square is kept; 0 keeps the whole image.
        is_bicubic: by a cubic kernel instead of a linear one.

    Raises:
        Unreadable: the file is missing, empty, cut short, no image, or deeper than 8 bits.
    """
    try:
        if os.stat(path).st_size == 0:
            raise Unreadable(f"{path} is empty (0 bytes). Copy it again, or remove it.")
        with Image.open(path) as image:
            deep = image.mode[:1] in ("I", "F")
            if size_px:
                # The decoder's own reduction takes the largest power of two that leaves both sides at least this long.
                image.draft("RGB", (size_px, size_px))
            image.load()
            # Not for images that are RGB already: it would copy them.
            rgb = image if image.mode == "RGB" else image.convert("RGB")
    # Pillow raises SyntaxError for a broken PNG chunk and ValueError for a broken header.
    except (OSError, SyntaxError, Image.DecompressionBombError, ValueError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(
            f"{path} is no readable image ({error}). It was cut short, or is no image in spite of its name: copy it"
            " again, or remove it."
        ) from error
    if deep:
        # Pillow would cut every level above 255 down to it.
        raise Unreadable(f"{path} has more than 8 bits per channel. Convert it to 8 bits.")
    if size_px and rgb.size != (size_px, size_px):
        rgb = _middle_square(rgb, size_px, Image.Resampling.BICUBIC if is_bicubic else Image.Resampling.BILINEAR)
    return rgb


def _middle_square(image: Image.Image, size_px: int, kernel: Image.Resampling) -> Image.Image:
    side = min(image.size)
    left, top = ((length - side) / 2 for length in image.size)
    # Pillow's filters widen when they reduce, so that every pixel of a large image counts.
    box = (left, top, left + side, top + side)
    return image.resize((size_px, size_px), kernel, box=box)


def main(ring_fd: int, size_px: int, is_bicubic: int, kept_fd: int = -1, first_byte: int = 0) -> None:
    """Serve decoding jobs until stdin ends.

    Args:
        ring_fd: file descriptor of the shared ring of pixels.
        size_px: side of the decoded images.
        is_bicubic: 1 to resize by a cubic kernel, 0 by a linear one.
        kept_fd: file descriptor of the decode cache; -1 for none.
        first_byte: where the pixels begin in the cache.
    """
    # Ctrl-C is for the owner, which may still want what it has asked for.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ring_SHWC = np.frombuffer(mmap.mmap(ring_fd, 0), dtype=np.uint8).reshape(-1, size_px, size_px, 3)
    for line in sys.stdin.buffer:
        errors = []
        for slot, path, place in json.loads(line):
            try:
                ring_SHWC[slot] = np.asarray(decoded(path, size_px, is_bicubic=bool(is_bicubic)))
            except Unreadable as error:
                errors.append([path, str(error)])
                continue
            if kept_fd >= 0 and place >= 0 and not _keep(kept_fd, first_byte, place, ring_SHWC[slot]):
                kept_fd = -1
        try:
            sys.stdout.write(json.dumps(errors) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            return


def _keep(
    kept_fd: int, first_byte: int, place: int, image_HWC: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"
) -> bool:
    """The pixels first, then their flag; whether there was room."""
    try:
        if os.pwrite(kept_fd, image_HWC.data, first_byte + place * image_HWC.nbytes) < image_HWC.nbytes:
            return False
        os.pwrite(kept_fd, b"\1", place)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
