"""How fast the stages of a pipeline are here, from a few steps of each: images a second, memory, share of the peak.

Each stage trains two short epochs on some of the images, in this process and without Ray, on what the stages before it
left after theirs. In the first one floating point operations are counted, the second one is timed. An epoch is timed as
it is run, with what the stage judges after it, so a study's time follows from it.

Peak memory is the process's resident memory on a CPU, and on a GPU what PyTorch reserved, which no other process gets.
"""

import os
import resource
import statistics
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from .. import pipeline, settings
from ..data.splits import picked
from ..interfaces import ImageData, Result, Search, Split, Stage
from ..nets import precision
from .runtime import ProcessGroup, StageRuntime

EPOCHS = 2
STEPS = 2
"""Steps of the largest batch that the images are enough for."""
LEAST_IMAGES = 512
_SHORT = {"epochs": EPOCHS, "warmup_epochs": 0}
_SIZES = ("batch_size", "outer_batch", "num_clusters")
_MATRIX = {"cpu": 2048, "cuda": 8192}
_PEAK_ROUNDS = 5
_QUADRATIC = frozenset({"neighbors", "knn_probe"})
"""Stages that hold every image against every other one."""


@dataclass(frozen=True)
class Measured:
    """One stage, as it was seen here.

    num_images: it was shown. images_per_s: in a timed epoch, or in all of a stage without epochs. epoch_s: the timed
    epoch; rest_s: everything outside of epochs (setting up, the result); both for ``num_images``. peak_bytes: while it
    ran. flops_per_s: 0 where nothing was counted.
    """

    slot: str
    stage: str
    num_images: int
    images_per_s: float
    epoch_s: float
    rest_s: float
    peak_bytes: int
    flops_per_s: float

    def seconds(self, num_images: int, epochs: int) -> float:
        """What it would take for so many images and epochs (0: a stage without any)."""
        times = num_images / self.num_images
        if self.stage in _QUADRATIC:
            return self.rest_s * times**2
        return times * (self.epoch_s * epochs + self.rest_s)


@dataclass(frozen=True)
class Failed:
    """A stage that could not be measured, and why."""

    slot: str
    stage: str
    reason: str


def some(data: ImageData, configs: Mapping[str, Any]) -> ImageData:
    """The first images of a data set, enough for some steps of the largest batch among the configs.

    Of the images that are judged the same share is kept.
    """
    largest = max([getattr(config, name, 0) for config in configs.values() for name in _SIZES], default=0)
    num = min(len(data.train), max(STEPS * largest, LEAST_IMAGES))
    train = _first(data.train, num)
    if data.is_union:
        return replace(data, train=train, eval=train, unlabeled=None)
    return replace(data, train=train, eval=_first(data.eval, len(data.eval) * num // len(data.train)), unlabeled=None)


def _first(split: Split, num: int) -> Split:
    return picked(split, torch.arange(max(num, min(len(split), LEAST_IMAGES // 4))))


def measure(
    stages: Mapping[str, Stage],
    configs: Mapping[str, Any],
    data: ImageData,
    process_group: ProcessGroup,
    search: Search,
) -> list[Measured | Failed]:
    """Every stage of a pipeline, one after the other. What follows a stage that failed cannot be measured either.

    data: on the team's device; what is to be shown, see ``some``.
    """
    results: dict[str, Result] = {}
    found: list[Measured | Failed] = []
    for slot, stage in stages.items():
        name = pipeline.name_of(stage)
        try:
            inputs = {key: results[other] for key, other in pipeline.inputs(stages, slot).items()}
        except KeyError as missing:
            found.append(Failed(slot, name, f"it needs {missing.args[0]}, which was not measured"))
            continue
        runtime = StageRuntime(process_group, slot, 0, search)
        try:
            measured, results[slot] = _one(stage, _short(configs[slot]), data, inputs, runtime)
            found.append(measured)
        except (RuntimeError, ValueError, FloatingPointError, MemoryError) as error:
            found.append(Failed(slot, name, f"{type(error).__name__}: {error}"))
    return found


def _short(config: Any) -> Any:
    """The Config with ``_SHORT``, wherever in it these settings stand."""
    known = settings.rules(type(config))
    short = {name: _SHORT[last] for name in known if (last := name.rpartition(".")[2]) in _SHORT}
    return settings.replaced(config, short)


def _one(
    stage: Stage, config: Any, data: ImageData, inputs: Mapping[str, Result], runtime: StageRuntime
) -> tuple[Measured, Result]:
    """Raises what the stage raises, also with its settings for ``--smoke`` where it has some."""
    try:
        return _timed(stage, config, data, inputs, runtime)
    except RuntimeError:
        # Self-labeling, for one, finds nothing to do on what two short epochs left.
        eased = pipeline.smoke_settings(stage)
        if not eased:
            raise
        return _timed(stage, settings.replaced(config, eased), data, inputs, runtime)


def _timed(
    stage: Stage, config: Any, data: ImageData, inputs: Mapping[str, Result], runtime: StageRuntime
) -> tuple[Measured, Result]:
    device, counter = runtime.device, FlopCounterMode(display=False)
    _forget_peak(device)
    epochs_s: list[float] = []
    began, steps = time.perf_counter(), stage.train(config, data, inputs, runtime)
    while True:
        with counter if not epochs_s else nullcontext():
            epoch_began = time.perf_counter()
            try:
                epoch = next(steps)
            except StopIteration as end:
                result: Result = end.value
                break
        _wait_for(device)
        # What the stage itself calls an epoch: its setting up before the first one is none of it.
        own_s = time.perf_counter() - epoch_began
        epochs_s.append(min(own_s, epoch.metrics.get("epoch_seconds", own_s)))
    whole_s, num = time.perf_counter() - began, len(data.train)
    epoch_s = epochs_s[-1] if epochs_s else 0.0
    timed_s = epoch_s or whole_s
    flops = counter.get_total_flops() if epochs_s else 0
    rest_s = max(0.0, whole_s - sum(epochs_s))
    slot, name = stage.NAMESPACE, pipeline.name_of(stage)
    return Measured(slot, name, num, num / timed_s, epoch_s, rest_s, _peak(device), flops / timed_s), result


def peak_flops_per_s(device: torch.device) -> float:
    """What a product of two matrices reaches here, in floating point operations a second.

    In the format that ``precision: auto`` trains in on this device.
    """
    size = _MATRIX.get(device.type, _MATRIX["cpu"])
    dtype = torch.bfloat16 if precision.is_bf16("auto", device) else torch.float32
    matrix = torch.ones(size, size, device=device, dtype=dtype)
    seconds = []
    for _ in range(_PEAK_ROUNDS):
        _wait_for(device)
        began = time.perf_counter()
        matrix @ matrix
        _wait_for(device)
        seconds.append(time.perf_counter() - began)
    return float(2 * size**3 / statistics.median(seconds))


def device_bytes(device: torch.device) -> int:
    """Memory of the device, used or not: of the GPU, or of this machine."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        # Linux: the highest resident size begins anew.
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass  # then the highest since the process began counts, which is never too little


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
