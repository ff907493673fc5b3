"""Every stage that trains: two ranks with halves of each batch lose what one process loses with the whole.

Twenty steps on real digits, in processes of torch's own (gloo), without Ray; one pair of processes carries all stages.
Batch norms see the whole batch in the ranks too: on GPUs ``Group.prepare`` sees to that, on CPUs torch has nothing for
it, so here it is done by hand.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.nn.functional as differentiable
from torch import Tensor, nn

from trainables import pipeline, registry, settings
from trainables.data import datasets
from trainables.interfaces import ImageData, Result
from trainables.nets import backbones
from trainables.runner.runtime import SingleProcess, StageRuntime, TrainWorker
from trainables.settings import build
from trainables.vector_search.faiss_search import FaissSearch

RANKS = 2
CPU = torch.device("cpu")
IMAGES, EPOCHS = 48, 10
SEED = 0


def trains(name: str) -> bool:
    """Whether a stage takes gradient steps; others are the same on any number of ranks: rank 0 alone computes them."""
    return "epochs" in settings.rules(pipeline.load(name).Config)


def changes(name: str) -> dict[str, Any]:
    """A stage's TINY settings, for EPOCHS epochs."""
    return {**pipeline.load(name).TINY, "epochs": EPOCHS}


NAMES = [name for name in registry.names() if trains(name)]
REFINED = [name for name in NAMES if "an.mode" in settings.rules(pipeline.load(name).Config)]
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, changes(name)) for name in NAMES},
    **{f"{name}, refined": (name, {**changes(name), "an.mode": "both"}) for name in REFINED},
    "scan, running prior": ("scan", {**changes("scan"), "an.mode": "both", "an.class_prior": "running"}),
    "simgcd, running prior": ("simgcd", {**changes("simgcd"), "an.mode": "both", "an.class_prior": "running"}),
}


def test_the_stages_that_train_were_found() -> None:
    assert {"simclr", "scan", "dccm", "finetune_probe"} <= set(NAMES)
    assert {"scan", "swav"} <= set(REFINED)


@cache
def data() -> ImageData:
    return datasets.load(datasets.Spec(name="digits", train_limit=IMAGES, eval_limit=24))


@cache
def before() -> dict[str, Result]:
    """Inputs for every stage, the same in every process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        network = backbones.build("small", in_channels=1, image_size_px=8, seed=3)
        weights = {"backbone": network.state_dict()}
        head = {"weight": torch.randn(10, 512) / 8, "bias": torch.zeros(10)}
        table = torch.stack([torch.cat((torch.tensor([row]), torch.randperm(IMAGES)[:5])) for row in range(IMAGES)])
        rows_NC = torch.randn(IMAGES, 10).mul(3).softmax(1).numpy()
    pretext = Result(weights=weights, facts={"network": "small", "mining_space": "head"})
    return {
        "pretext": pretext,
        "probed": pretext,
        "neighbors": Result(arrays={"neighbors_train": table.numpy(), "neighbors_eval": table[:24].numpy() % 24}),
        "scan": Result(
            weights={**weights, "head": head},
            arrays={"probabilities_train": rows_NC, "probabilities_eval": rows_NC[:24]},
            facts={"network": "small", "num_clusters": 10},
        ),
    }


@cache
def coded() -> Result:
    """An autoencoder's result, for DEC; always of one process."""
    stage = pipeline.load("autoencoder")
    steps = stage.train(
        build(stage.Config, {**changes("autoencoder"), "optimizer.lr": 0.01, "epochs": 30}),
        data(),
        {},
        runtime(SingleProcess(CPU), "x"),
    )
    result: Result = list(epochs_and_result(steps))[-1]
    return result


def epochs_and_result(steps: Any) -> Iterator[Any]:
    yield (yield from steps)


def runtime(process_group: Any, stage: str) -> StageRuntime:
    return StageRuntime(process_group, stage, SEED, FaissSearch(1))


def trained(process_group: Any, variant: str) -> dict[str, Any]:
    """Every loss of every epoch, and the weights at the end."""
    name, values = VARIANTS[variant]
    stage = pipeline.load(name)
    known = {**before(), "pretext": coded()} if name == "dec" else before()
    names = stage.INPUTS
    steps = stage.train(
        build(stage.Config, values),
        data(),
        {each: known[each] for each in names},
        runtime(process_group, stage.NAMESPACE),
    )
    *epochs, result = epochs_and_result(steps)
    losses = [{key: value for key, value in epoch.metrics.items() if "loss" in key} for epoch in epochs]
    parts = {f"{part}.{key}": value for part, held in result.weights.items() for key, value in held.items()}
    return {"losses": losses, "weights": {key: value for key, value in parts.items() if isinstance(value, Tensor)}}


# Two ranks


def whole_batch_norms() -> None:
    """As ``SyncBatchNorm``, which CPUs do not have: in training every batch norm sees the batch of all ranks."""
    plain = nn.modules.batchnorm._BatchNorm.forward

    def forward(self: Any, rows: Tensor) -> Tensor:
        if not self.training:
            return plain(self, rows)
        normalized = plain(self, torch.cat(differentiable.all_gather(rows.contiguous())))
        return normalized.chunk(RANKS)[torch.distributed.get_rank()].clone()  # networks change it in place

    nn.modules.batchnorm._BatchNorm.forward = forward  # type: ignore[method-assign]


def _enter(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    coded()
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    whole_batch_norms()
    process_group = object.__new__(TrainWorker)  # without Ray, which only knows the device
    process_group.rank, process_group.world_size, process_group.device = rank, RANKS, CPU
    torch.save({name: trained(process_group, name) for name in VARIANTS}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def by_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.start_processes(_enter, args=(str(folder),), nprocs=RANKS, start_method="spawn")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    known = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(known)


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_twenty_steps_on_two_ranks_lose_what_one_process_loses(by_ranks: list[Any], variant: str) -> None:
    alone = trained(SingleProcess(CPU), variant)
    assert len(alone["losses"]) == EPOCHS and all(alone["losses"])
    for found in by_ranks:
        for number, (ours, theirs) in enumerate(zip(alone["losses"], found[variant]["losses"], strict=True), 1):
            assert theirs == pytest.approx(ours, rel=1e-5, abs=1e-5), f"epoch {number}"


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_both_ranks_end_with_the_same_weights(by_ranks: list[Any], variant: str) -> None:
    first, second = (found[variant]["weights"] for found in by_ranks)
    assert first.keys() == second.keys() and first
    for part, value in first.items():
        # MoCo's split batch norms see their own rank's share alone; the weights of rank 0 are what is kept.
        if variant != "moco" or "running_" not in part:
            assert torch.equal(value, second[part]), part


def test_the_losses_compared_are_those_of_training(by_ranks: list[Any]) -> None:
    # Were the steps without effect, all would be equal: each stage's loss moves by far more than the tolerance.
    for variant in VARIANTS:
        losses = [epoch["loss"] for epoch in by_ranks[0][variant]["losses"]]
        assert max(losses) - min(losses) > 1e-3 * max(losses), variant
