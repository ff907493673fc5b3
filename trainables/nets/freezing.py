"""Which part of a backbone is trained, where most of what it learned elsewhere shall stay."""

from typing import Literal

from torch import nn

from .backbones import Backbone
from .vit import VisionTransformer

Part = Literal["all", "last_block", "none"]

_LAST_BLOCK = {"small": ("8", "9"), "alexnet_dc": ("fc7",), "vit_b16": ("encoder.layers.encoder_layer_11",)}
_OF_RESNETS = ("layer4",)


def train_part(backbone: Backbone, part: Part) -> None:
    """Take the gradients from all weights but those of ``part``.

    last_block: the last stage of a ResNet, the last attention block of a ViT, the last convolution of "small" with its
    batch norm, or the last layer of an AlexNet.
    """
    backbone.requires_grad_(part == "all")
    if part == "last_block":
        for name in _last_block(backbone):
            backbone.layers.get_submodule(name).requires_grad_(True)


def _last_block(backbone: Backbone) -> tuple[str, ...]:
    if isinstance(backbone.layers, VisionTransformer):
        return (backbone.layers.last_block,)
    return _LAST_BLOCK.get(backbone.name, _OF_RESNETS)


def train_mode(model: nn.Module) -> None:
    """Train mode, but for modules all weights of which are frozen: their batch norms keep their statistics."""
    model.train()
    for module in model.modules():
        weights = list(module.parameters())
        if weights and not any(each.requires_grad for each in weights):
            module.eval()
