"""How many values a network holds and puts out, counted without computing anything."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..interfaces import DataShape

_NUM_IMAGES = 2


def count(make: Callable[[], nn.Module], shape: DataShape) -> tuple[int, int]:
    """Count what a network holds.

    Args:
        make: builds it, on the "meta" device; its forward takes images (B, C, H, W).
        shape: of the data set.

    Returns:
        The number of parameters, and the number of values that all layers put out for one image.
    """
    with torch.device("meta"):
        network = make()
        images_BCHW = torch.empty(_NUM_IMAGES, shape.num_channels, shape.image_size_px, shape.image_size_px)
    outputs = 0

    def add(module: nn.Module, given: object, output: Tensor) -> None:
        nonlocal outputs
        outputs += output.numel() // _NUM_IMAGES

    for module in network.modules():
        if not list(module.children()) and not isinstance(module, nn.Identity):
            module.register_forward_hook(add)
    network(images_BCHW)
    return sum(parameter.numel() for parameter in network.parameters()), outputs
