"""Each stage for one epoch on the GPU and on the CPU: the numbers of the first are those of the second."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import torch

from trainables import pipeline, registry, settings
from trainables.data.datasets import Spec, load
from trainables.interfaces import ImageData, Result
from trainables.runner.runtime import SingleProcess, StageRuntime
from trainables.vector_search.faiss_search import FaissSearch

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
FROM_FILES = frozenset({"checkpoint"})
TOLERANCE = 0.02
"""Of each metric, relative or absolute: one epoch of a few steps lets another rounding grow no further."""


def stages() -> list[str]:
    """Names of the stages that are checked."""
    return [name for name in registry.names() if name not in FROM_FILES]


def devices() -> Mapping[str, str]:
    """What PyTorch and FAISS see."""
    import faiss

    return {
        "GPUs of PyTorch": str(torch.cuda.device_count()),
        "of FAISS": str(faiss.get_num_gpus()),
        "bfloat16": str(torch.cuda.is_bf16_supported(including_emulation=False)),
        "NCCL": str(torch.distributed.is_available() and torch.distributed.is_nccl_available()),
    }


def part(name: str) -> Callable[[], Mapping[str, str]]:
    """The check of one stage, which gives its largest difference, or raises ValueError where it is too large."""

    def checked() -> Mapping[str, str]:
        expected, found = (_trained(name, device).metrics for device in (CPU, CUDA))
        apart = {
            key: abs(value - found[key]) / max(1.0, abs(value)) for key, value in expected.items() if _is_fixed(key)
        }
        worst = max(apart, key=lambda key: apart[key], default="")
        if worst and not apart[worst] <= TOLERANCE:
            raise ValueError(f"{worst} is {found[worst]:g} on the GPU and {expected[worst]:g} on the CPU")
        return {"largest difference": f"{apart.get(worst, 0):.1e}"}

    return checked


def _is_fixed(metric: str) -> bool:
    return "seconds" not in metric


@cache
def _data() -> ImageData:
    return load(Spec(name="digits", train_limit=120, eval_limit=60))


@cache
def _trained(name: str, device: torch.device) -> Result:
    """A stage after its TINY settings; what it reads is computed on the CPU for both devices."""
    stage: Any = pipeline.load(name)
    config: Any = settings.build(stage.Config, dict(stage.TINY))
    if hasattr(config, "compute"):
        config = replace(config, compute=replace(config.compute, precision="float32"))
    inputs = {slot: _trained(other, CPU) for slot, other in _inputs(name).items()}
    search = FaissSearch(1) if device.type == "cuda" else FaissSearch(1, "cpu")
    runtime = StageRuntime(SingleProcess(device), stage.NAMESPACE, 0, search)
    steps = stage.train(config, _data().to(device), inputs, runtime)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


def _inputs(name: str) -> Mapping[str, str]:
    """Slot -> stage of everything that a stage reads, by the first method that holds it."""
    if registry.is_probe(name):
        return {registry.PROBED: "simclr"}
    slots = pipeline.load(name).INPUTS
    if not slots:
        return {}
    method = next(names for names in pipeline.METHODS.values() if name in names)
    by_slot = {pipeline.load(each).NAMESPACE: each for each in method}
    return {slot: by_slot[slot] for slot in slots}
