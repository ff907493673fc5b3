"""Which errors say that a GPU, or this process's hold on it, is gone: nothing in this process will work there again.

A trial that meets one is started again in another process; a search actor ends and comes back fresh. Running out of
memory is no such error.
"""

import re

# Of cudaError_t, as the driver names them: those after which CUDA asks for a new process, or for another device.
_CODES = frozenset({46, 100, 101, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 720, 721, 999})
_WORDS = re.compile(
    r"device-side assert|illegal memory access|illegal instruction|illegal address|unspecified launch failure"
    r"|launch timed out|misaligned address|hardware stack error|invalid program counter|uncorrectable|\becc error"
    r"|no cuda-capable device|busy or unavailable|gpu is lost|fallen off the bus|cuda unknown error",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\bcuda(?: runtime)? error:?\s*\(?(\d+)", re.IGNORECASE)


class DeviceLost(RuntimeError):
    """This process can use its GPU no more; it has to end."""


def is_lost(error: BaseException) -> bool:
    """Whether the error, or one that it came from, says that the GPU of this process is gone."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        if isinstance(cause, DeviceLost) or getattr(cause, "error_code", None) in _CODES:
            return True
        text = str(cause)
        number = _NUMBER.search(text)
        if _WORDS.search(text) or (number is not None and int(number[1]) in _CODES):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
