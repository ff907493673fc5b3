"""Backbone weights from a file of somebody else's, checked key by key before anything is computed.

A file is used in one of two ways:

    recognized     ``pretrained``: its keys say which published layout it has (``layouts``), its tensors how deep and
                   wide the network is. It gets images of the size, mean and deviation that it was trained with
    named          ``backbone_weights``: one of this platform's backbones, at the size and normalization of the study's
                   images. Understood are torchvision's names, MoCo's query encoder, DINO's ViT, DeepCluster's
                   AlexNet (features.0.weight or features.module.0.weight, ..., classifier.1.weight; its top_layer and
                   sobel are left out), and ours (layers.conv1.weight, ...: the state dict of a ``Backbone``)

A file is opened with ``weights_only``: it can hold tensors and plain values, and run no code.
"""

import argparse
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..interfaces import DataShape
from . import backbones, described, layouts, safetensors_file

_QUERY_ENCODER = "module.encoder_q."
_OURS = "layers."
_CLASSIFIERS = ("fc.", "heads.")
_CLASS_TOKEN = "cls_token"
_VIT_PARTS = {
    _CLASS_TOKEN: "class_token", "pos_embed": "encoder.pos_embedding", "patch_embed.proj": "conv_proj",
    "norm": "encoder.ln",
}  # fmt: skip
_VIT_BLOCK_PARTS = {
    "norm1": "ln_1", "norm2": "ln_2", "attn.proj": "self_attention.out_proj", "mlp.fc1": "mlp.0", "mlp.fc2": "mlp.3",
    "attn.qkv.weight": "self_attention.in_proj_weight", "attn.qkv.bias": "self_attention.in_proj_bias",
}  # fmt: skip
_SOBEL = "sobel."
_ALEXNET_PARTS = {
    "features": {0: "conv1.0", 1: "conv1.1", 4: "conv2.0", 5: "conv2.1", 8: "conv3.0", 9: "conv3.1", 11: "conv4.0",
                 12: "conv4.1", 14: "conv5.0", 15: "conv5.1"},
    "classifier": {1: "fc6", 4: "fc7"},
}  # fmt: skip
"""Place of a layer in DeepCluster's two sequences -> its name here; ReLU, pooling and dropout have no weights."""
_ALEXNET_KEY = re.compile(r"(features|classifier)\.(?:module\.)?(\d+)\.(.+)")
_PIECE_BYTES = 1 << 20
_AROUND = ("state_dict", "model", "teacher")
"""Keys under which training programs keep the weights, beside an optimizer and other things."""
_SHOWN_KEYS = 3
_SMALL_STEM = 3


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the text names file, key, what was expected and what was found."""


class SobelError(CheckpointError):
    """The file's network looks at image gradients, and the setting says that it does not."""


def digest(path: Path) -> str:
    """sha256 of the file's content, 64 hex digits.

    Raises:
        CheckpointError: it cannot be read.
    """
    found = hashlib.sha256()
    if path.exists() and not path.is_file():
        # The writer of a pipe may never come, and a device never ends.
        raise CheckpointError(f"{path}: the checkpoint cannot be read: it is no file")
    try:
        with path.open("rb") as stream:
            while piece := stream.read(_PIECE_BYTES):
                found.update(piece)
    except OSError as error:
        raise CheckpointError(f"{path}: the checkpoint cannot be read: {error.strerror or error}") from None
    return found.hexdigest()


@dataclass(frozen=True)
class Reading:
    """How a recognized file is read, where that shall differ from its layout.

    normalization: a name of ``layouts.NORMALIZATIONS``; "auto" is the layout's, "dataset" that of the study's images.
    px: side of the network's images; 0 is the layout's. heads: of a ViT; 0 is the layout's.
    """

    normalization: str = "auto"
    px: int = 0
    heads: int = 0


@dataclass(frozen=True)
class Description:
    """What a recognized file holds, without its tensors.

    layout: its name. network: the backbone's description. resized: how images come to their size, as text.
    normalization: as in ``Reading``, but for "auto". head: feature width of its projection head, 0 without one.
    """

    layout: str
    network: str
    normalization: str
    head_dim: int

    @property
    def spaces(self) -> tuple[str, ...]:
        """The feature spaces that it leaves, the one to mine neighbors in first."""
        return ("head", "backbone") if self.head_dim else ("backbone",)

    def sentence(self) -> str:
        """The description for a reader."""
        shape, resize = described.parsed(self.network)
        return f"{self.layout}, images at {shape.px} px ({resize}), normalized as {self.normalization}"


@dataclass(frozen=True)
class Pretrained:
    """A recognized file with its tensors. head: Linear, or Linear, ReLU and Linear, by "weight", "0.weight", ..."""

    description: Description
    backbone: Mapping[str, Tensor]
    head: Mapping[str, Tensor]

    def weights(self, mean: tuple[float, ...], std: tuple[float, ...]) -> dict[str, Tensor]:
        """The state dict of its ``Backbone``, for images that are normalized by this mean and deviation."""
        own = (mean, std)
        if self.description.normalization != "dataset":
            own = layouts.NORMALIZATIONS[self.description.normalization]
        elif len(mean) == 1:
            own = (mean * 3, std * 3)
        front = described.between(mean, std, *own)
        return {f"{_OURS}{key}": value for key, value in self.backbone.items()} | {
            f"front.{key}": value for key, value in front.items()
        }


def pretrained(path: Path, shape: DataShape, reading: Reading) -> Pretrained | None:
    """A file of a published layout, with every tensor checked; None for a file of this platform's own.

    Raises:
        CheckpointError: the file cannot be read, has no known layout, or does not fit its layout or the images.
    """
    tensors = {key: value for key, value in _opened(path).items() if isinstance(value, Tensor)}
    try:
        found = layouts.recognized(tensors, shape.image_size_px, px=reading.px, heads=reading.heads)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    if found is None:
        if _is_ours(tensors):
            return None
        first = ", ".join(list(tensors)[:_SHOWN_KEYS]) or "none"
        raise CheckpointError(
            f"{path}: no known layout has its keys ({first}{', ...' if len(tensors) > _SHOWN_KEYS else ''}). "
            f"Known are {layouts.known()}, this platform's own, and with network: alexnet_dc DeepCluster's AlexNet"
        )
    if shape.num_channels not in (1, 3):
        raise CheckpointError(
            f"{path}: {found.layout.name} takes gray or color images, but these have {shape.num_channels} channels"
        )
    network = described.written(found.shape, found.layout.resize)
    with torch.device("meta"):
        expected = described.layers(found.shape).state_dict()
    backbone = _fitting(path, found.layout.name, expected, found.backbone)
    normalization = found.layout.normalization if reading.normalization == "auto" else reading.normalization
    head_dim = _head_dim(path, found) if found.head else 0
    return Pretrained(Description(found.layout.name, network, normalization, head_dim), backbone, found.head)


def _head_dim(path: Path, found: layouts.Recognized) -> int:
    """Width of a projection head's features; the head is Linear, or Linear, ReLU and Linear."""
    last = "" if "weight" in found.head else "2."
    parts = ("",) if not last else ("0.", last)
    weight, width = found.head.get(f"{last}weight"), found.shape.width
    head_dim = 0 if weight is None else len(weight)
    sizes: dict[str, tuple[int, ...]] = {
        f"{part}weight": (width if part != last else head_dim, width) for part in parts
    }
    sizes |= {f"{part}bias": sizes[f"{part}weight"][:1] for part in parts}
    have = {key: tuple(value.shape) for key, value in found.head.items()}
    if have != sizes:
        raise CheckpointError(
            f"{path}: {found.layout.head}*: {found.layout.name} has a head of one linear layer or of two on features "
            f"of {width}, but the file has {', '.join(f'{key} {size}' for key, size in have.items())}"
        )
    return head_dim


def description(path: Path, shape: DataShape, reading: Reading) -> Description | None:
    """What ``pretrained`` finds, without its tensors; a file is read once as long as it does not change.

    Raises:
        CheckpointError: see ``pretrained``.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise CheckpointError(f"{path}: the checkpoint cannot be read: {error.strerror or error}") from None
    found = _description(path, shape, reading, status.st_mtime_ns, status.st_size)
    if isinstance(found, CheckpointError):
        raise found
    return found


@lru_cache(maxsize=64)
def _description(
    path: Path, shape: DataShape, reading: Reading, _changed_ns: int, _size: int
) -> Description | CheckpointError | None:
    try:
        whole = pretrained(path, shape, reading)
    except CheckpointError as error:
        return error
    return None if whole is None else whole.description


def backbone_weights(path: Path, network: str, shape: DataShape, *, sobel: bool = False) -> dict[str, Tensor]:
    """The state dict of this platform's backbone ``network`` for images of this shape, on the CPU.

    Args:
        sobel: whether a Sobel filter stands in front of it.

    Raises:
        CheckpointError: the file cannot be read, holds more than tensors and plain values, or does not fit the network.
        SobelError: the file has a Sobel filter, and ``sobel`` is false.
    """
    content = _opened(path)
    if not sobel and any(key.removeprefix("module.").startswith(_SOBEL) for key in content):
        raise SobelError(f"{path}: its network looks at image gradients, but sobel is false; write pretext.sobel: true")
    found = _of_backbone(content)
    with torch.device("meta"):
        fresh = backbones.build(
            network, in_channels=shape.num_channels, image_size_px=shape.image_size_px, seed=0, sobel=sobel
        )
    expected = {key.removeprefix(_OURS): value for key, value in fresh.state_dict().items()}
    return {f"{_OURS}{key}": value for key, value in _fitting(path, network, expected, found).items()}


def _fitting(
    path: Path, network: str, expected_tensors: Mapping[str, Tensor], found: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors of a file, by the keys of the network's; their shapes and values checked."""
    weights = {}
    for key, expected in expected_tensors.items():
        value = found.get(key)
        if value is None and key.endswith("num_batches_tracked"):
            value = torch.zeros((), dtype=torch.long)  # Files from before 2018 have none, and nothing here reads it.
        wanted = f"{path}: {key}: {network} expects a tensor of shape {tuple(expected.shape)}"
        if value is None:
            raise CheckpointError(f"{wanted}, but the file has no such key; choose the network it was trained with")
        if value.shape != expected.shape:
            raise CheckpointError(
                f"{wanted}, but found {tuple(value.shape)}; choose the network and image channels it was trained with"
            )
        if not bool(value.isfinite().all()):
            raise CheckpointError(f"{wanted}, but found values that are not finite numbers")
        weights[key] = value.to(expected.dtype)
    extra = sorted(set(found) - set(weights))
    if extra:
        raise CheckpointError(
            f"{path}: {extra[0]}: {network} expects no such key; choose the network it was trained with"
        )
    return weights


def _is_ours(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a file looks like one of this platform's backbones: by its prefix, or by a 3x3 stem."""
    stem = _of_backbone(tensors).get("conv1.weight")
    return any(key.startswith(_OURS) for key in tensors) or (stem is not None and stem.shape[-1] == _SMALL_STEM)


def _opened(path: Path) -> Mapping[str, Any]:
    try:
        if path.suffix == safetensors_file.SUFFIX:
            return safetensors_file.read(path)
        # Training programs keep their arguments beside the weights; a Namespace is plain values and runs nothing.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: the checkpoint cannot be read: {error.strerror or error}") from None
    except Exception as error:  # on what is no checkpoint at all, the unpickler fails in ways of every kind
        first = (str(error).splitlines() or ["empty"])[0]
        raise CheckpointError(f"{path}: this is no file of tensors and plain values alone ({first})") from None
    for key in _AROUND:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path}: a checkpoint is a mapping of names to tensors, but this is {type(content).__name__}"
        )
    return content


def _of_backbone(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The backbone's tensors, named as torchvision names them."""
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    for prefix in (_QUERY_ENCODER, _OURS):
        if any(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    if any(_ALEXNET_KEY.fullmatch(key.removeprefix("module.")) for key in tensors):
        tensors = _of_alexnet(tensors)
    if _CLASS_TOKEN in tensors:
        tensors = {_of_vit(key): value for key, value in tensors.items()}
    return {key: value for key, value in tensors.items() if not key.startswith(_CLASSIFIERS)}


def _of_alexnet(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names of the weights of DeepCluster's AlexNet, without its top layer and filter; others keep their names."""
    renamed = {}
    for key, value in tensors.items():
        key = key.removeprefix("module.")
        if key.startswith((_SOBEL, "top_layer.")):
            continue
        match = _ALEXNET_KEY.fullmatch(key)
        name = _ALEXNET_PARTS[match[1]].get(int(match[2])) if match else None
        renamed[f"{name}.{match[3]}" if match and name else key] = value
    return renamed


def _of_vit(key: str) -> str:
    """torchvision's name of a weight of DINO's ViT; a name that is not known stays."""
    block, names = "", _VIT_PARTS
    if match := re.fullmatch(r"blocks\.(\d+)\.(.+)", key):
        block, key, names = f"encoder.layers.encoder_layer_{match[1]}.", match[2], _VIT_BLOCK_PARTS
    for name in (key, key.rpartition(".")[0]):
        if name in names:
            return block + names[name] + key.removeprefix(name)
    return block + key
