"""What a stage sees of where it runs: one process (``Alone``) or one rank of a Ray Train worker group (``Group``).

Ray's own context raises outside of its worker groups, so stages talk to this instead.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..data.batches import batches
from ..interfaces import Batch, Runtime, Search, Split, State
from ..nets import precision
from ..vector_search.faiss_search import FaissSearch


class ProcessGroup(Protocol):
    """The processes that compute one stage together."""

    @property
    def rank(self) -> int: ...

    @property
    def world_size(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def gather(self, rows: Tensor) -> Tensor: ...

    def prepare(self, model: nn.Module) -> nn.Module: ...

    def share(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        ...


@dataclass(frozen=True)
class SingleProcess:
    """One process, one device."""

    device: torch.device = field(default_factory=lambda: torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    rank: int = 0
    world_size: int = 1

    def gather(self, rows: Tensor) -> Tensor:
        return rows

    def prepare(self, model: nn.Module) -> nn.Module:
        return model.to(self.device)

    def share(self, value: Any) -> Any:
        return value


class TrainWorker:
    """One rank of a Ray Train worker group, whose process group is already up (NCCL on GPUs, gloo on CPUs)."""

    def __init__(self) -> None:
        import ray.train.torch

        self.rank = torch.distributed.get_rank()
        self.world_size = torch.distributed.get_world_size()
        self.device = ray.train.torch.get_device()

    def gather(self, rows: Tensor) -> Tensor:
        if self.world_size == 1:
            return rows
        if not rows.requires_grad:
            parts = [torch.empty_like(rows) for _ in range(self.world_size)]
            torch.distributed.all_gather(parts, rows.contiguous())
            return torch.cat(parts)
        # Every rank computes the same global loss. This gather's backward adds up the ranks' gradients, and DDP's mean
        # divides by the number of ranks: together the gradient of that one loss.
        import torch.distributed.nn.functional as differentiable

        return torch.cat(differentiable.all_gather(rows.contiguous()))

    def prepare(self, model: nn.Module) -> nn.Module:
        model.to(self.device)
        if self.world_size == 1:
            return model
        if self.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        # Buffers stay with their rank: broadcasting them between two forward passes of one step breaks the backward.
        return nn.parallel.DistributedDataParallel(
            model, device_ids=[self.device] if self.device.type == "cuda" else None, broadcast_buffers=False
        )

    def share(self, value: Any) -> Any:
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]


@dataclass(frozen=True)
class StageRuntime:
    """A Runtime (see ``interfaces``) for one stage of one trial."""

    process_group: ProcessGroup
    stage: str
    seed: int
    search: Search
    saved: State | None = None

    @property
    def device(self) -> torch.device:
        return self.process_group.device

    @property
    def rank(self) -> int:
        return self.process_group.rank

    @property
    def world_size(self) -> int:
        return self.process_group.world_size

    def generator(self, purpose: str, epoch: int = 0) -> torch.Generator:
        digest = hashlib.sha256(f"{self.seed}/{self.stage}/{purpose}/{epoch}".encode()).digest()
        generator = torch.Generator(self.device)
        generator.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        return generator

    def batches(
        self, rows: int | Split, size: int, epoch: int, *, purpose: str = "order", drop_last: bool = True
    ) -> Iterator[Batch]:
        order = self.generator(purpose, epoch)
        return batches(rows, size, order, rank=self.rank, world_size=self.world_size, drop_last=drop_last)

    def gather(self, rows: Tensor) -> Tensor:
        return self.process_group.gather(rows)

    def prepare(self, model: nn.Module, how: precision.ComputeConfig | None = None) -> nn.Module:
        made = self.process_group.prepare(model)
        return made if how is None else precision.applied(made, how, self.device)

    def resume(self) -> State | None:
        return self.saved


def local(seed: int = 0, stage: str = "local", threads: int = 1) -> Runtime:
    """A runtime without Ray: for tests, profiling and a bare machine."""
    return StageRuntime(SingleProcess(), stage, seed, FaissSearch(threads))
