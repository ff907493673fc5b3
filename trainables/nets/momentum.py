"""What MoCo adds to a contrastive model: a slowly moving copy, a queue of keys, and batch norm over parts of a batch.

Axes: B batch, D feature width, Q keys in the queue.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class KeyQueue(nn.Module):
    """The newest Q keys, first in, first out, as a ring; a module, so that its state is saved with the model's."""

    def __init__(self, length: int, width: int, generator: torch.Generator) -> None:
        """Begin with random rows of length one, as MoCo does. generator: on the device where the keys are."""
        super().__init__()
        self.keys_QD: Tensor
        self.position: Tensor
        keys_QD = torch.randn(length, width, generator=generator, device=generator.device)
        self.register_buffer("keys_QD", functional.normalize(keys_QD, dim=1))
        self.register_buffer("position", torch.zeros((), dtype=torch.long, device=generator.device))

    def put(self, keys_BD: Tensor) -> None:
        """Replace the oldest keys. The write wraps around the end.

        Raises:
            ValueError: more keys than the queue holds.
        """
        length = len(self.keys_QD)
        if len(keys_BD) > length:
            raise ValueError(f"the queue holds {length} keys, but {len(keys_BD)} came; take a longer queue.")
        rows_B = (self.position + torch.arange(len(keys_BD), device=keys_BD.device)) % length
        self.keys_QD[rows_B] = keys_BD.detach()
        self.position.add_(len(keys_BD)).remainder_(length)


class SplitBatchNorm2d(nn.Module):
    """Batch norm whose statistics are those of each part of the batch, as if every part were on a device of its own.

    Parameters and buffers carry the names of ``nn.BatchNorm2d``, so that weights move freely between the two. It is no
    subclass, because it must not become a batch norm over all ranks. The running statistics are those of the parts'
    mean. In eval mode it is a plain batch norm.
    """

    def __init__(self, plain: nn.BatchNorm2d, num_parts: int) -> None:
        super().__init__()
        self.weight, self.bias = plain.weight, plain.bias
        self.running_mean: Tensor
        self.running_var: Tensor
        self.num_batches_tracked: Tensor
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(plain, name))
        self.eps, self.momentum, self.num_parts = plain.eps, plain.momentum or 0.1, num_parts

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        if not self.training:
            return functional.batch_norm(
                maps_BCHW, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        parts = maps_BCHW.chunk(self.num_parts)
        mean, var = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        normed = []
        for part_BCHW in parts:
            own_mean, own_var = self.running_mean.clone(), self.running_var.clone()
            normed.append(
                functional.batch_norm(
                    part_BCHW, own_mean, own_var, self.weight, self.bias, True, self.momentum, self.eps
                )
            )
            mean += own_mean
            var += own_var
        self.running_mean.copy_(mean / len(parts))
        self.running_var.copy_(var / len(parts))
        self.num_batches_tracked += 1
        return torch.cat(normed)


def split_batch_norms(module: nn.Module, num_parts: int) -> None:
    """Replace every ``BatchNorm2d`` inside, in place, by one over ``num_parts`` parts; its weights stay."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, SplitBatchNorm2d(child, num_parts))
        else:
            split_batch_norms(child, num_parts)


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, *, momentum: float) -> None:
    """slow <- momentum slow + (1 - momentum) fast for every parameter, in place (MoCo, Eq. 2); buffers stay."""
    for own, other in zip(slow.parameters(), fast.parameters(), strict=True):
        own.mul_(momentum).add_(other, alpha=1 - momentum)
