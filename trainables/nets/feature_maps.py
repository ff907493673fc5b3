"""What flows inside a backbone, by the same names for every network.

conv1 ... conv5   maps after each convolution's ReLU; of a ResNet, after its stem and its four stages; small has three,
                  DCCM's networks four
pool1             after the first pooling; of a ResNet, after its first stage
last_conv         maps of the last convolution;  last_pool: the same, pooled
top               the feature before its last activation where there is one (AlexNet's fc7), else the output itself
output            what the backbone returns

Axes: B batch, C channels, H height, W width.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from ..interfaces import DataShape
from .backbones import OF_ONE_METHOD, Backbone, build

_ALEXNET = {f"conv{number}": f"conv{number}" for number in range(1, 6)} | {
    "pool1": "pool1", "last_conv": "conv5", "last_pool": "pool5", "top": "fc7",
}  # fmt: skip
_RESNET = {"conv1": "maxpool", "pool1": "layer1", "last_conv": "layer4", "last_pool": "avgpool"} | {
    f"conv{number + 1}": f"layer{number}" for number in range(1, 5)
}
_SMALL = {"conv1": "2", "pool1": "3", "conv2": "6", "conv3": "10", "last_conv": "10", "last_pool": "11"}
_DCCM = {"conv1": "shallow.2", "conv2": "shallow.5", "pool1": "shallow.6", "conv3": "deep.2", "conv4": "deep.6",
         "last_conv": "deep.6", "last_pool": "deep.7", "top": "deep.10"}  # fmt: skip

CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4", "conv5")

Shapes = Mapping[str, tuple[int, ...]]
"""Of each tap, for one image."""


def names(backbone: Backbone) -> tuple[str, ...]:
    """The taps that this backbone has, "top" and "output" always among them."""
    return tuple(dict.fromkeys((*_paths(backbone), "top", "output")))


def collect(backbone: Backbone, images_BCHW: Tensor, wanted: Iterable[str]) -> dict[str, Tensor]:
    """One forward pass, and what flows at each tap in ``wanted``; (B, C, H, W) maps or (B, D) rows.

    Raises:
        KeyError: the backbone has no such tap.
    """
    found: dict[str, Tensor] = {}
    paths = _paths(backbone)
    hooks = []
    for name in wanted:
        if name in paths or name not in ("top", "output"):
            module = backbone.layers.get_submodule(paths[name])
            hooks.append(module.register_forward_hook(_keeper(found, name)))
    try:
        output_BD = backbone(images_BCHW)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: found.get(name, output_BD) for name in wanted}


@lru_cache(maxsize=64)
def shapes(network: str, shape: DataShape, sobel: bool) -> Shapes:
    """The shape of every tap for one image, without computing anything: (C, H, W) or (D,)."""
    with torch.device("meta"):
        backbone = build(
            network, in_channels=shape.num_channels, image_size_px=shape.image_size_px, seed=0, sobel=sobel
        ).eval()
        image_1CHW = torch.empty(1, shape.num_channels, shape.image_size_px, shape.image_size_px)
        with torch.no_grad():
            found = collect(backbone, image_1CHW, names(backbone))
    return {name: tuple(values.shape[1:]) for name, values in found.items()}


def _paths(backbone: Backbone) -> Mapping[str, str]:
    """Tap -> the name of its module inside ``backbone.layers``; empty for a network that is not known here."""
    if backbone.name == "alexnet_dc":
        return _ALEXNET
    if backbone.name == "small":
        return _SMALL
    if backbone.name in OF_ONE_METHOD:
        return _DCCM
    return _RESNET if hasattr(backbone.layers, "layer4") else {}


def _keeper(found: dict[str, Tensor], name: str) -> Any:
    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        found[name] = output

    return keep
