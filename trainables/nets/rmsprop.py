"""RMSprop in one pass over the weights.

PyTorch fuses Adam and SGD and not RMSprop, which walks over every weight six times. RMSprop is Adam without momentum
and without the correction of its first steps, so this is Adam's fused kernel, told that those steps lie far behind.
"""

from collections.abc import Iterable

import torch
from torch import nn

_STEPS_BEHIND = 1e6
"""At this many, the correction 1 - alpha^steps is 1 for every alpha up to 0.99998."""


def fused(parameters: Iterable[nn.Parameter], *, lr: float, alpha: float) -> torch.optim.Adam:
    """What ``torch.optim.RMSprop`` does with these settings and its others at their defaults.

    Raises:
        ValueError: alpha outside of [0, 0.9999].
    """
    if not 0 <= alpha <= 0.9999:
        raise ValueError(f"alpha must lie in [0, 0.9999], but is {alpha}.")
    weights = list(parameters)
    optimizer = torch.optim.Adam(weights, lr=lr, betas=(0.0, alpha), eps=1e-8, fused=True)
    for weight in weights:
        optimizer.state[weight] = {
            "step": torch.tensor(_STEPS_BEHIND, device=weight.device),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": torch.zeros_like(weight),
        }
    return optimizer
