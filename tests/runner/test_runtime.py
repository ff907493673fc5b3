"""Where a stage runs: alone, or as two ranks that together take the very step one process would take.

Whole stages are in ``test_ranks.py``. The ranks are processes of torch's own (gloo), without Ray; each writes what it
found into the test's folder.

Axes: B batch, D feature width.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainables.data import batches
from trainables.maths import contrastive
from trainables.runner.runtime import SingleProcess, StageRuntime, TrainWorker, local
from trainables.vector_search.faiss_search import FaissSearch

RANKS = 2
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Alone


def runtime(stage: str = "scan", seed: int = 0, process_group: Any = None) -> StageRuntime:
    return StageRuntime(process_group or SingleProcess(CPU), stage, seed, FaissSearch(1))


def numbers(generator: torch.Generator) -> list[float]:
    found: list[float] = torch.rand(4, generator=generator).tolist()
    return found


def test_a_generator_is_fixed_by_seed_stage_purpose_and_epoch() -> None:
    assert numbers(runtime().generator("order", 3)) == numbers(runtime().generator("order", 3))


@pytest.mark.parametrize(
    "other",
    [
        runtime(seed=1).generator("order", 3),
        runtime("spc").generator("order", 3),
        runtime().generator("views", 3),
        runtime().generator("order", 4),
    ],
    ids=["seed", "stage", "purpose", "epoch"],
)
def test_each_of_them_changes_the_generator(other: torch.Generator) -> None:
    assert numbers(runtime().generator("order", 3)) != numbers(other)


def test_torch_s_own_generator_has_no_say() -> None:
    torch.manual_seed(0)
    first = numbers(runtime().generator("order"))
    torch.manual_seed(1)
    assert numbers(runtime().generator("order")) == first


def test_alone_gathering_and_sharing_change_nothing() -> None:
    rows = torch.rand(3, 2)
    assert SingleProcess(CPU).gather(rows) is rows
    assert SingleProcess(CPU).share("value") == "value"


def test_a_runtime_for_a_bare_machine_needs_no_ray() -> None:
    made = local(seed=4)
    assert (made.rank, made.world_size, made.seed, made.resume()) == (0, 1, 4, None)


# Two ranks


def in_ranks(work: Callable[[TrainWorker, Path], None], folder: Path) -> list[Any]:
    """What ``work`` saved as <rank>.pt in each of two processes of one gloo group."""
    for attempt in range(3):
        place = folder / str(attempt)
        place.mkdir()
        context = torch.multiprocessing.start_processes(
            _enter, args=(work, str(place)), nprocs=RANKS, start_method="spawn", join=False
        )
        assert context is not None
        try:
            assert context.join(timeout=60) or context.join(timeout=60)
            return [torch.load(place / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]
        except torch.multiprocessing.ProcessRaisedException as error:
            # On a busy machine gloo's processes may miss each other, before anything of ours has run.
            if "connectFullMesh" not in str(error):
                raise
    raise AssertionError("gloo's processes did not find each other in three attempts")


def _enter(rank: int, work: Callable[[TrainWorker, Path], None], folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    work(group(), Path(folder))
    torch.distributed.destroy_process_group()


def group() -> TrainWorker:
    """A Group without Ray, which only knows the device."""
    made = object.__new__(TrainWorker)
    made.rank, made.world_size, made.device = torch.distributed.get_rank(), torch.distributed.get_world_size(), CPU
    return made


def network() -> nn.Module:
    """Without batch norm: on CPUs its statistics are each rank's own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 8))


def inputs() -> Tensor:
    return torch.rand(24, 64, generator=torch.Generator().manual_seed(5))


def loss_of(process_group: Any, model: nn.Module, rows: slice) -> Tensor:
    """NT-Xent of the two halves of the inputs over the global batch, of which ``rows`` are this rank's."""
    first, second = inputs().chunk(2)
    z0_BD, z1_BD = model(torch.cat((first[rows], second[rows]))).chunk(2)
    normalized = [process_group.gather(nn.functional.normalize(each)) for each in (z0_BD, z1_BD)]
    return contrastive.nt_xent(*normalized, temperature=0.5, symmetric=True)


def work_gradients(process_group: TrainWorker, folder: Path) -> None:
    model = process_group.prepare(network())
    loss = loss_of(process_group, model, slice(process_group.rank * 6, process_group.rank * 6 + 6))
    loss.backward()
    torch.save(
        {"loss": loss.detach(), "grads": [each.grad for each in model.parameters()]},
        folder / f"{process_group.rank}.pt",
    )


def test_two_ranks_have_the_loss_and_gradients_of_one_process(tmp_path: Path) -> None:
    model = network()
    loss = loss_of(SingleProcess(CPU), model, slice(0, 12))
    loss.backward()
    for found in in_ranks(work_gradients, tmp_path):
        torch.testing.assert_close(found["loss"], loss.detach(), rtol=1e-5, atol=1e-6)
        for ours, theirs in zip(model.parameters(), found["grads"], strict=True):
            torch.testing.assert_close(theirs, ours.grad, rtol=1e-4, atol=1e-6)


def work_gather(process_group: TrainWorker, folder: Path) -> None:
    rows = torch.full((2, 3), float(process_group.rank))
    torch.save(
        {"plain": process_group.gather(rows), "shared": process_group.share(f"from {process_group.rank}")},
        folder / f"{process_group.rank}.pt",
    )


def test_rows_are_gathered_in_rank_order_and_rank_0_s_value_is_shared(tmp_path: Path) -> None:
    for found in in_ranks(work_gather, tmp_path):
        assert found["plain"][:, 0].tolist() == [0.0, 0.0, 1.0, 1.0]
        assert found["shared"] == "from 0"


def work_batches(process_group: TrainWorker, folder: Path) -> None:
    made = runtime(process_group=process_group)
    order = batches.batches(
        26, 8, made.generator("order"), rank=process_group.rank, world_size=process_group.world_size, drop_last=True
    )
    torch.save([batch.rows_B for batch in order], folder / f"{process_group.rank}.pt")


def test_ranks_take_parts_of_the_same_global_batches(tmp_path: Path) -> None:
    first, second = in_ranks(work_batches, tmp_path)
    order = batches.batches(26, 8, runtime().generator("order"), rank=0, world_size=1, drop_last=True)
    assert [torch.cat(each).tolist() for each in zip(first, second, strict=True)] == [
        batch.rows_B.tolist() for batch in order
    ]
