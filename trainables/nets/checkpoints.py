"""Backbone weights from a file of somebody else's, checked key by key before anything is computed.

Layouts that are understood, each with or without a "state_dict" around it:
    torchvision          conv1.weight, layer1.0.conv1.weight, ..., fc.weight or heads.head.weight (left out)
    MoCo, as published   module.encoder_q.conv1.weight, ...; everything else in the file is left out
    DINO's ViT           cls_token, blocks.0.attn.qkv.weight, ...: the names of its public code and of timm
    DeepCluster's        features.0.weight or features.module.0.weight, ..., classifier.1.weight of its AlexNet; its
                         top_layer and sobel are left out
    ours                 layers.conv1.weight, ...: the state dict of a ``Backbone``

A file is opened with ``weights_only``: it can hold tensors and plain values, and run no code.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..interfaces import DataShape
from . import backbones

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


def backbone_weights(path: Path, network: str, shape: DataShape, *, sobel: bool = False) -> dict[str, Tensor]:
    """The state dict of backbone ``network`` for images of this shape, on the CPU.

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
    weights = {}
    for key, expected in fresh.state_dict().items():
        value = found.get(key.removeprefix(_OURS))
        if value is None and key.endswith("num_batches_tracked"):
            value = torch.zeros((), dtype=torch.long)  # Files from before 2018 have none, and nothing here reads it.
        wanted = f"{path}: {key.removeprefix(_OURS)}: {network} expects a tensor of shape {tuple(expected.shape)}"
        if value is None:
            raise CheckpointError(f"{wanted}, but the file has no such key; choose the network it was trained with")
        if value.shape != expected.shape:
            raise CheckpointError(
                f"{wanted}, but found {tuple(value.shape)}; choose the network and image channels it was trained with"
            )
        if not bool(value.isfinite().all()):
            raise CheckpointError(f"{wanted}, but found values that are not finite numbers")
        weights[key] = value.to(expected.dtype)
    extra = sorted(set(found) - {key.removeprefix(_OURS) for key in weights})
    if extra:
        raise CheckpointError(
            f"{path}: {extra[0]}: {network} expects no such key; choose the network it was trained with"
        )
    return weights


def _opened(path: Path) -> Mapping[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: the checkpoint cannot be read: {error.strerror or error}") from None
    except Exception as error:  # on what is no checkpoint at all, the unpickler fails in ways of every kind
        first = (str(error).splitlines() or ["empty"])[0]
        raise CheckpointError(f"{path}: this is no file of tensors and plain values alone ({first})") from None
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
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
