"""Small constants on a device, sent there once: sending one makes the host wait for the device."""

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=256)
def constant(values: tuple[float, ...] | tuple[tuple[float, ...], ...], device: torch.device) -> Tensor:
    """The values as float32 on the device; the tensor is shared and must not be changed.

    Args:
        values: numbers, or rows of numbers.
        device: where they are needed.
    """
    return torch.tensor(values, dtype=torch.float32, device=device)
