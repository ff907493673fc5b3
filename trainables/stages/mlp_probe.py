"""MLP probe: a classifier with one hidden layer on the frozen network's last maps, and one on its output.

Source: DCCM's evaluation of features: Linear to 200, dropout 0.1, batch norm, ReLU, Linear to the classes. How that
was optimized is not published: Adam with 1e-3 and no decay here. The last epoch is reported.

Axes: B batch.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from .. import settings
from ..figures import of_results
from ..interfaces import CaptionedFigure, DataShape, Epoch, ImageData, Result, Runtime
from ..nets import alexnet
from ..training import probing

NAMESPACE = "mlp_probe"
INPUTS = ("probed",)
VERSION = 3
LAYERS = ("last_conv", "output")
METRICS = (
    "loss",
    *(f"{layer}_train_acc" for layer in LAYERS),
    *(f"{layer}_acc" for layer in LAYERS),
    "num_labeled",
    "epoch_seconds",
)
CRITERION = None  # It looks at labels.

TRAINS_ON_LABELS = True
WEIGHTS = ("heads",)
ARRAYS: tuple[str, ...] = ()
FACTS = ("layers",)
TINY: Mapping[str, settings.Plain] = {"batch_size": 24, "epochs": 1, "optimizer.lr": 2e-5}


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Adam."""

    lr: float = settings.setting(1e-3, "learning rate of Adam, constant", above=0)
    weight_decay: float = settings.setting(0.0, "L2 penalty", low=0)

    def __post_init__(self) -> None:
        settings.check(self)


@dataclass(frozen=True, kw_only=True)
class Config:
    epochs: int = settings.setting(100, "passes over the training images", low=1, unit="epochs")
    batch_size: int = settings.setting(256, "images in a step, over all workers", low=2, unit="images", symbol="B")
    label_share: float = probing.label_share_setting()
    hidden_width: int = settings.setting(200, "width of the hidden layer", low=1, high=100000)
    dropout: float = settings.setting(0.1, "share of the hidden layer dropped in training", low=0, below=1)
    optimizer: OptimizerConfig = settings.group(OptimizerConfig)

    def __post_init__(self) -> None:
        settings.check(self)


def limits(config: Config, shape: DataShape) -> Iterator[tuple[str, str]]:
    yield from probing.limits(config.batch_size, config.label_share, shape)


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Train both classifiers on the frozen backbone, on images as they are.

    Returns:
        As ``probing.trained``.

    Raises:
        ValueError: no backbone, or no labels.
    """
    data = probing.as_trained(inputs["probed"], data)
    backbone = probing.frozen(inputs["probed"], data, runtime)
    shapes = probing.known_layers(inputs["probed"], data.shape, LAYERS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(runtime.seed)
        heads = probing.Heads({layer: _head(config, shape, len(data.class_names)) for layer, shape in shapes.items()})
    heads.to(runtime.device)
    optimizer = torch.optim.Adam(
        heads.parameters(), lr=config.optimizer.lr, weight_decay=config.optimizer.weight_decay, fused=True
    )
    probe = probing.Probe(backbone, runtime.prepare(heads), tuple(shapes), data, runtime, "plain")
    return (yield from probing.trained(config, probe, heads, optimizer, ten_crops=False))


def _head(config: Config, shape: tuple[int, ...], num_classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(int(np.prod(shape)), config.hidden_width),
        alexnet.DrawnDropout(config.dropout),
        nn.BatchNorm1d(config.hidden_width),
        nn.ReLU(),
        nn.Linear(config.hidden_width, num_classes),
    )


def figures(result: Result, data: ImageData, history: Sequence[Mapping[str, float]]) -> dict[str, CaptionedFigure]:
    return of_results.layers(result)
