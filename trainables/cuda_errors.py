"""Which errors say that a GPU, or this process's hold on it, is gone: nothing in this process will work there again.

A trial that meets one is started again in another process; a search actor ends and comes back fresh. Where the GPU
itself has failed, the process stays and keeps it, so that no other trial gets it. Running out of memory is no such
error.
"""

import re
from pathlib import Path

import torch

# Of cudaError_t, as the driver names them: what every process would meet on this GPU, and after which CUDA asks for
# another process.
_BROKEN_CODES = frozenset({46, 100, 101, 214, 220})
_PROCESS_CODES = frozenset({226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 720, 721, 999})
_BROKEN_WORDS = re.compile(
    r"uncorrectable|\becc error|no cuda-capable device|busy or unavailable|gpu is lost|fallen off the bus",
    re.IGNORECASE,
)
_PROCESS_WORDS = re.compile(
    r"device-side assert|illegal memory access|illegal instruction|illegal address|unspecified launch failure"
    r"|launch timed out|misaligned address|hardware stack error|invalid program counter|cuda unknown error",
    re.IGNORECASE,
)
_MEMORY_WORDS = re.compile(r"out of memory|cudaMalloc error|Failed to cudaMalloc|ALLOC_FAILED", re.IGNORECASE)
_NUMBER = re.compile(r"\bcuda(?: runtime)? error:?\s*\(?(\d+)", re.IGNORECASE)


_DRIVER = Path("/proc/driver/nvidia/version")


class DeviceLost(RuntimeError):
    """This process can use its GPU no more; it has to end."""


def why_no_gpu() -> str:
    """Why torch cannot use a GPU that the machine has, and the way out, as the end of a sentence."""
    if torch.version.cuda is None:
        return "this torch is built without CUDA; install a wheel of torch that has it"
    try:
        version = re.search(r"Kernel Module\D*([\d.]+)", _DRIVER.read_text())
    except OSError:
        version = None
    driver = f"the driver {version[1]}" if version else "the driver"
    return (
        f"torch is built for CUDA {torch.version.cuda}, which {driver} cannot run, or the GPU is lost; update "
        "the driver (nvidia-smi shows its CUDA), or install a wheel of torch for it"
    )


def is_lost(error: BaseException) -> bool:
    """Whether the error, or one that it came from, says that the GPU of this process is gone."""
    return is_broken(error) or any(
        isinstance(each, DeviceLost) or _says(each, _PROCESS_CODES, _PROCESS_WORDS) for each in _chain(error)
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU's memory did not suffice; torch and FAISS say it in words of their own."""
    return isinstance(error, torch.OutOfMemoryError) or _MEMORY_WORDS.search(str(error)) is not None


def is_broken(error: BaseException) -> bool:
    """Whether it says that the GPU itself has failed, for every process."""
    return any(_says(each, _BROKEN_CODES, _BROKEN_WORDS) for each in _chain(error))


def _says(error: BaseException, codes: frozenset[int], words: re.Pattern[str]) -> bool:
    text = str(error)
    number = _NUMBER.search(text)
    found = {getattr(error, "error_code", None), int(number[1]) if number else None}
    return bool(found & codes) or words.search(text) is not None


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what it came from."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    return seen
