"""Optimizers that several stages train with, and their settings: the group ``optimizer`` of a stage's Config."""

from dataclasses import dataclass
from typing import Literal

import torch

from .. import settings


@dataclass(frozen=True, kw_only=True)
class SgdConfig:
    """SGD with momentum."""

    lr: float = settings.setting(0.03, "learning rate of SGD at the start", above=0)
    momentum: float = settings.setting(0.9, "momentum of SGD", low=0, below=1)
    weight_decay: float = settings.setting(1e-4, "L2 penalty, on every parameter", low=0)

    def __post_init__(self) -> None:
        settings.check(self)


@dataclass(frozen=True, kw_only=True)
class AdamOrSgdConfig:
    """Adam, or SGD with momentum."""

    name: Literal["adam", "sgd"] = settings.setting("adam", "adam for small sets, sgd for ImageNet")
    lr: float = settings.setting(1e-4, "learning rate, constant", above=0)
    momentum: float = settings.setting(0.9, "momentum of SGD", low=0, below=1, when={"name": ("sgd",)})
    weight_decay: float = settings.setting(1e-4, "L2 penalty, on every parameter", low=0)

    def __post_init__(self) -> None:
        settings.check(self)


def adam_or_sgd(config: AdamOrSgdConfig, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Adam or SGD by ``config.name``, with its lr, momentum and weight_decay (coupled L2 in both)."""
    if config.name == "adam":
        return torch.optim.Adam(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)
    return torch.optim.SGD(
        parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
    )
