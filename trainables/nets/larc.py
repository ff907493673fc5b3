"""LARC: SGD whose step on each tensor is scaled to the length of the tensor, for large batches.

Source: You et al. 2017 ("Large Batch Training of Convolutional Networks"), in the form without clipping that SwAV uses.

Axes: T tensors.
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
            if weights := [each for each in group["params"] if each.grad is not None]:
                self._scale(weights, [each.grad for each in weights])
        return super().step(closure)

    def _scale(self, weights: list[Tensor], gradients: list[Tensor]) -> None:
        """Scale gradients in place, all tensors together."""
        weight_norm_T, gradient_norm_T = (torch.stack(torch._foreach_norm(each)) for each in (weights, gradients))
        scale_T = TRUST * weight_norm_T / (gradient_norm_T + self.decay * weight_norm_T + _SMALLEST)
        # Without a gradient its tensor stays, also its decay away; decay of weights that are zero is none.
        scale_T = torch.where(gradient_norm_T > 0, scale_T, 0.0)
        scale_T = torch.where(weight_norm_T > 0, scale_T, 1.0)
        torch._foreach_add_(gradients, torch._foreach_mul(weights, self.decay))
        torch._foreach_mul_(gradients, scale_T.unbind())
