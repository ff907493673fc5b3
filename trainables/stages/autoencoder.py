"""Autoencoder pretext of DEC: the embedding that its clusters start from.

Trained as a whole by default; ``pretraining: layerwise`` first trains each layer and its mirror alone, as a denoising
autoencoder of the layers below, and then the whole without noise (DEC section 3.2). DEC prints SGD with 0.1, divided
by ten every 20,000 iterations; here Adam, whose default reaches as low an error in far fewer passes. The preset
"paper" is DEC's recipe: weights from N(0, 0.01^2), that rate, and 50,000 steps a layer before 100,000 for the whole.

Pixels are scaled to [0, 1], and so is each column of features: the extremes of a whole matrix with heavy tails leave
nearly all values in a small part of [0, 1], and the embedding falls into one point. DEC scales all of a data set so
that the mean of ||x||^2 / D is 1 (``scaling: norm``).

Axes: N images, B batch, D values of an image, E embedding width.
"""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .. import settings
from ..data.batch_random import BatchRandom
from ..interfaces import DataShape, Epoch, ImageData, Result, Runtime
from ..nets import autoencoder
from ..nets.precision import ComputeConfig
from ..training import clustering, loop
from ..training.optimizers import AdamOrSgdConfig, adam_or_sgd

NAMESPACE = "pretext"
INPUTS: tuple[str, ...] = ()
VERSION = 3
METRICS = ("loss", "epoch_seconds")
CRITERION = None  # A wider embedding always reconstructs better.

TRAINS_ON_LABELS = False
WEIGHTS = ("autoencoder",)
ARRAYS = ("embedding_train", "embedding_eval")
FACTS = ("num_values", "widths", "embed_dim", "scaling")
TINY: Mapping[str, settings.Plain] = {
    "widths": "64-64",
    "embed_dim": 4,
    "batch_size": 24,
    "epochs": 1,
    "layer_epochs": 1,
}

_LAYERWISE = {"pretraining": ("layerwise",)}
_PAPER: Mapping[str, settings.Plain] = {
    "pretraining": "layerwise", "initial_weights": "dec", "scaling": "norm", "optimizer.name": "sgd",
    "optimizer.lr": 0.1, "optimizer.momentum": 0.9, "lr_decay_steps": 20_000,
}  # fmt: skip
PRESETS: Mapping[str, Mapping[str, Mapping[str, settings.Plain]]] = {
    "paper": {
        "mnist": {**_PAPER, "layer_epochs": 183, "epochs": 366},
        "features": {**_PAPER, "layer_epochs": 1000, "epochs": 2000},
    },
}
"""DEC section 4.3: 50,000 steps of 256 for each layer and 100,000 for the whole, in passes over MNIST's 70,000 images
and over STL-10's 13,000 rows of features."""

DEC_STD = 0.01


@dataclass(frozen=True, kw_only=True)
class Config:
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
    initial_weights: str = settings.setting(
        "torch",
        "first weights: PyTorch's, or DEC's from N(0, 0.01^2) with biases of 0",
        choices=("torch", "dec"),
    )
    scaling: str = settings.setting(
        "auto",
        "what the values are divided by: the extremes of the whole matrix (of pixels 0 and 255) or of each column, or"
        " the root of the mean square (DEC); auto is matrix for images and columns for features",
        choices=("auto", "matrix", "columns", "norm"),
    )
    lr_decay_steps: int = settings.setting(
        0, "steps of a phase after which the rate is divided by ten, again and again; 0 never; DEC has 20,000",
        low=0, unit="steps",
    )  # fmt: skip
    epochs: int = settings.setting(100, "passes over the training images for the whole", low=1, unit="epochs")
    batch_size: int = settings.setting(256, "images in a step, over all workers", low=2, unit="images", symbol="B")
    optimizer: AdamOrSgdConfig = settings.group(
        AdamOrSgdConfig, name=settings.setting("adam", "optimizer of every phase"), lr=1e-3, weight_decay=0.0
    )
    compute: ComputeConfig = settings.group(ComputeConfig)

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
        facts: num_values, widths, embed_dim, scaling: what ``nets.autoencoder.Autoencoder`` is built from.

    Raises:
        ValueError: all values of the data are equal.
    """
    facts = _facts(config, data)
    model = autoencoder.built(facts, runtime.seed)
    if config.initial_weights == "dec":
        model.draw_weights(DEC_STD, runtime.seed)
    model.set_scale(*_scale(facts["scaling"], data))
    model.to(runtime.device)
    phase = _Phase(config, data, model, runtime)
    num_layers = len(model.encoder)
    first_joint = config.layer_epochs * num_layers if config.pretraining == "layerwise" else 0

    def run(epoch: int) -> dict[str, float]:
        phase.enter(num_layers if epoch >= first_joint else epoch // config.layer_epochs)
        return _epoch(phase, epoch)

    parts: dict[str, loop.Stateful] = {"model": model, "phase": phase}
    last = yield from loop.epochs(first_joint + config.epochs, runtime, parts, run)
    arrays = {"embedding_train": autoencoder.embedded(model, data.train).cpu().numpy()}
    arrays["embedding_eval"] = (
        arrays["embedding_train"] if data.is_union else autoencoder.embedded(model, data.eval).cpu().numpy()
    )
    return Result({"autoencoder": model.state_dict()}, arrays, facts, {"loss": last["loss"]})


class _Phase:
    """What is trained at present, as a part of a saved state. number: the layer, or one past the last for all."""

    def __init__(self, config: Config, data: ImageData, model: autoencoder.Autoencoder, runtime: Runtime) -> None:
        self.config, self.data, self.model, self.runtime = config, data, model, runtime
        self.number = -1
        self.steps = 0
        self.trained: nn.Module
        self.optimizer: torch.optim.Optimizer

    def enter(self, number: int) -> None:
        """Turn to this layer, or to all of them, with a fresh optimizer; no change where it is trained already."""
        if number == self.number:
            return
        self.number, self.steps = number, 0
        part = self.model if number == len(self.model.encoder) else autoencoder.LayerPair(self.model, number)
        self.trained = self.runtime.prepare(part, self.config.compute)
        self.optimizer = adam_or_sgd(self.config.optimizer, list(part.parameters()))

    def state_dict(self) -> dict[str, Any]:
        return {"number": self.number, "steps": self.steps, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.enter(state_dict["number"])
        self.optimizer.load_state_dict(state_dict["optimizer"])
        self.steps = state_dict["steps"]

    def step(self, loss: Tensor) -> None:
        """One step of the optimizer, at the rate of the phase's steps so far."""
        if self.config.lr_decay_steps:
            loop.set_lr(self.optimizer, self.config.optimizer.lr * 0.1 ** (self.steps // self.config.lr_decay_steps))
        loop.step(loss, self.optimizer)
        self.steps += 1


def _facts(config: Config, data: ImageData) -> dict[str, Any]:
    scaling = config.scaling
    if scaling == "auto":
        scaling = "columns" if data.shape.is_features else "matrix"
    return {
        "num_values": int(data.train.images_NCHW.shape[1:].numel()),
        "widths": config.widths,
        "embed_dim": config.embed_dim,
        "scaling": scaling,
    }


def _scale(scaling: str, data: ImageData) -> tuple[Tensor, Tensor]:
    """Offset and spread of the training values, each (1,), or (D,) with a scale for each column.

    A column whose values are all equal becomes 0.
    """
    if scaling == "matrix" and not data.shape.is_features:
        return torch.zeros(1), torch.full((1,), 255.0)
    values_ND = data.train.images_NCHW[:].flatten(1).float()
    if scaling == "norm":
        offset, spread = torch.zeros(1), values_ND.double().square().mean().sqrt().float()[None]
    elif scaling == "columns":
        offset, high_D = torch.aminmax(values_ND, dim=0)
        spread = torch.where(high_D > offset, high_D - offset, 1.0)
    else:
        low, high = torch.aminmax(values_ND)
        offset, spread = low[None], (high - low)[None]
    if not bool((values_ND != values_ND[0, 0]).any()):
        raise ValueError(f"all values of the training data are {float(values_ND[0, 0]):g}; there is nothing to scale.")
    return offset, spread


def _epoch(phase: _Phase, epoch: int) -> dict[str, float]:
    config, runtime, split = phase.config, phase.runtime, phase.data.train
    noise = runtime.generator("noise", epoch)
    phase.trained.train()
    total, steps = torch.zeros((), device=runtime.device), 0
    for batch in runtime.batches(split, config.batch_size, epoch):
        scaled_BD = phase.model.scaled(split.images_NCHW[batch.rows_B])
        if phase.number < len(phase.model.encoder):
            draws = BatchRandom(noise, batch.total, batch.start, len(batch.rows_B))
            loss = _layer_loss(phase, scaled_BD, draws)
        else:
            loss = (phase.trained(scaled_BD)[1] - scaled_BD).square().mean()
        phase.step(loss)
        total += runtime.gather(loss.detach()[None]).mean()
        steps += 1
    return {"loss": float(total) / steps}


def _layer_loss(phase: _Phase, scaled_BD: Tensor, draws: BatchRandom) -> Tensor:
    with torch.no_grad():
        input_BI = phase.model.hidden(scaled_BD, phase.number)
    kept = 1 - phase.config.noise
    sizes = (input_BI.shape[1], phase.model.widths[phase.number])
    input_mask, code_mask = (draws.bernoulli(kept, size) / kept for size in sizes)
    decoded_BI: Tensor = phase.trained(input_BI * input_mask, code_mask)
    return (decoded_BI - input_BI).square().mean()
