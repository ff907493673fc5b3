"""Pretext from a file: a backbone that was trained elsewhere, such as DINO's ViT or MoCo v2's released ResNet-50.

Source: SCAN, section 3.1: its ImageNet runs start from MoCo's weights and mine neighbors among the backbone's features.
A study file says ``pretext: {checkpoint: FILE}``; the driver pins the file's sha256, and that, not the path, is part of
the result's address.

With ``network: auto`` the file's keys say what it is (``nets.layouts``): images then come to it in the size, and
normalized by the mean and deviation, that it was trained with. The features are computed once, here; every later stage
and trial reads them, or trains the backbone further where its method does.

Axes: N images, D feature width, E embedding width.
"""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from .. import settings
from ..interfaces import DataShape, Epoch, ImageData, Result, Runtime
from ..nets import backbones, checkpoints, layouts, models
from ..training import pretext

NAMESPACE = "pretext"
INPUTS: tuple[str, ...] = ()
VERSION = 4
METRICS = ("knn_acc",)
CRITERION = None  # Nothing is trained.

TRAINS_ON_LABELS = False
WEIGHTS = ("backbone",)
ARRAYS = ("backbone_train", "backbone_eval", "lengths_train", "lengths_eval")
FACTS = ("network", "mining_space", "sobel", "checkpoint_sha256", "layout")
TINY: Mapping[str, settings.Plain] = {}
SPACES = ("head", "backbone")

MONITOR_TEMPERATURE = 0.1

_RECOGNIZED: Mapping[str, tuple[settings.Plain, ...]] = {"network": ("auto",)}


@dataclass(frozen=True, kw_only=True)
class Config:
    path: str = settings.setting("", "file of the weights", place=True)
    sha256: str = settings.setting("", "of the file's content; the driver fills it in")
    network: str = settings.setting(
        "auto",
        "auto recognizes the file by its keys; a name takes it as that backbone, at the data set's size and "
        "normalization",
        choices=("auto", *backbones.BACKBONES),
    )
    normalization: str = settings.setting(
        "auto",
        "mean and deviation that the network was trained with; auto is what its layout says, dataset the study's own",
        choices=("auto", *layouts.NORMALIZATIONS, "dataset"),
        when=_RECOGNIZED,
    )
    image_px: int = settings.setting(
        0, "side to which images are resized; 0 is what the layout says", low=0, high=2048, unit="px", when=_RECOGNIZED
    )
    heads: int = settings.setting(
        0, "attention heads of a ViT; 0 is what the layout says, mostly one for 64 channels", low=0, high=64,
        when=_RECOGNIZED,
    )  # fmt: skip
    sobel: bool = settings.setting(
        False, "the network was trained on image gradients instead of colors, as DeepCluster's released AlexNet"
    )

    def __post_init__(self) -> None:
        settings.check(self)

    @property
    def reading(self) -> checkpoints.Reading:
        """How the file is read where its keys say what it is."""
        return checkpoints.Reading(self.normalization, self.image_px, self.heads)

    def description(self, shape: DataShape) -> checkpoints.Description | None:
        """What the file holds; None where it is one of this platform's backbones.

        Raises:
            CheckpointError: see ``checkpoints.pretrained``.
        """
        return checkpoints.description(Path(self.path), shape, self.reading) if self.network == "auto" else None

    def backbone_name(self, shape: DataShape) -> str:
        """The backbone that this file gives, by name or description.

        Raises:
            CheckpointError: see ``checkpoints.pretrained``. ValueError: no backbone takes these images.
        """
        found = self.description(shape)
        return backbones.resolve(self.network, shape) if found is None else found.network


def spaces(config: Config, shape: DataShape) -> tuple[str, ...]:
    """The features that this file leaves: those of its projection head, where it has one, and of its backbone."""
    try:
        found = config.description(shape)
    except checkpoints.CheckpointError:
        return SPACES  # What is wrong with the file, ``limits`` says.
    return ("backbone",) if found is None else found.spaces


def limits(config: Config, shape: DataShape) -> Iterator[tuple[str, str]]:
    if not config.path:
        yield "path", "path is empty; write pretext: {checkpoint: FILE}"
        return
    if shape.is_features:
        yield "path", "a checkpoint's network takes images, but the data set has rows of features"
        return
    path = Path(config.path)
    try:
        found = config.description(shape)
    except checkpoints.CheckpointError as error:
        yield "path", str(error)
        return
    if found is not None:
        if config.sobel:
            yield "sobel", f"sobel is true, but {found.layout} was trained on colors; take the line out"
        return
    try:
        network = backbones.resolve(config.network, shape)
        backbones.check_size(network, shape.image_size_px)
    except ValueError as error:
        yield "network", str(error)
        return
    try:
        checkpoints.backbone_weights(path, network, shape, sobel=config.sobel)
    except checkpoints.CheckpointError as error:
        yield ("sobel" if isinstance(error, checkpoints.SobelError) else "path"), str(error)


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Load once; there are no epochs.

    Returns:
        weights: backbone. arrays, float32: backbone_train, backbone_eval (N, D), rows of length 1, and lengths_train,
        lengths_eval (N,), what their lengths were; where the file has a projection head also head_train, head_eval
        (N, E). facts: network, mining_space ("head" where there is one, else "backbone"), sobel, checkpoint_sha256,
        layout (empty for a file of this platform's).

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
    found = checkpoints.pretrained(path, data.shape, config.reading) if config.network == "auto" else None
    if found is None:
        network, layout, space = backbones.resolve(config.network, data.shape), "", "backbone"
        weights = checkpoints.backbone_weights(path, network, data.shape, sobel=config.sobel)
    else:
        network, layout, space = found.description.network, found.description.layout, found.description.spaces[0]
        weights = found.weights(data.mean, data.std)
    backbone = pretext.backbone(network, data.shape, runtime.seed, sobel=config.sobel)
    backbone.load_state_dict(weights)
    backbone = backbone.to(runtime.device)
    which = (digest, network, config.sobel, config.reading, data.fingerprint, data.is_union, str(runtime.device))
    if which not in _FEATURES:
        _FEATURES.clear()
        _FEATURES[which] = _features(backbone, found, data)
    arrays = _FEATURES[which]
    return Result(
        weights={"backbone": backbone.state_dict()},
        arrays=arrays,
        facts={
            "network": network,
            "mining_space": space,
            "sobel": config.sobel,
            "checkpoint_sha256": digest,
            "layout": layout,
        },
        metrics=pretext.monitor(arrays, space, MONITOR_TEMPERATURE, data, runtime),
    )
    yield  # a generator without epochs


_FEATURES: dict[tuple[Any, ...], dict[str, NDArray[Any]]] = {}
"""The last features that this process computed: a file gives every seed the same, and one pass may take minutes."""


def _features(
    backbone: backbones.Backbone, found: checkpoints.Pretrained | None, data: ImageData
) -> dict[str, NDArray[Any]]:
    if found is None or not found.head:
        return pretext.features(backbone, data, {"backbone": "features"}, keeps_lengths=True)
    kind: models.Head = "linear" if "weight" in found.head else "mlp"
    model = models.ContrastiveModel(backbone, found.description.head_dim, kind)
    model.head.load_state_dict(found.head)
    model.to(next(backbone.parameters()).device)
    return pretext.features(model, data, {"head": "embeddings", "backbone": "features"}, keeps_lengths=True)
