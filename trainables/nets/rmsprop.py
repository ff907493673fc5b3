"""RMSprop in one pass over the weights.

PyTorch fuses Adam and SGD and not RMSprop, which walks over every weight six times. RMSprop is Adam without momentum
and without the correction of its first steps, so this is Adam's fused kernel, told that those steps lie far behind.
"""

from collections.abc import Callable, Iterable
from itertools import compress
from typing import Any

import torch
from torch import Tensor, nn

_STEPS_BEHIND = 1e6
"""At this many, the correction 1 - alpha^steps is 1 for every alpha up to 0.99998."""


class _FusedRMSprop(torch.optim.Adam):
    """Adam's kernel without what PyTorch does around it in Python, which for a small network took longer on a CPU.

    Steps are not counted: the kernel is always told the same number. Weights without a gradient stay as they are.
    """

    _gathered: tuple[list[Tensor], ...] | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """closure: not called."""
        (group,) = self.param_groups
        lists = self._lists()
        has_gradient = [weight.grad is not None for weight in lists[0]]
        if not all(has_gradient):
            lists = tuple(list(compress(values, has_gradient)) for values in lists)
        weights, means, squares, steps = lists
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        torch._fused_adam_(
            weights, gradients, means, squares, [], steps,
            lr=group["lr"], beta1=group["betas"][0], beta2=group["betas"][1], weight_decay=0.0, eps=group["eps"],
            amsgrad=False, maximize=False,
        )  # fmt: skip

    def zero_grad(self, set_to_none: bool = True) -> None:
        for weight in self._lists()[0]:
            weight.grad = None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._gathered = None

    def _lists(self) -> tuple[list[Tensor], ...]:
        """Weights, means, mean squares and numbers of steps."""
        if self._gathered is None:
            weights = self.param_groups[0]["params"]
            states = [self.state[weight] for weight in weights]
            names = ("exp_avg", "exp_avg_sq", "step")
            self._gathered = (weights, *([state[name] for state in states] for name in names))
        return self._gathered


def fused(parameters: Iterable[nn.Parameter], *, lr: float, alpha: float) -> torch.optim.Adam:
    """What ``torch.optim.RMSprop`` does with these settings and its others at their defaults.

    Raises:
        ValueError: alpha outside of [0, 0.9999].
    """
    if not 0 <= alpha <= 0.9999:
        raise ValueError(f"alpha must lie in [0, 0.9999], but is {alpha}.")
    weights = list(parameters)
    optimizer = _FusedRMSprop(weights, lr=lr, betas=(0.0, alpha), eps=1e-8, fused=True)
    for weight in weights:
        optimizer.state[weight] = {
            "step": torch.tensor(_STEPS_BEHIND, device=weight.device),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": torch.zeros_like(weight),
        }
    return optimizer
