"""DeepCluster's AlexNet: batch norm after each convolution, no local response norm, Sobel gradients as input.

At 224 px its maps are 55 x 55 x 96 and 27 after pooling, 27 x 27 x 256 and 13, 13 x 13 x 384 twice, 13 x 13 x 256
and 6, then two fully connected layers of 4096. Smaller images are enlarged in front of it (as UAD does with Tiny
ImageNet), so that a data set need not be kept in memory at 224 px.

Source: Caron et al. 2018 (DeepCluster), section 4.1.

Axes: B batch, C channels, H height, W width, D feature width.
"""

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..data.batch_random import BatchRandom

SIZE_PX = 224
WIDTH = 4096
DROPPED_SHARE = 0.5

_CONVOLUTIONS = {"conv1": (96, 11, 4, 2), "conv2": (256, 5, 1, 2), "conv3": (384, 3, 1, 1), "conv4": (384, 3, 1, 1),
                 "conv5": (256, 3, 1, 1)}  # fmt: skip
"""Channels, kernel, stride and padding."""
_POOLED = ("conv1", "conv2", "conv5")


class DrawnDropout(nn.Module):
    """Dropout whose numbers come from ``Draws``, so that they are the same for any number of ranks and after a resume.

    Without draws, or in eval mode, nothing is dropped: a stage that feeds none trains without dropout.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.draws: BatchRandom | None = None

    def forward(self, rows_BD: Tensor) -> Tensor:
        if not self.training or self.draws is None:
            return rows_BD
        kept_BD = ~self.draws.bernoulli(self.share, rows_BD.shape[1])
        return rows_BD * kept_BD / (1 - self.share)


def feed_dropout(model: nn.Module, draws: BatchRandom | None) -> None:
    """Let every ``DrawnDropout`` of a model draw from ``draws`` in the next forward pass."""
    for module in model.modules():
        if isinstance(module, DrawnDropout):
            module.draws = draws


def layers(in_channels: int) -> nn.Module:
    """Images of 224 px to (B, 4096), after the last ReLU; "fc7" is the layer before it.

    Weights are drawn from PyTorch's generator: convolutions N(0, 2 / (kernel area * channels out)), fully connected
    ones N(0, 0.01 ** 2), biases 0.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    channels = in_channels
    for name, (out_channels, kernel, stride, padding) in _CONVOLUTIONS.items():
        convolution = nn.Conv2d(channels, out_channels, kernel, stride, padding)
        nn.init.normal_(convolution.weight, std=math.sqrt(2 / (kernel * kernel * out_channels)))
        parts[name] = nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))
        if name in _POOLED:
            parts[f"pool{name[-1]}"] = nn.MaxPool2d(kernel_size=3, stride=2)
        channels = out_channels
    parts["flat"] = nn.Flatten()
    for name, width in (("fc6", channels * 6 * 6), ("fc7", WIDTH)):
        linear = nn.Linear(width, WIDTH)
        nn.init.normal_(linear.weight, std=0.01)
        parts |= {f"{name}_dropout": DrawnDropout(DROPPED_SHARE), name: linear, f"{name}_relu": nn.ReLU()}
    network = nn.Sequential(parts)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return network


def enlarged(images_BCHW: Tensor) -> Tensor:
    """Images of any size at 224 px, bilinear; antialiased where they are larger."""
    if images_BCHW.shape[-2:] == (SIZE_PX, SIZE_PX):
        return images_BCHW
    larger = images_BCHW.shape[-1] > SIZE_PX
    return functional.interpolate(images_BCHW, (SIZE_PX, SIZE_PX), mode="bilinear", antialias=larger)


class Sobel(nn.Module):
    """Horizontal and vertical gradient of the channels' mean, zero-padded: (B, C, H, W) to (B, 2, H, W). Fixed."""

    def __init__(self) -> None:
        super().__init__()
        across_33 = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
        down_33 = torch.tensor([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]])
        self.kernels_2133: Tensor
        self.register_buffer("kernels_2133", torch.stack([across_33, down_33])[:, None], persistent=False)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return functional.conv2d(images_BCHW.mean(dim=1, keepdim=True), self.kernels_2133, padding=1)
