"""Linear probe: how well a linear classifier tells the classes apart from each layer of the frozen network.

All layers are evaluated in one pass over images, each by its own classifier on its pooled map (about 9,600 numbers of
AlexNet). Source: Zhang et al. 2016 and DeepCluster's linear evaluation: SGD with a learning rate that falls as
lr / sqrt(1 + lr * weight_decay * steps), ten crops at the end; UAD's table captions.
SwAV's linear evaluation is ``schedule: cosine`` with a rate of 0.3, a decay of 1e-6 and 100 epochs, layer "output".
Differs: the last epoch is reported, where DeepCluster's code reports the epoch that suits the evaluation labels best;
crops of 7/8 of the side are enlarged to the images' size; ten crops are of the middle square unless
``dataset.whole_pictures`` is true; other networks than AlexNet are pooled to about as much.

Axes: B batch, C channels, H height, W width, Y classes.
"""

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from .. import settings
from ..figures import of_results
from ..interfaces import CaptionedFigure, DataShape, Epoch, ImageData, Result, Runtime
from ..maths import schedules
from ..nets import feature_maps
from ..training import probing
from ..training.optimizers import SgdConfig

NAMESPACE = "linear_probe"
INPUTS = ("probed",)
VERSION = 3
LAYERS = (*feature_maps.CONVOLUTIONS, "output")
METRICS = (
    "loss",
    *(f"{layer}_train_acc" for layer in LAYERS),
    *(f"{layer}_acc" for layer in LAYERS),
    "num_labeled",
    "lr",
    "epoch_seconds",
)
CRITERION = None  # It looks at labels.

TRAINS_ON_LABELS = True
WHOLE_PICTURES = True
WEIGHTS = ("heads",)
ARRAYS: tuple[str, ...] = ()
FACTS = ("layers",)
TINY: Mapping[str, settings.Plain] = {"batch_size": 24, "epochs": 1}

_ALEXNET_POOLS = {"conv1": (6, 6, 3), "conv2": (4, 4, 0), "conv3": (3, 3, 1), "conv4": (3, 3, 1), "conv5": (2, 2, 0)}
"""Kernel, stride and padding of the average pooling before each classifier."""
_POOLED_WIDTH = 9600


@dataclass(frozen=True, kw_only=True)
class Config:
    epochs: int = settings.setting(90, "passes over the training images", low=1, unit="epochs")
    batch_size: int = settings.setting(256, "images in a step, over all workers", low=2, unit="images", symbol="B")
    label_share: float = probing.label_share_setting()
    optimizer: SgdConfig = settings.group(
        SgdConfig,
        lr=0.01,
        weight_decay=settings.setting(1e-4, "L2 penalty; also how fast the rate of lecun falls", low=0),
    )
    schedule: str = settings.setting(
        "lecun", "how the rate falls: as lr / sqrt(1 + lr * weight_decay * steps), or along a cosine over the epochs",
        choices=("lecun", "cosine"),
    )  # fmt: skip
    augmentation: str = settings.setting(
        "crop", "training images: a random crop of 7/8 of the side, mirrored half the time; or as they are",
        choices=("crop", "plain"),
    )  # fmt: skip
    ten_crops: bool = settings.setting(True, "judge the mean over ten crops of each image, not the image itself")

    def __post_init__(self) -> None:
        settings.check(self)


def limits(config: Config, shape: DataShape) -> Iterator[tuple[str, str]]:
    yield from probing.limits(config.batch_size, config.label_share, shape)


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Train a classifier on each layer of the frozen backbone.

    Returns:
        As ``probing.trained``.

    Raises:
        ValueError: no backbone, or no labels.
    """
    data = probing.as_trained(inputs["probed"], data)
    backbone = probing.frozen(inputs["probed"], data, runtime)
    shapes = probing.known_layers(inputs["probed"], data.shape, LAYERS)
    heads = probing.Heads(
        {layer: _head(backbone.name, layer, shape, len(data.class_names)) for layer, shape in shapes.items()}
    ).to(runtime.device)
    for name, weights in heads.named_parameters():
        if weights.ndim == 2:
            nn.init.normal_(weights, std=0.01, generator=runtime.generator(name))
        else:
            nn.init.zeros_(weights)
    optimizer = torch.optim.SGD(
        heads.parameters(),
        lr=config.optimizer.lr,
        momentum=config.optimizer.momentum,
        weight_decay=config.optimizer.weight_decay,
        fused=True,
    )
    probe = probing.Probe(backbone, runtime.prepare(heads), tuple(shapes), data, runtime, config.augmentation)

    def lr_of(epoch: int, step: int) -> float:
        if config.schedule == "cosine":
            return schedules.cosine(config.optimizer.lr, epoch, epochs=config.epochs)
        return config.optimizer.lr / math.sqrt(1 + config.optimizer.lr * config.optimizer.weight_decay * step)

    return (yield from probing.trained(config, probe, heads, optimizer, ten_crops=config.ten_crops, lr_of=lr_of))


def _head(network: str, layer: str, shape: tuple[int, ...], num_classes: int) -> nn.Sequential:
    """Pooling to about 9,600 numbers, and one linear layer."""
    if len(shape) == 1:
        return nn.Sequential(nn.Flatten(), nn.Linear(shape[0], num_classes))
    channels, height, _ = shape
    pool: nn.Module
    if network == "alexnet_dc":
        kernel, stride, padding = _ALEXNET_POOLS[layer]
        pool, side = nn.AvgPool2d(kernel, stride, padding), (height + 2 * padding - kernel) // stride + 1
    else:
        side = max(1, min(height, math.isqrt(_POOLED_WIDTH // channels)))
        pool = nn.AdaptiveAvgPool2d(side)
    return nn.Sequential(pool, nn.Flatten(), nn.Linear(channels * side * side, num_classes))


def figures(result: Result, data: ImageData, history: Sequence[Mapping[str, float]]) -> dict[str, CaptionedFigure]:
    return of_results.layers(result)
