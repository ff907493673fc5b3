"""A stage trained on the CPU and on the pretend GPU, and where the two differ."""

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch

from tests.pretend_gpu.device import on
from tests.stages import conftest as on_patterns
from trainables import pipeline, settings
from trainables.interfaces import Epoch, ImageData, Result, Split
from trainables.runner.runtime import SingleProcess, StageRuntime
from trainables.settings import Plain
from trainables.vector_search.faiss_search import FaissSearch

TOLERANCE = 2e-3
"""Of metrics: an operation on the pretend GPU may be computed in another order."""
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@dataclass(frozen=True)
class Trained:
    epochs: list[Epoch]
    result: Result


def train(stage: Any, config: Any, data: ImageData, inputs: Mapping[str, Result], device: torch.device) -> Trained:
    """All of a stage on a device, without Ray and store."""
    runtime = StageRuntime(SingleProcess(device), stage.NAMESPACE, 0, FaissSearch(1))
    steps: Generator[Epoch, None, Result] = stage.train(config, data, inputs, runtime)
    epochs: list[Epoch] = []
    while True:
        try:
            epochs.append(next(steps))
        except StopIteration as end:
            return Trained(epochs, end.value)


@cache
def patterns(num_channels: int, size_px: int) -> ImageData:
    """The three patterns of the stages' tests, in so many channels and pixels."""
    train_split, eval_split = (
        _widened(on_patterns.split(*each), num_channels, size_px) for each in ((120, 0), (60, 1))
    )
    means = (0.3,) * num_channels
    return ImageData("patterns", train_split, eval_split, ("top", "left", "middle"), means, means, "patterns")


def _widened(split: Split, num_channels: int, size_px: int) -> Split:
    images_NCHW = split.images_NCHW[:].expand(-1, num_channels, -1, -1).clone()
    if num_channels == 3:
        images_NCHW[:, 1] = images_NCHW[:, 1] // 3 * 2
        noise = torch.Generator().manual_seed(len(split))
        images_NCHW[:, 2] = torch.randint(0, 255, images_NCHW[:, 2].shape, generator=noise, dtype=torch.uint8)
    times = size_px // 8
    return Split(images_NCHW.repeat_interleave(times, 2).repeat_interleave(times, 3), split.labels_N)


@cache
def before(num_channels: int, size_px: int) -> Mapping[str, Result]:
    """Results of the stages that others read, trained on the CPU."""
    finished: Any = on_patterns.finished
    function = getattr(finished, "__wrapped__", None) or finished._get_wrapped_function()
    results: Mapping[str, Result] = function(patterns(num_channels, size_px))
    return results


def inputs(stage: Any, name: str, num_channels: int, size_px: int) -> Mapping[str, Result]:
    known = dict(before(num_channels, size_px))
    if name == "dec":
        known["pretext"] = known["autoencoder"]
    return {slot: known[slot] for slot in stage.INPUTS}


def comparable(config: Any) -> Any:
    """A Config whose precision auto is float32, as it is on a CPU."""
    how = getattr(config, "compute", None)
    if how is None or how.precision != "auto":
        return config
    return replace(config, compute=replace(how, precision="float32"))


def differences(name: str, changes: Mapping[str, Plain], num_channels: int = 1, size_px: int = 8) -> list[str] | None:
    """Metrics that differ between a stage on the CPU and on the pretend GPU; None where the data set forbids the stage.

    Args:
        name: the stage.
        changes: its settings; precision auto is float32 on both.
        num_channels: of the images.
        size_px: of the images.

    Raises:
        Exception: what the stage raises on either device.
    """
    stage, data = pipeline.load(name), patterns(num_channels, size_px)
    config = settings.build(stage.Config, dict(changes))
    if dict(stage.limits(config, data.shape)):
        return None
    read = inputs(stage, name, num_channels, size_px)
    expected = train(stage, config, data, read, CPU)
    config = comparable(config)
    with on():
        found = train(stage, config, data.to(CUDA), read, CUDA)
        for epoch in found.epochs:
            epoch.state()
    assert all(isinstance(array, np.ndarray) for array in found.result.arrays.values())
    pairs = [*zip(expected.epochs, found.epochs, strict=True), (expected.result, found.result)]
    return [line for one, other in pairs for line in _unlike(one.metrics, other.metrics)]


def _unlike(expected: Mapping[str, float], found: Mapping[str, float]) -> list[str]:
    assert set(expected) == set(found)
    return [
        f"{name}: {value:g} on the CPU, {found[name]:g} on the pretend GPU"
        for name, value in expected.items()
        if "seconds" not in name and not _are_close(value, found[name])
    ]


def _are_close(value: float, other: float) -> bool:
    if math.isnan(value) or math.isnan(other):
        return math.isnan(value) and math.isnan(other)
    return abs(value - other) <= TOLERANCE * max(1.0, abs(value))
