"""Backbones: images in, one feature row per image out, with weights that depend on the seed alone.

resnet18_cifar   ResNet-18 with a 3x3 stem and no pooling after it (He et al. 2016, section 4.2); any size from 8 px
resnet18_stl     the same with a 2x2 pooling after the stem and a fixed 7x7 pooling at the end; 96 to 111 px
resnet18_tiny    the same as resnet18_stl with the mean over the last map instead; for 64 px (Tiny ImageNet), from 33 px
resnet50         ResNet-50 as it is for ImageNet (He et al. 2016, table 1; stride in the 3x3), without its last layer
small            three 3x3 convolutions for 8 px digits and 28 px MNIST on a CPU; 8 to 32 px
alexnet_dc       DeepCluster's AlexNet with batch norm; enlarges images to 224 px; from 64 px
vit_b16          ViT-B/16 (Dosovitskiy et al. 2021), the class token after the last norm; 224 px

A name like "vit:px=224,patch=16,..." describes a network that a file of weights holds (``described``); it takes images
of any size, with one channel or three.

alexnet_dc is 4,096 wide, resnet50 2,048, vit_b16 768, the others 512. Of one method alone, so no setting offers them:

dccm_c4          what DCCM leaves (see ``nets.dccm``), 64 wide; from 32 px
dccm_small       the same for small images; from 8 px

Axes: B batch, C channels, H height, W width, D feature width.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ..interfaces import DataShape
from . import alexnet, dccm, described


class Backbone(nn.Module):
    """A network without a head: (B, C, H, W) float images to (B, width) features.

    Weights lie channels last in memory, and with them every map between the layers: pooling, batch norms and
    convolutions on a CPU are up to twice as quick so, and tensor cores want it.

    name: one of BACKBONES or of OF_ONE_METHOD, or a description. width: D.
    seed: what the weights were drawn from; heads on top draw from it too.
    sobel: the layers see the two gradients of the gray image instead of its colors.
    """

    def __init__(
        self,
        name: str,
        layers: nn.Module,
        width: int,
        seed: int,
        *,
        sobel: bool = False,
        front: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.layers = layers
        self.width = width
        self.seed = seed
        self.sobel = sobel
        self.front = front or (alexnet.Sobel() if sobel else nn.Identity())
        self.to(memory_format=torch.channels_last)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        if self.name == "alexnet_dc":
            images_BCHW = alexnet.enlarged(images_BCHW)
        features_BD: Tensor = self.layers(self.front(images_BCHW))
        return features_BD


def build(name: str, *, in_channels: int, image_size_px: int, seed: int, sobel: bool = False) -> Backbone:
    """A fresh backbone on the CPU; the same seed gives the same weights, and PyTorch's own generator is not touched.

    Args:
        name: one of BACKBONES or of OF_ONE_METHOD, or a description.
        in_channels: C, 1 for gray and 3 for color.
        image_size_px: side of the square images.
        seed: at least 0.
        sobel: put a fixed Sobel filter in front, which leaves two channels of any number.

    Raises:
        ValueError: an unknown name, or a size that this backbone cannot take.
    """
    if described.is_described(name):
        return _described(name, seed)
    if name in OF_ONE_METHOD:
        width, make = OF_ONE_METHOD[name]
    else:
        check_size(name, image_size_px)
        _, _, width, make = BACKBONES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = make(2 if sobel else in_channels, image_size_px)
    return Backbone(name, layers, width, seed, sobel=sobel)


def _described(name: str, seed: int) -> Backbone:
    shape, resize = described.parsed(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = described.layers(shape)
    return Backbone(name, layers, shape.width, seed, front=described.Adapter(shape.px, resize))


def check_size(name: str, image_size_px: int) -> None:
    """Refuse an unknown name, and a size that this backbone cannot take, with a ValueError."""
    if described.is_described(name):
        return
    if name not in BACKBONES:
        raise ValueError(f"backbone must be one of {', '.join(BACKBONES)}, but is {name!r}.")
    smallest, largest, _, _ = BACKBONES[name]
    if not smallest <= image_size_px <= largest:
        fitting = [other for other, (low, high, _, _) in BACKBONES.items() if low <= image_size_px <= high]
        takes = f"at least {smallest}" if largest == ANY_SIZE else f"{smallest} to {largest}"
        raise ValueError(
            f"backbone {name} takes images of {takes} px, but these have {image_size_px} px. "
            + (f"Use {' or '.join(fitting)}." if fitting else "No backbone takes them; resize the images.")
        )


def resolve(name: str, shape: DataShape) -> str:
    """The backbone that a setting means for a data set: ``auto`` becomes a name of BACKBONES, a name stays.

    auto: small up to 28 px, and for gray images up to 32 px; resnet18_cifar at 32 px; resnet18_tiny at 64 px;
    resnet18_stl at 96 px; resnet50 at 224 px.

    Raises:
        ValueError: the data set is a matrix of features, an unknown name, or auto where none of these holds.
    """
    if shape.is_features:
        raise ValueError(
            f"the data set has rows of {shape.num_channels} features, but every backbone takes images. Choose a data"
            " set of images, or a method that clusters features."
        )
    if name in BACKBONES or described.is_described(name):
        return name
    if name != "auto":
        raise ValueError(f"backbone must be auto or one of {', '.join(BACKBONES)}, but is {name!r}.")
    size_px = shape.image_size_px
    if size_px <= 28 or (shape.num_channels == 1 and size_px <= 32):
        return "small"
    if size_px in AUTO:
        return AUTO[size_px]
    raise ValueError(
        f"backbone auto knows images of up to 28, of {', '.join(map(str, AUTO))} px, but these have {size_px} px. "
        f"Choose one of {', '.join(BACKBONES)}."
    )


def _resnet18_cifar(in_channels: int, image_size_px: int) -> nn.Module:
    return _resnet18(in_channels, after_stem=nn.Identity(), at_end=nn.AdaptiveAvgPool2d(1))


def _resnet18_stl(in_channels: int, image_size_px: int) -> nn.Module:
    # 96 px: 96, pooled 49, then 49, 25, 13, 7 after the four stages, and 1.
    pool = nn.MaxPool2d(kernel_size=2, stride=2, padding=1)
    return _resnet18(in_channels, after_stem=pool, at_end=nn.AvgPool2d(7, stride=1))


def _resnet18_tiny(in_channels: int, image_size_px: int) -> nn.Module:
    # 64 px: 64, pooled 33, then 33, 17, 9, 5 after the four stages: too little for the 7x7 pooling of resnet18_stl.
    pool = nn.MaxPool2d(kernel_size=2, stride=2, padding=1)
    return _resnet18(in_channels, after_stem=pool, at_end=nn.AdaptiveAvgPool2d(1))


def _resnet50(in_channels: int, image_size_px: int) -> nn.Module:
    from torchvision.models import resnet50  # as below

    network = resnet50(weights=None)
    if in_channels != 3:
        network.conv1 = nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    network.fc = nn.Identity()
    _initialize(network)
    return network  # type: ignore[no-any-return]


def _resnet18(in_channels: int, *, after_stem: nn.Module, at_end: nn.Module) -> nn.Module:
    from torchvision.models import resnet18  # seconds of import that a small network need not wait for

    network = resnet18(weights=None)
    network.conv1 = nn.Conv2d(in_channels, 64, kernel_size=3, padding=1, bias=False)
    network.maxpool = after_stem
    network.avgpool = at_end
    network.fc = nn.Identity()
    _initialize(network)
    return network  # type: ignore[no-any-return]


def _small(in_channels: int, image_size_px: int) -> nn.Module:
    # Maps of 8, 4 and 2 px for 8 px images; of 14, 7 and 3 px for 28 px. On digits, pooling gave purer neighbors than
    # strides (SimCLR, 60 epochs, 20 neighbors, 2 seeds: 96.4 % against 95.7 %), for a quarter more time.
    layers: list[nn.Module] = []
    channels, stride = in_channels, 1 if image_size_px <= 16 else 2
    for out_channels in (32, 64, 128):
        layers += [
            nn.Conv2d(channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2) if out_channels < 128 else nn.AdaptiveAvgPool2d(2),
        ]
        channels, stride = out_channels, 1
    # Flat, not averaged: where a stroke is matters.
    network = nn.Sequential(*layers, nn.Flatten())
    _initialize(network)
    return network


def _initialize(network: nn.Module) -> None:
    """Convolutions Kaiming-normal (fan_out, ReLU), batch norms 1 and 0, the last one of a residual block too."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def _vit_b16(in_channels: int, image_size_px: int) -> nn.Module:
    from torchvision.models import vit_b_16  # as above

    network = vit_b_16(weights=None, image_size=image_size_px)
    if in_channels != 3:
        network.conv_proj = nn.Conv2d(in_channels, 768, kernel_size=16, stride=16)
    network.heads = nn.Identity()
    return network  # type: ignore[no-any-return]


def _alexnet_dc(in_channels: int, image_size_px: int) -> nn.Module:
    return alexnet.layers(in_channels)


ANY_SIZE = 2**31

BACKBONES: dict[str, tuple[int, int, int, Callable[[int, int], nn.Module]]] = {
    "resnet18_cifar": (8, ANY_SIZE, 512, _resnet18_cifar),
    "resnet18_stl": (96, 111, 512, _resnet18_stl),
    "resnet18_tiny": (33, ANY_SIZE, 512, _resnet18_tiny),
    "resnet50": (64, ANY_SIZE, 2048, _resnet50),
    "alexnet_dc": (64, ANY_SIZE, alexnet.WIDTH, _alexnet_dc),
    "vit_b16": (224, 224, 768, _vit_b16),
    "small": (8, 32, 512, _small),
}
"""Name: smallest and largest image in px, feature width, and how its layers are made from channels and size."""

OF_ONE_METHOD: dict[str, tuple[int, Callable[[int, int], nn.Module]]] = {
    name: (dccm.FEATURE_WIDTH, partial(dccm.layers, name, has_statistics=True)) for name in dccm.NETWORKS
}
"""Name: feature width, and how its layers are made; the method itself judges the size of the images."""

AUTO = {32: "resnet18_cifar", 64: "resnet18_tiny", 96: "resnet18_stl", 224: "resnet50"}
"""What auto chooses for images of exactly this side in px."""
