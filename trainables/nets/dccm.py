"""DCCM's networks: images to a shallow map, a deep vector and cluster probabilities; and the discriminator on them.

dccm_c4      DCCM's four convolutions without padding, for 32 px and more
dccm_small   four padded convolutions for 8 to 31 px, half as wide; ours

Batch norms keep no running statistics, as in DCCM's code: a prediction always depends on the batch it is made in. What
others build on, the backbone, has the statistics of all training images instead (see ``backbone_state``).
Axes: B batch, C clusters, D feature width, F channels of the shallow map, H height, W width, P partners.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..interfaces import DataShape, State

FEATURE_WIDTH = 64
SMALLEST_C4_PX = 32
NETWORKS = ("dccm_c4", "dccm_small")
DISCRIMINATOR_WIDTH = {"dccm_c4": 512, "dccm_small": 64}


_WIDTHS = {"dccm_c4": 64, "dccm_small": 32}
"""Channels of the shallow map."""


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
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            features = layers(name, shape.num_channels, shape.image_size_px, has_statistics=False)
            self.shallow, self.deep = features[0], features[1]
            self.clusters = _truncated_identity(FEATURE_WIDTH, num_clusters)
        self.shallow_channels = _WIDTHS[name]
        self.last_norm = nn.BatchNorm1d(num_clusters, track_running_stats=False)
        self.to(memory_format=torch.channels_last)  # as backbones lie in memory

    def forward(self, images_BCHW: Tensor) -> Outputs:
        """Images as float pixels in [0, 1]; at least two, for the batch norms."""
        shallow_BFHW = self.shallow(images_BCHW)
        features_BD = self.deep(shallow_BFHW)
        deep_BC = self.clusters(features_BD)
        return Outputs(self.last_norm(deep_BC).softmax(dim=1), deep_BC, shallow_BFHW, features_BD)

    def shallow_and_deep(self) -> dict[str, Tensor]:
        """The weights up to the features, by their names in ``layers``."""
        return {key: value for key, value in self.state_dict().items() if key.startswith(("shallow.", "deep."))}


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


class GlobalMean(nn.Module):
    """The mean over height and width, whose gradient lies in memory as the maps do.

    That of ``AdaptiveAvgPool2d(1)`` does not, and the layers before it would go through maps channel by channel.
    """

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        """(B, C, 1, 1)."""
        return functional.avg_pool2d(maps_BCHW, list(maps_BCHW.shape[2:]))


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
        # Matrix products over places as rows: what follows reads the maps, the largest tensors of a step, in the order
        # in which they lie, and a convolution onto one channel is many times slower than such a product.
        places_BXE = self._linear(self.on_shallow, shallow_BFHW.permute(0, 2, 3, 1).flatten(1, 2))
        vector_Q1E = self.on_deep(deep_BC).repeat(len(partner_PB), 1)[:, None]
        # In place, and rows selected rather than indexed, whose backward adds element by element.
        hidden_QXE = places_BXE.index_select(0, partner_PB.flatten()).add_(vector_Q1E).relu_()
        scores_QX1 = self._linear(self.third, self._linear(self.second, hidden_QXE).relu_())
        return scores_QX1.view(*partner_PB.shape, *shallow_BFHW.shape[2:])

    @staticmethod
    def _linear(layer: nn.Conv2d, rows_XC: Tensor) -> Tensor:
        """A 1 x 1 convolution without bias, of places whose channels lie last."""
        return functional.linear(rows_XC, layer.weight.flatten(1))


class Scored(nn.Module):
    """Network and discriminator in one pass, on pairs as many as a training step has; to count what they put out."""

    def __init__(self, name: str, shape: DataShape, num_clusters: int) -> None:
        super().__init__()
        self.network = CorrelationNetwork(name, shape, num_clusters, seed=0)
        self.discriminator = Discriminator(name, self.network.shallow_channels, num_clusters, seed=0)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        outputs: Outputs = self.network(images_BCHW)
        itself_B = torch.arange(len(images_BCHW), device=images_BCHW.device)
        scores: Tensor = self.discriminator(outputs.deep_BC, outputs.shallow_BFHW, itself_B.expand(4, -1))
        return scores


def layers(name: str, in_channels: int, image_size_px: int, *, has_statistics: bool) -> nn.Sequential:
    """Images (B, in_channels, H, W) to features (B, FEATURE_WIDTH): ``shallow`` up to the shallow map, then ``deep``.

    Weights are drawn from PyTorch's generator: convolutions N(0, 2 / fan in), as PyTorch's default for Kaiming's rule,
    which DCCM's code takes.

    Args:
        name: one of NETWORKS.
        has_statistics: whether batch norms keep running statistics, and use them in eval mode.
    """
    width, padding = _WIDTHS[name], 0 if name == "dccm_c4" else 1
    # 28 px would keep maps of 28 x 28 through two convolutions, four times the work of 14 x 14.
    stride = 2 if name == "dccm_small" and image_size_px > 16 else 1

    def convolution(channels: int, out_channels: int, stride: int = 1) -> list[nn.Module]:
        layer = nn.Conv2d(channels, out_channels, 3, stride=stride, padding=padding, bias=False)
        nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
        return [layer, nn.BatchNorm2d(out_channels, track_running_stats=has_statistics), nn.ReLU(inplace=True)]

    shallow = nn.Sequential(
        *convolution(in_channels, width, stride),
        *convolution(width, width),
        nn.MaxPool2d(2),
    )
    deep = nn.Sequential(
        *convolution(width, 2 * width),
        nn.MaxPool2d(2),
        *convolution(2 * width, 4 * width),
        GlobalMean(),
        nn.Flatten(),
        _truncated_identity(4 * width, FEATURE_WIDTH),
        nn.BatchNorm1d(FEATURE_WIDTH, track_running_stats=has_statistics),
        nn.ReLU(),  # not in place: the feature before it can be read too
    )
    return nn.Sequential(OrderedDict(shallow=shallow, deep=deep))


@torch.no_grad()
def backbone_state(network: CorrelationNetwork, shape: DataShape, batches: Iterable[Tensor]) -> State:
    """The network up to its features as the state dict of the backbone of its name.

    Its batch norms get the mean over the batches of the statistics that the network itself uses in each, so an image's
    features no longer depend on the batch that it comes in.

    Args:
        network: trained; stays as it is.
        shape: of the data set.
        batches: images (B, C, H, W) as the network sees them; each at least two.
    """
    features = layers(network.name, shape.num_channels, shape.image_size_px, has_statistics=True)
    features.load_state_dict(network.shallow_and_deep(), strict=False)  # running statistics are missing there
    for module in features.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches
    device = next(network.parameters()).device
    features.to(device).to(memory_format=torch.channels_last).train()
    for images_BCHW in batches:
        features(images_BCHW)
    return {f"layers.{key}": value for key, value in features.state_dict().items()}


def _truncated_identity(in_width: int, out_width: int) -> nn.Linear:
    layer = nn.Linear(in_width, out_width)
    nn.init.eye_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
