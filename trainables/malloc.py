"""Memory of the C library that training frees and asks for again a moment later.

A step on a CPU frees every map between the layers and asks for the same sizes in the next one. By default glibc hands
large blocks back to the system at once, and gets them again page by page, each page filled with zeros: with two threads
that was a fifth of a SimCLR step on 32 px images. Peak memory grows by about a seventh.
"""

import ctypes
import os
from collections.abc import Mapping

# Of <malloc.h>.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
LARGEST_KEPT_BYTES = 256 << 20
"""Larger blocks go back to the system when they are freed."""
MOST_KEPT_BYTES = 512 << 20
"""As much free memory stays at the end of the heap."""


def keep_freed(environment: Mapping[str, str] = os.environ) -> bool:
    """Let this process keep freed memory; True where it does.

    Settings of the user's own, in MALLOC_... or GLIBC_TUNABLES, stand; other C libraries are left as they are.
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in environment):
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        return False
    kept = ((_MMAP_THRESHOLD, LARGEST_KEPT_BYTES), (_TRIM_THRESHOLD, MOST_KEPT_BYTES))
    return all([set_option(option, size) == 1 for option, size in kept])
