"""Faults planted in the project that only show on a GPU: the pretend one catches each of them."""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

from tests.pretend_gpu.budgets import STEPS, measured
from tests.pretend_gpu.test_budgets import GROWTH, MOST_WAITS
from tests.pretend_gpu.trained import differences
from trainables import pipeline
from trainables.settings import Plain


@dataclass(frozen=True)
class Mutant:
    """Text of a module, what it becomes, and a stage that runs it; of what it costs a step where it is slow alone."""

    module: str
    right: str
    wrong: str
    stage: str
    changes: Mapping[str, Plain] = field(default_factory=dict)
    num_channels: int = 1


MUTANTS: Mapping[str, Mutant] = {
    "probabilities stay on the GPU": Mutant(
        "training.clustering", 'what="probabilities").cpu())', 'what="probabilities"))', "scan"
    ),
    "features stay on the GPU": Mutant(
        "training.pretext", "normalize(rows_ND).cpu().numpy()", "normalize(rows_ND).numpy()", "rotnet"
    ),
    "a range without its device": Mutant(
        "maths.contrastive", "torch.arange(len(anchors_AD), device=scores_AM.device)",
        "torch.arange(len(anchors_AD))", "simclr",
    ),
    "a mask without its device": Mutant(
        "maths.contrastive", "dtype=torch.bool, device=scores_AM.device)", "dtype=torch.bool)", "simclr"
    ),
    "neighbors stay on the CPU": Mutant(
        "stages.scan", 'torch.tensor(neighbors.arrays["neighbors_train"], device=device)',
        'torch.tensor(neighbors.arrays["neighbors_train"])', "scan",
    ),
    "a generator of the CPU": Mutant(
        "data.batch_random", "torch.rand(shape, generator=self.generator, device=device)",
        "torch.rand(shape, generator=torch.Generator(), device=device)", "simclr", {"augmentation": "simclr"},
    ),
    "a queue on the CPU": Mutant(
        "nets.swav", "torch.zeros(num_crops, length, width, device=device)",
        "torch.zeros(num_crops, length, width)", "swav",
    ),
    "labels of k-means stay on the CPU": Mutant(
        "training.deepcluster", "torch.tensor(result.labels_N, device=runtime.device)",
        "torch.tensor(result.labels_N)", "deepcluster",
    ),
    "labels become an array on the GPU": Mutant(
        "stages.neighbors", "data.train.labels_N.cpu().numpy()", "data.train.labels_N.numpy()", "neighbors"
    ),
    "a memory on the CPU": Mutant(
        "maths.instance_discrimination", "torch.rand(num_images, width, generator=generator, device=generator.device)",
        "torch.rand(num_images, width, generator=torch.Generator())", "instdisc",
    ),
    "grey levels without their device": Mutant(
        "data.randaugment", "dtype=torch.float32, device=images_RCHW.device)", "dtype=torch.float32)",
        "scan", {"augmentation": "scan_strong"},
    ),
    "grey images exchanged, on GPUs alone": Mutant(
        "data.color", "return torch.where(_column(grey_B), grey_B1P.view(-1, 1, *images_BCHW.shape[2:]), images_BCHW)",
        "return torch.where(_column(~grey_B), grey_B1P.view(-1, 1, *images_BCHW.shape[2:]), images_BCHW)",
        "simclr", {"augmentation": "simclr"}, 3,
    ),
    "changes of color in another order, on GPUs alone": Mutant(
        "data.color", "before_BS[:, :-1], after_BS[:, 1:]", "before_BS[:, 1:], after_BS[:, :-1]",
        "simclr", {"augmentation": "simclr"}, 3,
    ),
    "parts of a batch mixed, on GPUs alone": Mutant(
        "nets.momentum", "normed_BHWPC.permute(3, 0, 1, 2, 4)", "normed_BHWPC.transpose(0, 3).permute(3, 0, 1, 2, 4)",
        "moco",
    ),
}  # fmt: skip

SLOW: Mapping[str, Mutant] = {
    "a loss read in every step": Mutant(
        "stages.simclr", "        steps += 1\n",
        "        steps += 1 if loss.detach() > -2 and loss.detach() > -1 else 1\n",
        "simclr",
    ),
    "constants sent in every step": Mutant(
        "data.augment", "constant(values, images_BCHW.device).view(column)",
        "torch.tensor(values, device=images_BCHW.device).view(column)", "simclr",
    ),
    "weights averaged one by one": Mutant(
        "nets.momentum", "    torch._foreach_mul_(own, momentum)\n",
        "    for each in own:\n        each.mul_(momentum / 2).mul_(2)\n", "moco",
    ),
    "parts normalized one by one": Mutant(
        "nets.momentum", 'if maps_BCHW.device.type == "cpu" or', "if True or", "moco"
    ),
}  # fmt: skip


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """The fault is in every function of its module, whoever holds it."""
    module = importlib.import_module(f"trainables.{mutant.module}")
    path = Path(inspect.getfile(module))
    source = path.read_text()
    assert mutant.right in source, f"{path.name} no longer has the text that the mutant changes"
    changed: dict[str, Any] = {**vars(module)}
    exec(compile(source.replace(mutant.right, mutant.wrong), str(path), "exec"), changed)
    before: list[tuple[FunctionType, CodeType]] = []
    for own, other in _functions(module, vars(module), changed):
        before.append((own, own.__code__))
        own.__code__ = other.__code__
    try:
        yield
    finally:
        for own, code in before:
            own.__code__ = code


def _functions(
    module: ModuleType, own: Mapping[str, Any], other: Mapping[str, Any]
) -> Iterator[tuple[FunctionType, FunctionType]]:
    """Functions and methods written in the module, each with the one of that name among the others."""
    for name, value in own.items():
        match = other.get(name)
        if isinstance(value, FunctionType) and value.__module__ == module.__name__:
            value, match = inspect.unwrap(value), inspect.unwrap(match) if callable(match) else match
            if isinstance(match, FunctionType) and len(value.__code__.co_freevars) == len(match.__code__.co_freevars):
                yield value, match
        elif isinstance(value, type) and value.__module__ == module.__name__ and isinstance(match, type):
            yield from _functions(module, vars(value), vars(match))


@pytest.mark.parametrize("name", MUTANTS)
def test_a_fault_is_caught(name: str) -> None:
    mutant = MUTANTS[name]
    changes = {**pipeline.load(mutant.stage).TINY, **mutant.changes}
    with planted(mutant):
        try:
            found = differences(mutant.stage, changes, mutant.num_channels, 16 if mutant.num_channels == 3 else 8)
        except (RuntimeError, TypeError) as error:
            found = [str(error)]
    assert found


@pytest.mark.parametrize("name", SLOW)
def test_a_slow_step_is_caught(name: str) -> None:
    mutant = SLOW[name]
    usual, _ = measured(STEPS[mutant.stage])
    with planted(mutant):
        operations, waits = measured(STEPS[mutant.stage])
    assert waits > MOST_WAITS or operations > GROWTH * usual
