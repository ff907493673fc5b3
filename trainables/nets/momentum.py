"""What MoCo adds to a contrastive model: a slowly moving copy, a queue of keys, and batch norm over parts of a batch.

Axes: B batch, D feature width, Q keys in the queue.
"""

from typing import Any

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

    On a GPU the parts are channels of one batch norm, since launching one for each part takes longer than computing
    it. Each part then has running statistics of its own until the mode is set or the state is saved, which says the
    same up to rounding.
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
        self._of_parts: tuple[Tensor, Tensor] | None = None
        self._num_batches = 0

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        if not self.training:
            return functional.batch_norm(
                maps_BCHW, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        if maps_BCHW.device.type == "cpu" or self.num_parts == 1 or len(maps_BCHW) % self.num_parts:
            return self._part_by_part(maps_BCHW)
        return self._at_once(maps_BCHW)

    def train(self, mode: bool = True) -> "SplitBatchNorm2d":
        self._write_statistics()
        self._of_parts = None
        return super().train(mode)

    def _part_by_part(self, maps_BCHW: Tensor) -> Tensor:
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

    def _at_once(self, maps_BCHW: Tensor) -> Tensor:
        num, channels = self.num_parts, maps_BCHW.shape[1]
        if self._of_parts is None:
            self._of_parts = (self.running_mean.repeat(num), self.running_var.repeat(num))
        mean, var = self._of_parts
        self._num_batches += 1
        # With channels last, as backbones keep their maps: (parts, part, H, W, C) to (part, H, W, parts x C) and back.
        parts_PBHWC = maps_BCHW.permute(0, 2, 3, 1).unflatten(0, (num, -1))
        side_by_side = parts_PBHWC.permute(1, 2, 3, 0, 4).flatten(3).permute(0, 3, 1, 2)
        weight, bias = self.weight.repeat(num), self.bias.repeat(num)
        normed = functional.batch_norm(side_by_side, mean, var, weight, bias, True, self.momentum, self.eps)
        normed_BHWPC = normed.permute(0, 2, 3, 1).unflatten(3, (num, channels))
        normed_NHWC: Tensor = normed_BHWPC.permute(3, 0, 1, 2, 4).flatten(0, 1)
        return normed_NHWC.permute(0, 3, 1, 2)

    @torch.no_grad()
    def _write_statistics(self) -> None:
        if self._of_parts is not None:
            for running, of_parts in zip((self.running_mean, self.running_var), self._of_parts, strict=True):
                running.copy_(of_parts.view(self.num_parts, -1).mean(dim=0))
            self.num_batches_tracked += self._num_batches
            self._num_batches = 0

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        # The parts keep theirs, so that a run goes on to the same bits whether or not it is saved.
        self._write_statistics()
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        self._of_parts, self._num_batches = None, 0
        super()._load_from_state_dict(*arguments)


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
    own, others = (list[Tensor](each.parameters()) for each in (slow, fast))
    torch._foreach_mul_(own, momentum)
    torch._foreach_add_(own, others, alpha=1 - momentum)
