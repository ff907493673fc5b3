"""Pretext that learns nothing: a network with its first weights, the baseline of every probe and clustering.

Source: the row "random" of the tables of linear probes (Zhang et al. 2016, DeepCluster, UAD table 2).
Batch norms keep the mean 0 and the variance 1 that they begin with.

Axes: N images, D feature width.
"""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass

from .. import settings
from ..interfaces import DataShape, Epoch, ImageData, Result, Runtime
from ..nets import backbones
from ..training import pretext

NAMESPACE = "pretext"
INPUTS: tuple[str, ...] = ()
VERSION = 1
METRICS = ("knn_acc",)
CRITERION = None  # Nothing is trained.

TRAINS_ON_LABELS = False
WEIGHTS = ("backbone",)
ARRAYS = ("backbone_train", "backbone_eval")
FACTS = ("network", "mining_space", "sobel")
TINY: Mapping[str, settings.Plain] = {}
SPACES = ("backbone",)

MONITOR_TEMPERATURE = 0.1


@dataclass(frozen=True, kw_only=True)
class Config:
    network: str = settings.setting(
        "auto", "backbone; auto picks by image size", choices=("auto", *backbones.BACKBONES)
    )
    sobel: bool = settings.setting(False, "give the network image gradients instead of colors")

    def __post_init__(self) -> None:
        settings.check(self)


def limits(config: Config, shape: DataShape) -> Iterator[tuple[str, str]]:
    try:
        backbones.check_size(backbones.resolve(config.network, shape), shape.image_size_px)
    except ValueError as error:
        yield "network", str(error)


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Draw the weights from the seed; there are no epochs.

    Returns:
        weights: backbone. arrays, float32, rows of length 1: backbone_train, backbone_eval (N, D).
        facts: network, mining_space ("backbone"), sobel.
    """
    network = backbones.resolve(config.network, data.shape)
    backbone = pretext.backbone(network, data.shape, runtime.seed, sobel=config.sobel).to(runtime.device)
    arrays = pretext.features(backbone, data, {"backbone": "features"})
    return Result(
        weights={"backbone": backbone.state_dict()},
        arrays=arrays,
        facts={"network": network, "mining_space": "backbone", "sobel": config.sobel},
        metrics=pretext.monitor(arrays, "backbone", MONITOR_TEMPERATURE, data, runtime),
    )
    yield  # a generator without epochs
