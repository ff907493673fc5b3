"""Backbones that a file of weights describes: their shape as text, their layers, and what stands in front of them.

Such a backbone's name says all that building it takes, so that a stage's fact "network" is enough for every later
stage: "vit:px=224,patch=16,width=384,depth=12,..." or "resnet:px=224,block=basic,counts=2-2-2-2,...".

Axes: B batch, C channels, H height, W width.
"""

import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from .vit import VisionTransformer, VitShape

Resize = Literal["bilinear", "bicubic"]

_EXPANSION = {"basic": 1, "bottleneck": 4}


@dataclass(frozen=True)
class ResNetShape:
    """What a ResNet is built from (He et al. 2016, table 1; section 4.2 for small images).

    px: side of the images. counts: blocks of each stage, with "-" between. stem: side of the first kernel; 3 px keep
    the images' size. pool: after the stem, a 3x3 max pooling, a 2x2 one with a margin, or none.
    groups, group_width: of the bottlenecks' middle convolution (Xie et al. 2017, ResNeXt).
    """

    px: int
    block: Literal["basic", "bottleneck"]
    counts: str
    stem: int = 7
    pool: Literal["3x3", "2x2", "none"] = "3x3"
    groups: int = 1
    group_width: int = 64

    @property
    def width(self) -> int:
        return 512 * _EXPANSION[self.block]


Shape = VitShape | ResNetShape
_KINDS: dict[str, type[Shape]] = {"vit": VitShape, "resnet": ResNetShape}


def is_described(name: str) -> bool:
    """Whether a backbone's name is a description."""
    return name.partition(":")[0] in _KINDS and ":" in name


def written(shape: Shape, resize: Resize) -> str:
    """The name of a backbone of this shape; resize: how images of another size come to its own."""
    kind = next(kind for kind, cls in _KINDS.items() if isinstance(shape, cls))
    values = [f"{each.name}={_text(getattr(shape, each.name))}" for each in fields(shape)]
    return f"{kind}:{','.join(values)},resize={resize}"


def parsed(name: str) -> tuple[Shape, Resize]:
    """The shape that ``written`` gave this name, and how images are resized.

    Raises:
        ValueError: the name is no description.
    """
    kind, _, text = name.partition(":")
    try:
        values = dict(part.split("=") for part in text.split(","))
        resize = values.pop("resize")
        types_of = typing.get_type_hints(_KINDS[kind])
        shape = _KINDS[kind](**{key: _value(value, types_of[key]) for key, value in values.items()})  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"backbone {name!r} is no description of a network.") from None
    return shape, typing.cast(Resize, resize)


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _value(text: str, kind: type | types.GenericAlias) -> object:
    if kind is bool:
        return bool(int(text))
    return int(text) if kind is int else text


def layers(shape: Shape) -> nn.Module:
    """(B, 3, px, px) to (B, width); weights are drawn from PyTorch's generator."""
    if isinstance(shape, VitShape):
        return VisionTransformer(shape)
    return _resnet(shape)


def _resnet(shape: ResNetShape) -> nn.Module:
    from torchvision.models import resnet  # seconds of import that other networks need not wait for

    block = {"basic": resnet.BasicBlock, "bottleneck": resnet.Bottleneck}[shape.block]
    counts = [int(count) for count in shape.counts.split("-")]
    network = resnet.ResNet(block, counts, groups=shape.groups, width_per_group=shape.group_width)
    if shape.stem == 3:
        network.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
    if shape.pool != "3x3":
        network.maxpool = nn.MaxPool2d(2, stride=2, padding=1) if shape.pool == "2x2" else nn.Identity()
    network.fc = nn.Identity()
    return network  # type: ignore[no-any-return]


class Adapter(nn.Module):
    """From images as a study normalizes them to images as a pretrained network wants them.

    They take the size that the network was trained at and its own mean and standard deviation; gray ones become three
    equal channels. Both factors lie in the weights, so whoever loads the backbone needs neither.
    """

    def __init__(self, px: int, resize: Resize) -> None:
        super().__init__()
        self.px = px
        self.resize = resize
        self.scale_C11: Tensor
        self.shift_C11: Tensor
        self.register_buffer("scale_C11", torch.ones(3, 1, 1))
        self.register_buffer("shift_C11", torch.zeros(3, 1, 1))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """(B, 1 or 3, H, W) float to (B, 3, px, px). A smaller image is enlarged as a whole; nothing is cut off."""
        images_BCHW = images_BCHW.expand(-1, 3, -1, -1)
        size = (self.px, self.px)
        if images_BCHW.shape[-2:] != size:
            # Resizing is linear and keeps a constant, so it may come before the change of mean and deviation.
            images_BCHW = functional.interpolate(images_BCHW, size, mode=self.resize, antialias=True)
        return images_BCHW * self.scale_C11 + self.shift_C11


def between(
    mean: Sequence[float], std: Sequence[float], own_mean: Sequence[float], own_std: Sequence[float]
) -> dict[str, Tensor]:
    """An Adapter's scale_C11 and shift_C11: undo one normalization and apply another.

    Args:
        mean, std: of the study's images, one or three channels.
        own_mean, own_std: those that the network was trained with, three channels.
    """
    mean_C, std_C = (torch.tensor(values, dtype=torch.float64).expand(3) for values in (mean, std))
    own_mean_C, own_std_C = (torch.tensor(values, dtype=torch.float64) for values in (own_mean, own_std))
    return {
        "scale_C11": (std_C / own_std_C).float().reshape(3, 1, 1),
        "shift_C11": ((mean_C - own_mean_C) / own_std_C).float().reshape(3, 1, 1),
    }
