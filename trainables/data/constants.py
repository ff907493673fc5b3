"""Small constants on a device, sent there once: sending one makes the host wait for the device."""

from functools import lru_cache

import torch
from torch import Tensor


def constant(values: tuple[float, ...] | tuple[tuple[float, ...], ...], device: torch.device) -> Tensor:
    """The values as float32 on the device; the tensor is shared and must not be changed.

    Args:
        values: numbers, or rows of numbers.
        device: where they are needed.
    """
    if torch.compiler.is_compiling():
        # What is traced has tensors without values, which nobody may meet later; the program keeps its own constant.
        return torch.tensor(values, dtype=torch.float32, device=device)
    return _kept(values, device)


@lru_cache(maxsize=256)
def _kept(values: tuple[float, ...] | tuple[tuple[float, ...], ...], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)
