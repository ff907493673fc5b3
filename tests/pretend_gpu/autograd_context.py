"""Lets autograd run backward for the pretend device: PyTorch asks CUDA for a context there, which raises without a GPU.

The question is a function of libtorch_cuda that nothing in Python reaches. In this process's memory alone its first
bytes are replaced by "return false". The file is not changed.
"""

import ctypes
import mmap
import platform
import struct
from functools import cache
from pathlib import Path

import numpy as np
import torch

_SYMBOL_ENDING = b"12_GLOBAL__N_118_hasPrimaryContextEa"
_RETURN_FALSE = b"\x31\xc0\xc3"  # xor eax, eax; ret
_READ_WRITE_EXECUTE = 7
_SYMBOL_TABLE, _HEADER = 2, struct.Struct("<IIQQQQIIQQ")
_SYMBOL = np.dtype(
    [("name", "<u4"), ("kind", "u1"), ("other", "u1"), ("section", "<u2"), ("at", "<u8"), ("size", "<u8")]
)


class Unsupported(RuntimeError):
    """The function is not where it is looked for; the message says why."""


@cache
def replace() -> None:
    """Answer "no context" from now on; a second call does nothing.

    Raises:
        Unsupported: another processor, a build of PyTorch without CUDA, or one without this function's symbol.
    """
    if platform.machine() != "x86_64":
        raise Unsupported(f"the pretend GPU is written for x86_64, and this is {platform.machine()}")
    library = Path(torch.__file__).parent / "lib" / "libtorch_cuda.so"
    if not library.exists():
        raise Unsupported("this build of PyTorch has no CUDA part")
    # Before the first backward pass of the process, which starts a thread for each device that there is.
    torch._C._ensureCUDADeviceGuardSet()
    address = _loaded_at(library) + _offset(library)
    page = address & ~(mmap.PAGESIZE - 1)
    if ctypes.CDLL(None).mprotect(ctypes.c_void_p(page), 2 * mmap.PAGESIZE, _READ_WRITE_EXECUTE):
        raise Unsupported("this system does not allow a process to change its own code")
    ctypes.memmove(address, _RETURN_FALSE, len(_RETURN_FALSE))


def _loaded_at(library: Path) -> int:
    lines = Path("/proc/self/maps").read_text().splitlines()
    starts = [int(line.split("-")[0], 16) for line in lines if line.endswith(library.name)]
    if not starts:
        raise Unsupported(f"{library.name} is not loaded")
    return min(starts)


def _offset(library: Path) -> int:
    """Where the function lies in the library, by the library's table of symbols (ELF, 64 bits)."""
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        first, size, number = (*struct.unpack_from("<Q", content, 40), *struct.unpack_from("<HH", content, 58))
        sections = [_HEADER.unpack_from(content, first + size * row) for row in range(number)]
        for _, kind, _, _, start, length, link, *_ in sections:
            if kind == _SYMBOL_TABLE:
                names_start, names_length = sections[link][4:6]
                end = content.find(_SYMBOL_ENDING + b"\0", names_start, names_start + names_length)
                if end >= 0:
                    name = content.rfind(b"\0", names_start, end) + 1 - names_start
                    symbols = np.frombuffer(content[start : start + length], dtype=_SYMBOL)
                    return int(symbols["at"][symbols["name"] == name][0])
    raise Unsupported(f"this build of PyTorch {torch.__version__} has no symbol of that function")
