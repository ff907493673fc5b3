"""LARC: SGD whose step on each tensor is scaled to the length of the tensor, for large batches.

Source: You et al. 2017 ("Large Batch Training of Convolutional Networks"), in the form without clipping that SwAV uses.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

TRUST = 1e-3
_SMALLEST = 1e-8


class Larc(torch.optim.SGD):
    """SGD with momentum on gradients (g + wd w) TRUST |w| / (|g| + wd |w|).

    A tensor of which weights or gradients are all zero keeps its plain gradient, without decay. ``weight_decay``
    enters here alone and not again in SGD's step.
    """

    def __init__(self, parameters: Iterable[Tensor], *, lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(parameters, lr=lr, momentum=momentum)
        self.decay = weight_decay

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is not None:
                    weights.grad.copy_(self._scaled(weights, weights.grad))
        return super().step(closure)

    def _scaled(self, weights: Tensor, gradient: Tensor) -> Tensor:
        weight_norm, gradient_norm = weights.norm(), gradient.norm()
        scale = TRUST * weight_norm / (gradient_norm + self.decay * weight_norm + _SMALLEST)
        usable = (weight_norm > 0) & (gradient_norm > 0)
        return torch.where(usable, (gradient + self.decay * weights) * scale, gradient)
