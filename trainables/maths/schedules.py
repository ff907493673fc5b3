"""Learning rates as functions of the epoch. Epochs and iterations count from 0."""

import math
from collections.abc import Collection


def constant(base_lr: float, epoch: float) -> float:
    """The same rate at every epoch."""
    del epoch
    return base_lr


def cosine_scan(base_lr: float, epoch: float, *, epochs: int) -> float:
    """Half a cosine from base_lr down to base_lr / 1000, without warm-up. Source: SCAN's pretext task.

    The floor is reached at epoch = epochs, one after the last.
    """
    floor = base_lr * 0.1**3
    return floor + (base_lr - floor) * (1 + math.cos(math.pi * epoch / epochs)) / 2


def cosine(base_lr: float, epoch: float, *, epochs: int) -> float:
    """Half a cosine from base_lr to 0, without warm-up; 0 is reached at epoch = epochs. Source: MoCo v2."""
    return base_lr * (1 + math.cos(math.pi * epoch / epochs)) / 2


def step(base_lr: float, epoch: float, *, milestones: Collection[int], decay: float) -> float:
    """base_lr times ``decay`` for each milestone that is reached; a milestone counts from that epoch on."""
    return base_lr * float(decay ** sum(epoch >= milestone for milestone in milestones))


def cosine_rampdown_spc(base_lr: float, epoch: int, iteration: int, *, epochs: int, iterations: int) -> float:
    """Half a cosine over ten epochs more than are run, at every iteration, so that the last rate is above 0.

    Args:
        iteration: within the epoch, below ``iterations``.
        iterations: optimizer steps in an epoch, at least 1.

    Source: LaplaceNet, as SPC's refinement uses it.
    """
    return base_lr * 0.5 * (1 + math.cos(math.pi * (epoch + iteration / iterations) / (epochs + 10)))


def warmup_cosine(
    base_lr: float, iteration: int, *, iterations: int, warmup: int = 0, start_lr: float = 0.0, final_lr: float = 0.0
) -> float:
    """A straight line from start_lr to base_lr, then half a cosine towards final_lr, at every iteration.

    Args:
        iterations: of the whole run; final_lr is reached at ``iteration = iterations``, one after the last.
        warmup: iterations of the line, whose last one has base_lr; below ``iterations``.

    Source: SwAV's public code.
    """
    if iteration < warmup:
        return start_lr + (base_lr - start_lr) * iteration / max(1, warmup - 1)
    share = (iteration - warmup) / (iterations - warmup)
    return final_lr + (base_lr - final_lr) * (1 + math.cos(math.pi * share)) / 2
