"""Pretext from a file: a backbone that was trained elsewhere, such as MoCo v2's released ResNet-50.

Source: SCAN, section 3.1: its ImageNet runs start from MoCo's weights and mine neighbors among the backbone's features.
A study file says ``pretext: {checkpoint: FILE}``; the driver pins the file's sha256, and that, not the path, is part of
the result's address.

Axes: N images, D feature width.
"""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .. import settings
from ..interfaces import DataShape, Epoch, ImageData, Result, Runtime
from ..nets import backbones, checkpoints
from ..training import pretext

NAMESPACE = "pretext"
INPUTS: tuple[str, ...] = ()
VERSION = 3
METRICS = ("knn_acc",)
CRITERION = None  # Nothing is trained.

TRAINS_ON_LABELS = False
WEIGHTS = ("backbone",)
ARRAYS = ("backbone_train", "backbone_eval")
FACTS = ("network", "mining_space", "sobel", "checkpoint_sha256")
TINY: Mapping[str, settings.Plain] = {}
SPACES = ("backbone",)

MONITOR_TEMPERATURE = 0.1


@dataclass(frozen=True, kw_only=True)
class Config:
    path: str = settings.setting("", "file of the weights", place=True)
    sha256: str = settings.setting("", "of the file's content; the driver fills it in")
    network: str = settings.setting(
        "auto",
        "backbone whose weights the file holds; auto picks by image size",
        choices=("auto", *backbones.BACKBONES),
    )
    sobel: bool = settings.setting(
        False, "the network was trained on image gradients instead of colors, as DeepCluster's released AlexNet"
    )

    def __post_init__(self) -> None:
        settings.check(self)


def limits(config: Config, shape: DataShape) -> Iterator[tuple[str, str]]:
    if not config.path:
        yield "path", "path is empty; write pretext: {checkpoint: FILE}"
        return
    try:
        network = backbones.resolve(config.network, shape)
        backbones.check_size(network, shape.image_size_px)
    except ValueError as error:
        yield "network", str(error)
        return
    try:
        checkpoints.backbone_weights(Path(config.path), network, shape, sobel=config.sobel)
    except checkpoints.CheckpointError as error:
        yield ("sobel" if isinstance(error, checkpoints.SobelError) else "path"), str(error)


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Load once; there are no epochs.

    Returns:
        weights: backbone. arrays, float32, rows of length 1: backbone_train, backbone_eval (N, D).
        facts: network, mining_space ("backbone"), sobel, checkpoint_sha256.

    Raises:
        CheckpointError: the file is not the one that was pinned, or does not fit.
    """
    path = Path(config.path)
    digest = checkpoints.digest(path)
    if digest != config.sha256:
        raise checkpoints.CheckpointError(
            f"{path}: the study was checked with sha256 {config.sha256 or 'none'}, but this file has {digest}; "
            "give every node the same file"
        )
    network = backbones.resolve(config.network, data.shape)
    backbone = pretext.backbone(network, data.shape, runtime.seed, sobel=config.sobel)
    backbone.load_state_dict(checkpoints.backbone_weights(path, network, data.shape, sobel=config.sobel))
    backbone = backbone.to(runtime.device)
    arrays = pretext.features(backbone, data, {"backbone": "features"})
    return Result(
        weights={"backbone": backbone.state_dict()},
        arrays=arrays,
        facts={"network": network, "mining_space": "backbone", "sobel": config.sobel, "checkpoint_sha256": digest},
        metrics=pretext.monitor(arrays, "backbone", MONITOR_TEMPERATURE, data, runtime),
    )
    yield  # a generator without epochs
