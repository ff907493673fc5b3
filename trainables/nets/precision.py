"""How a training pass is computed: in bfloat16 where the device is made for it, and compiled where that is asked for.

Only the passes of training run in bfloat16, with a gradient or without one: weights, optimizer, losses and evaluation
stay float32, and a network's outputs are float32 again before any loss sees them. Compiled code belongs to a network's
class, so the later trials of a warm process find it done.
"""

import os
import shutil
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .. import settings


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """How a stage that trains a network computes its forward and backward pass: the group ``compute`` of its Config."""

    precision: str = settings.setting(
        "auto",
        "format of the training forward pass; auto is bf16 on GPUs that have it, float32 elsewhere",
        choices=("auto", "float32", "bf16"),
    )
    compiled: bool = settings.setting(
        False, "torch.compile the training pass; the first step of a process takes up to a minute longer"
    )
    cuda_graphs: bool = settings.setting(
        False,
        "replay the compiled pass as CUDA graphs, for networks whose kernels are shorter than their launches; takes "
        "memory for each batch size",
        when={"compiled": (True,)},
    )

    def __post_init__(self) -> None:
        settings.check(self)


class Autocast(nn.Module):
    """A network whose forward pass runs in bfloat16 and returns float32."""

    def __init__(self, module: nn.Module, device_type: str) -> None:
        super().__init__()
        self.module = module
        self._device_type = device_type

    def forward(self, *inputs: Any, **named: Any) -> Any:
        with torch.autocast(self._device_type, torch.bfloat16):
            outputs = self.module(*inputs, **named)
        return _widened(outputs)


def is_bf16(precision: str, device: torch.device) -> bool:
    """precision: a value of ``ComputeConfig.precision``."""
    if precision == "auto":
        # Without units for it a GPU only imitates bfloat16, slower than float32.
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bf16"


def has_compiler() -> bool:
    """Whether torch.compile finds what it needs on this machine."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++"))


def applied(module: nn.Module, how: ComputeConfig, device: torch.device) -> nn.Module:
    """The module as it is, or compiled, or inside ``Autocast``.

    Raises:
        RuntimeError: it is to be compiled, and this machine has no C++ compiler.
        ValueError: CUDA graphs of a module that is wrapped for several workers.
    """
    if how.cuda_graphs and isinstance(module, DistributedDataParallel):
        raise ValueError(
            "cuda_graphs: true is for one worker, since graphs do not hold the exchange of gradients; "
            "set the number of workers to 1, or cuda_graphs to false"
        )
    if how.compiled and not has_compiler():
        raise RuntimeError(
            "compiled: true needs a C++ compiler on every machine that trains; install g++, or set it to false"
        )
    # Inductor's name for CUDA graphs; on a CPU it changes nothing.
    mode = "reduce-overhead" if how.cuda_graphs else None
    made: Any = torch.compile(module, mode=mode) if how.compiled else module
    return Autocast(made, device.type) if is_bf16(how.precision, device) else made


def without_gradient(module: nn.Module, how: ComputeConfig, device: torch.device) -> nn.Module:
    """The module for passes of training that no gradient goes through: in the precision of the others, not compiled."""
    return Autocast(module, device.type) if is_bf16(how.precision, device) else module


def _widened(outputs: Any) -> Any:
    if isinstance(outputs, Tensor):
        return outputs.float() if outputs.dtype == torch.bfloat16 else outputs
    if isinstance(outputs, dict):
        return {name: _widened(value) for name, value in outputs.items()}
    if isinstance(outputs, tuple) and hasattr(outputs, "_fields"):
        return type(outputs)(*(_widened(value) for value in outputs))
    if isinstance(outputs, list | tuple):
        return type(outputs)(_widened(value) for value in outputs)
    return outputs
