"""DCCM's networks: images to a shallow map, a deep vector and cluster probabilities; and the discriminator on them.

dccm_c4      DCCM's four convolutions without padding, for 32 px and more
dccm_small   four padded convolutions for 8 to 31 px, half as wide; ours

Batch norms keep no running statistics, as in DCCM's code: a prediction always depends on the batch it is made in.
Axes: B batch, C clusters, D feature width, F channels of the shallow map, H height, W width, P partners.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..interfaces import DataShape

FEATURE_WIDTH = 64
SMALLEST_C4_PX = 32
NETWORKS = ("dccm_c4", "dccm_small")
DISCRIMINATOR_WIDTH = {"dccm_c4": 512, "dccm_small": 64}


class Outputs(NamedTuple):
    """predictions_BC: probabilities. deep_BC: before the last batch norm. shallow_BFHW. features_BD: before deep."""

    predictions_BC: Tensor
    deep_BC: Tensor
    shallow_BFHW: Tensor
    features_BD: Tensor


def resolve(name: str, shape: DataShape) -> str:
    """The network that a setting means: ``auto`` is dccm_c4 from 32 px on, and dccm_small below.

    Raises:
        ValueError: an unknown name, or a network that cannot take this size.
    """
    if name == "auto":
        return "dccm_c4" if shape.image_size_px >= SMALLEST_C4_PX else "dccm_small"
    if name not in NETWORKS:
        raise ValueError(f"network must be auto or one of {', '.join(NETWORKS)}, but is {name!r}.")
    if name == "dccm_c4" and shape.image_size_px < SMALLEST_C4_PX:
        raise ValueError(
            f"network dccm_c4 takes images of at least {SMALLEST_C4_PX} px, but these have {shape.image_size_px} px. "
            "Use dccm_small."
        )
    return name


class CorrelationNetwork(nn.Module):
    """Convolutions up to the shallow map, more of them to a feature, and two fully connected layers to the clusters.

    The fully connected weights start as a truncated identity, so that clusters start as features.

    Args:
        name: one of NETWORKS.
        shape: of the data set.
        num_clusters: C.
        seed: of the convolutions' weights; PyTorch's own generator is not touched.
    """

    def __init__(self, name: str, shape: DataShape, num_clusters: int, *, seed: int) -> None:
        super().__init__()
        self.name = name
        width, padding = (64, 0) if name == "dccm_c4" else (32, 1)
        # 28 px would keep maps of 28 x 28 through two convolutions, four times the work of 14 x 14.
        stride = 2 if name == "dccm_small" and shape.image_size_px > 16 else 1
        self.shallow_channels = width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.shallow = nn.Sequential(
                *_convolution(shape.num_channels, width, padding, stride),
                *_convolution(width, width, padding),
                nn.MaxPool2d(2),
            )
            self.deep = nn.Sequential(
                *_convolution(width, 2 * width, padding),
                nn.MaxPool2d(2),
                *_convolution(2 * width, 4 * width, padding),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                _truncated_identity(4 * width, FEATURE_WIDTH),
                nn.BatchNorm1d(FEATURE_WIDTH, track_running_stats=False),
                nn.ReLU(inplace=True),
            )
            self.clusters = _truncated_identity(FEATURE_WIDTH, num_clusters)
        self.last_norm = nn.BatchNorm1d(num_clusters, track_running_stats=False)
        self.to(memory_format=torch.channels_last)  # as backbones lie in memory

    def forward(self, images_BCHW: Tensor) -> Outputs:
        """Images as float pixels in [0, 1]; at least two, for the batch norms."""
        shallow_BFHW = self.shallow(images_BCHW)
        features_BD = self.deep(shallow_BFHW)
        deep_BC = self.clusters(features_BD)
        return Outputs(self.last_norm(deep_BC).softmax(dim=1), deep_BC, shallow_BFHW, features_BD)


class ClusterModel(nn.Module):
    """A correlation network behind pixels as they lie in a data set.

    Its batch norms keep no statistics, so an image's probabilities depend on the batch that it comes in: give it many
    images together.
    """

    def __init__(self, network: CorrelationNetwork) -> None:
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) uint8 images, at least two, to (B, C) probabilities."""
        outputs: Outputs = self.network(images_BCHW.float() / 255)
        return outputs.predictions_BC


class Discriminator(nn.Module):
    """Three 1 x 1 convolutions without biases over a shallow map with a deep vector at every place.

    The first layer is linear in map and vector, so each is passed through it once and not once per pair.
    """

    def __init__(self, network: str, shallow_channels: int, num_clusters: int, *, seed: int) -> None:
        super().__init__()
        hidden = DISCRIMINATOR_WIDTH[network]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            first = nn.Conv2d(shallow_channels + num_clusters, hidden, 1, bias=False)
            self.on_shallow = nn.Conv2d(shallow_channels, hidden, 1, bias=False)
            self.on_deep = nn.Linear(num_clusters, hidden, bias=False)
            self.second = nn.Conv2d(hidden, hidden, 1, bias=False)
            self.third = nn.Conv2d(hidden, 1, 1, bias=False)
        with torch.no_grad():
            self.on_shallow.weight.copy_(first.weight[:, :shallow_channels])
            self.on_deep.weight.copy_(first.weight[:, shallow_channels:, 0, 0])

    def forward(self, deep_BC: Tensor, shallow_BFHW: Tensor, partner_PB: Tensor) -> Tensor:
        """(P, B, H, W): the score of each image's deep vector with the shallow map of each of its partners."""
        maps_BEHW, vector_BE11 = self.on_shallow(shallow_BFHW), self.on_deep(deep_BC)[:, :, None, None]
        # In place, and rows selected rather than indexed, whose backward adds element by element: these maps are the
        # largest tensors of a step.
        vector_QE11 = vector_BE11.repeat(len(partner_PB), 1, 1, 1)
        hidden_QEHW = maps_BEHW.index_select(0, partner_PB.flatten()).add_(vector_QE11).relu_()
        scores_Q1HW = self.third(self.second(hidden_QEHW).relu_())
        return scores_Q1HW.view(*partner_PB.shape, *shallow_BFHW.shape[2:])  # type: ignore[no-any-return]


def _convolution(in_channels: int, out_channels: int, padding: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=padding, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return [convolution, nn.BatchNorm2d(out_channels, track_running_stats=False), nn.ReLU(inplace=True)]


def _truncated_identity(in_width: int, out_width: int) -> nn.Linear:
    layer = nn.Linear(in_width, out_width)
    nn.init.eye_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
