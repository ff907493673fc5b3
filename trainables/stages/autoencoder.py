"""Autoencoder pretext of DEC: the embedding that its clusters start from.

Trained as a whole by default; ``pretraining: layerwise`` first trains each layer and its mirror alone, as a denoising
autoencoder of the layers below, and then the whole without noise (DEC section 3.2). DEC prints SGD with 0.1, divided
by ten every 20,000 iterations; here Adam, whose default reaches as low an error in far fewer passes.

Pixels are scaled to [0, 1]; features by the smallest and largest value of the whole training matrix.

Axes: N images, B batch, D values of an image, E embedding width.
"""

import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import settings
from ..data import batches
from ..data.batch_random import BatchRandom
from ..interfaces import DataShape, Epoch, ImageData, Result, Runtime
from ..nets import autoencoder
from ..training import clustering

NAMESPACE = "pretext"
INPUTS: tuple[str, ...] = ()
VERSION = 2
METRICS = ("loss", "epoch_seconds")
CRITERION = None  # A wider embedding always reconstructs better.

_LAYERWISE = {"pretraining": ("layerwise",)}


@dataclass(frozen=True, kw_only=True)
class Config(clustering.OptimizerConfig):
    widths: str = settings.setting(
        "500-500-2000",
        "widths of the layers before the embedding; the decoder mirrors them",
        choices=("500-500-2000", "256-128", "64-64"),
    )
    embed_dim: int = settings.setting(10, "width of the embedding", low=1, high=4096, symbol="E")
    pretraining: str = settings.setting(
        "joint", "all layers at once, or each alone before all of them", choices=("joint", "layerwise")
    )
    layer_epochs: int = settings.setting(
        50, "passes over the training images for each layer", low=1, unit="epochs", when=_LAYERWISE
    )
    noise: float = settings.setting(
        0.2, "share of the inputs and of the codes set to zero while a layer trains alone",
        low=0, below=1, when=_LAYERWISE,
    )  # fmt: skip
    epochs: int = settings.setting(100, "passes over the training images for the whole", low=1, unit="epochs")
    batch_size: int = settings.setting(256, "images in a step, over all workers", low=2, unit="images", symbol="B")
    optimizer: str = settings.setting("adam", "optimizer of every phase", choices=("adam", "sgd"))
    lr: float = settings.setting(1e-3, "learning rate, constant", above=0)
    weight_decay: float = settings.setting(0.0, "L2 penalty, on every parameter", low=0)

    def __post_init__(self) -> None:
        settings.check(self)


def limits(config: Config, shape: DataShape) -> Iterator[tuple[str, str]]:
    yield from clustering.limits_on_size(config, shape, ("batch_size",))


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Train all phases; see the module's docstring.

    Returns:
        weights: autoencoder. arrays: embedding_train, embedding_eval (N, E), float32, not normalized.
        facts: num_values, widths, embed_dim, low, high: what ``nets.autoencoder.Autoencoder`` is built from.
    """
    facts = _facts(config, data)
    model = autoencoder.built(facts, runtime.seed).to(runtime.device)
    done, losses, saved = 0, {}, runtime.resume()
    if saved is not None:
        done, losses = saved["epoch"], dict(saved["losses"])
        model.load_state_dict(saved["model"])
    phase, num_layers = -1, len(model.encoder)
    total = config.epochs + (config.layer_epochs * num_layers if config.pretraining == "layerwise" else 0)
    for epoch in range(done, total):
        started = time.perf_counter()
        first_joint = total - config.epochs
        if phase != (now := num_layers if epoch >= first_joint else epoch // config.layer_epochs):
            phase = now
            part: nn.Module = model if phase == num_layers else autoencoder.LayerPair(model, phase)
            trained = runtime.prepare(part, config)
            optimizer = clustering.optimizer(config, list(part.parameters()))
            if saved is not None and saved["phase"] == phase:
                optimizer.load_state_dict(saved["optimizer"])
            saved = None
        losses = _epoch(_Phase(config, data, model, trained, optimizer, runtime, phase), epoch)
        state = partial(_state, model, optimizer, {"epoch": epoch + 1, "phase": phase, "losses": losses})
        yield Epoch(epoch + 1, total, losses | {"epoch_seconds": time.perf_counter() - started}, state)
    arrays = {"embedding_train": autoencoder.embedded(model, data.train).cpu().numpy()}
    arrays["embedding_eval"] = (
        arrays["embedding_train"] if data.is_union else autoencoder.embedded(model, data.eval).cpu().numpy()
    )
    return Result({"autoencoder": model.state_dict()}, arrays, facts, losses)


@dataclass(frozen=True)
class _Phase:
    """What an epoch needs. number: the layer that is trained, or one past the last for all. trained: wrapped."""

    config: Config
    data: ImageData
    model: autoencoder.Autoencoder
    trained: nn.Module
    optimizer: torch.optim.Optimizer
    runtime: Runtime
    number: int


def _state(model: nn.Module, optimizer: torch.optim.Optimizer, progress: dict[str, Any]) -> dict[str, Any]:
    return progress | {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def _facts(config: Config, data: ImageData) -> dict[str, Any]:
    images_NCHW = data.train.images_NCHW
    low, high = 0.0, 255.0
    if data.shape.is_features:
        low, high = (float(value) for value in torch.aminmax(images_NCHW[:]))
    num_values = int(images_NCHW.shape[1:].numel())
    return {
        "num_values": num_values,
        "widths": config.widths,
        "embed_dim": config.embed_dim,
        "low": low,
        "high": high,
    }


def _epoch(phase: _Phase, epoch: int) -> dict[str, float]:
    config, runtime, split = phase.config, phase.runtime, phase.data.train
    noise = runtime.generator("noise", epoch)
    phase.trained.train()
    total, steps = torch.zeros((), device=runtime.device), 0
    for batch in batches.batches(
        split,
        config.batch_size,
        runtime.generator("order", epoch),
        rank=runtime.rank,
        world_size=runtime.world_size,
        drop_last=True,
    ):
        scaled_BD = phase.model.scaled(split.images_NCHW[batch.rows_B])
        if phase.number < len(phase.model.encoder):
            draws = BatchRandom(noise, batch.total, batch.start, len(batch.rows_B))
            loss = _layer_loss(phase, scaled_BD, draws)
        else:
            loss = (phase.trained(scaled_BD)[1] - scaled_BD).square().mean()
        phase.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        phase.optimizer.step()
        total += runtime.gather(loss.detach()[None]).mean()
        steps += 1
    return {"loss": float(total) / steps}


def _layer_loss(phase: _Phase, scaled_BD: Tensor, draws: BatchRandom) -> Tensor:
    with torch.no_grad():
        input_BI = phase.model.hidden(scaled_BD, phase.number)
    kept = 1 - phase.config.noise
    sizes = (input_BI.shape[1], phase.model.widths[phase.number])
    input_mask, code_mask = (draws.bernoulli(kept, size) / kept for size in sizes)
    found_BI: Tensor = phase.trained(input_BI * input_mask, code_mask)
    return (found_BI - input_BI).square().mean()
