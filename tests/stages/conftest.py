"""Made-up data that a stage can learn in seconds, and the results of the stages before it.

Three patterns of 8 x 8 pixels (a bar on top, one on the left, a square in the middle), each with noise.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from trainables.interfaces import Epoch, ImageData, Result, Split, State
from trainables.runner.runtime import SingleProcess, StageRuntime
from trainables.settings import build
from trainables.stages import autoencoder, neighbors, scan, simclr
from trainables.vector_search.faiss_search import FaissSearch


@dataclass(frozen=True)
class Trained:
    """What a stage yielded, and what it returned."""

    epochs: list[Epoch]
    result: Result

    @property
    def metrics(self) -> list[dict[str, float]]:
        return [{key: value for key, value in each.metrics.items() if "seconds" not in key} for each in self.epochs]


Train = Callable[..., Trained]


def split(num_images: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    labels_N = torch.arange(num_images) % 3
    images_NCHW = torch.randint(0, 60, (num_images, 1, 8, 8), generator=generator)
    images_NCHW[labels_N == 0, :, :3, :] += 180
    images_NCHW[labels_N == 1, :, :, :3] += 180
    images_NCHW[labels_N == 2, :, 3:, 3:] += 180
    return Split(images_NCHW.to(torch.uint8), labels_N)


@pytest.fixture(scope="session")
def data() -> ImageData:
    names = ("top", "left", "middle")
    return ImageData("patterns", split(120, 0), split(60, 1), names, (0.3,), (0.3,), "patterns")


@pytest.fixture(scope="session")
def union(data: ImageData) -> ImageData:
    """The same images, judged on those they are trained on."""
    return replace(data, eval=data.train)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _train(
    stage: Any,
    config: Any,
    data: ImageData,
    inputs: Mapping[str, Result] | None = None,
    *,
    seed: int = 0,
    saved: State | None = None,
) -> Trained:
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), stage.NAMESPACE, seed, FaissSearch(1), saved)
    steps: Generator[Epoch, None, Result] = stage.train(config, data, inputs or {}, runtime)
    epochs: list[Epoch] = []
    while True:
        try:
            epochs.append(next(steps))
        except StopIteration as end:
            return Trained(epochs, end.value)


@pytest.fixture(scope="session")
def train() -> Train:
    """train(stage, config, data, inputs, seed=0, saved=None): all of a stage, without Ray and store."""
    return _train


@pytest.fixture(scope="session")
def finished(data: ImageData) -> dict[str, Result]:
    """Results of pretext, neighbors and scan by slot, good enough to go on from.

    "probed" is what a probe reads, "autoencoder" the pretext of DEC.
    """
    pretext = _train(
        simclr,
        build(simclr.Config, {"augmentation": "affine", "batch_size": 60, "epochs": 3, "optimizer.lr": 0.1}),
        data,
    ).result
    mined = _train(neighbors, neighbors.Config(num_neighbors=8), data, {"pretext": pretext}).result
    config = build(
        scan.Config, {"augmentation": "affine", "num_neighbors": 5, "batch_size": 60, "optimizer.lr": 1e-3, "epochs": 8}
    )
    clustered = _train(scan, config, data, {"pretext": pretext, "neighbors": mined}).result
    small = autoencoder.Config(widths="64-64", batch_size=30, epochs=20)
    coded = _train(autoencoder, small, data).result
    return {"pretext": pretext, "neighbors": mined, "scan": clustered, "probed": clustered, "autoencoder": coded}
