"""UAD: DeepCluster that clusters low- and high-level features together, and trusts a label less far from its centroid.

Source: UAD sections 3.1 to 3.3, Eq. 11-23 and Alg. 1; with both switches off it is DeepCluster, number by number.
Where the paper disagrees with itself or with the code it prints, a setting chooses:

    low_level_channels        8, as the printed code draws; section 3.2 says 16 of 96
    channel_selection_scope   once a run; the printed code draws anew in every batch, so that a column of the fused
                              matrix means another channel in another batch
    high_level_source         the network's last feature, as in the code; Eq. 19 flattens the last maps
    distance                  squared, as FAISS returns it, in the space that is clustered
    weight_direction          Eq. 23: larger near the centroid; the last sentence of section 3.3 says the opposite
    weighted_loss_form        Eq. 15; double_softmax is figure 7 with DeepCluster's criterion
    weight_source_index       by image; cluster_order is figure 5, where the images' list has been sorted by cluster
    uncertainty_offset        gamma has no published value; 0.5 makes the mean weight 1 where distances are uniform

    classifier_input          the high-level feature, as in the code; Eq. 13 prints the fused one

Nothing is clustered twice: the distances are those of the clustering. ``high_level_share`` says how much of what is
clustered is the high level (section 3.2: the low one must not drown it).

Axes: N images.
"""

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .. import settings
from ..figures import of_results
from ..interfaces import CaptionedFigure, DataShape, Epoch, ImageData, Result, Runtime
from ..maths import fusion as maths_fusion
from ..maths import uncertainty
from ..nets import backbones, feature_maps
from ..nets.precision import ComputeConfig
from ..training import deepcluster, deepcluster_model
from ..training.deepcluster_features import Fusion
from ..training.deepcluster_settings import ClusteringConfig
from ..training.optimizers import SgdConfig
from ..training.views import AffineConfig

NAMESPACE = "uad"
INPUTS: tuple[str, ...] = ()
VERSION = 5
METRICS = (*deepcluster.METRICS, "weight_mean", "weight_std", "high_level_share")
CRITERION = ("assignment_nmi", "max")

TRAINS_ON_LABELS = False
WHOLE_PICTURES = True
WEIGHTS = ("backbone", "clustering")
ARRAYS = ("pseudo_labels", "distances", "weights", "probabilities_train", "probabilities_eval")
FACTS = ("network", "sobel", "fusion")
TINY: Mapping[str, settings.Plain] = {
    "augmentation": "affine",
    "batch_size": 24,
    "epochs": 1,
    "num_clusters": 6,
    "clustering.pca_dim": 8,
    "low_level_channels": 4,
    "optimizer.lr": 0.01,
}

_FUSED, _WEIGHTED = {"fusion": (True,)}, {"uncertainty_weighting": (True,)}
_HIGH_LEVEL = {"fc7": "top", "last_pool": "last_pool", "last_conv": "last_conv"}


@dataclass(frozen=True, kw_only=True)
class Config:
    """DeepCluster's settings, and UAD's two modules."""

    network: str = settings.setting(
        "auto", "backbone; alexnet_dc is the papers'", choices=("auto", *backbones.BACKBONES)
    )
    sobel: bool = settings.setting(True, "give the network image gradients instead of colors")
    num_clusters: int = settings.setting(
        0, "clusters; 0 means ten for each class", low=0, symbol="k", when={"clustering.method": ("kmeans",)}
    )
    final_clusters: int = settings.setting(
        0,
        "clusters of the k-means at the end, whose result is judged and kept; 0 means as many as there are classes",
        low=0,
        symbol="C",
    )
    clustering: ClusteringConfig = settings.group(ClusteringConfig)
    epochs: int = settings.setting(200, "clusterings, each followed by training", low=1, unit="epochs")
    epochs_between_reassignments: float = settings.setting(
        1.0, "images drawn per clustering, as a share of the data set", above=0, high=100
    )
    uniform_sampler: bool = settings.setting(True, "draw images uniformly over the clusters, not over the images")
    batch_size: int = settings.setting(256, "images in a step, over all workers", low=2, unit="images", symbol="B")
    optimizer: SgdConfig = settings.group(
        SgdConfig,
        lr=settings.setting(0.05, "learning rate of SGD, constant", above=0),
        momentum=settings.setting(0.9, "momentum of SGD; the top layer has none", low=0, below=1),
        weight_decay=1e-5,
    )
    augmentation: str = settings.setting(
        "standard", "how images are drawn; affine is for tiny gray images",
        choices=("standard", "simclr", "affine", "eval"),
    )  # fmt: skip
    views: AffineConfig = settings.group(AffineConfig)
    compute: ComputeConfig = settings.group(ComputeConfig)
    fusion: bool = settings.setting(True, "F: cluster low-level features together with the high-level one")
    low_level_channels: int = settings.setting(
        8, "low-level channels kept, drawn at random", low=1, unit="channels", symbol="C₁*", when=_FUSED
    )
    channel_selection_scope: str = settings.setting(
        "per_run", "how long drawn channels are kept", choices=("per_run", "per_epoch", "per_batch"), when=_FUSED
    )
    low_level_source: str = settings.setting(
        "pool1", "maps after the first convolution, or after its pooling", choices=("conv1", "pool1"), when=_FUSED
    )
    high_level_source: str = settings.setting(
        "fc7",
        "the last feature before its activation, or the last maps, pooled or not",
        choices=("fc7", "last_pool", "last_conv"),
        when=_FUSED,
    )
    fusion_op: maths_fusion.Operation = settings.setting(
        "concat",
        "how the blocks are joined: side by side, also with noise of a tenth of their size; added or multiplied, the"
        " low one projected to the high one's width first; or each projected to 64 numbers and their matrix product",
        when=_FUSED,
    )
    fusion_block_norm: str = settings.setting(
        "none",
        "scale of the blocks: as they are; each of length 1; or each column of variance 1 and each block of total 1",
        choices=("none", "l2_each", "zscore_each"),
        when=_FUSED,
    )
    classifier_input: str = settings.setting(
        "high",
        "what the top layer sees: the high-level feature, or the kept low-level channels before it too",
        choices=("high", "fused"),
        when={"fusion": (True,), "channel_selection_scope": ("per_run", "per_epoch")},
    )
    uncertainty_weighting: bool = settings.setting(
        True, "U: weight the loss of an image by its distance to the centroid"
    )
    uncertainty_offset: float = settings.setting(
        0.5, "added to every weight; not published", low=0, high=100, symbol="γ", when=_WEIGHTED
    )
    distance: str = settings.setting(
        "squared_l2", "distance that is scaled to [0, 1]", choices=("squared_l2", "l2"), when=_WEIGHTED
    )
    weight_direction: uncertainty.Direction = settings.setting(
        "confident_up",
        "which images weigh more: those near the centroid, or those far from it",
        when=_WEIGHTED,
    )
    weighted_loss_form: uncertainty.LossForm = settings.setting(
        "weighted_nll",
        "where the weight enters: on the loss; on the loss, over the batch's mean weight; or before a second softmax",
        when=_WEIGHTED,
    )
    weight_source_index: str = settings.setting(
        "image_id", "whose weight an image gets: its own, or that of the image at its place by cluster",
        choices=("image_id", "cluster_order"), when=_WEIGHTED,
    )  # fmt: skip

    def __post_init__(self) -> None:
        settings.check(self)


def limits(config: Config, shape: DataShape) -> Iterator[tuple[str, str]]:
    if not config.fusion:
        yield from deepcluster.limits(config, shape)
        return
    try:
        network = backbones.resolve(config.network, shape)
        shapes = feature_maps.shapes(network, shape, config.sobel)
    except ValueError as error:
        yield "network", str(error)
        return
    if config.low_level_source not in shapes or _HIGH_LEVEL[config.high_level_source] not in shapes:
        yield "network", f"network {network} is not known to have low- and high-level maps to fuse; take another one"
        return
    channels, height, width = shapes[config.low_level_source]
    high_width = math.prod(shapes[_HIGH_LEVEL[config.high_level_source]])
    fused_width = maths_fusion.width(config.fusion_op, config.low_level_channels * height * width, high_width)
    further = fused_width - high_width
    yield from deepcluster.limits(config, shape, _HIGH_LEVEL[config.high_level_source], further)
    if config.clustering.pca_dim == 0 and config.fusion_block_norm == "zscore_each":
        yield "fusion_block_norm", "fusion_block_norm zscore_each is part of the PCA, but pca_dim is 0"
    if config.low_level_channels > channels:
        yield (
            "low_level_channels",
            f"low_level_channels must be at most {channels}, the channels of {config.low_level_source}, "
            f"but is {config.low_level_channels}",
        )


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """As ``training.deepcluster.train``, with the two modules where they are on."""
    fusion = weighting = None
    if config.fusion:
        fusion = Fusion(
            low_level_channels=config.low_level_channels,
            channel_selection_scope=config.channel_selection_scope,
            low_level_source=config.low_level_source,
            high_level_source=_HIGH_LEVEL[config.high_level_source],
            operation=config.fusion_op,
            block_norm=config.fusion_block_norm,
            for_classifier=config.classifier_input == "fused",
        )
    if config.uncertainty_weighting:
        weighting = deepcluster.Weighting(
            uncertainty_offset=config.uncertainty_offset,
            distance=config.distance,
            direction=config.weight_direction,
            loss_form=config.weighted_loss_form,
            source_index=config.weight_source_index,
        )
    return (yield from deepcluster.train(config, data, runtime, fusion, weighting))


sized = deepcluster.sized
classifier = deepcluster_model.classifier


def figures(result: Result, data: ImageData, history: Sequence[Mapping[str, float]]) -> dict[str, CaptionedFigure]:
    return of_results.clustering(result, data, history) | of_results.pseudo_labels(result, data, history)
