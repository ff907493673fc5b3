"""DeepCluster: k-means of the network's features gives pseudo-labels, which the network learns; and again.

Source: Caron et al. 2018, "Deep clustering for unsupervised learning of visual features", sections 3 and 4.1. The
defaults are those for AlexNet on ImageNet, whose name is alexnet_dc (``network: auto`` goes by the image size); how an
epoch goes stands in ``training.deepcluster``.
The criterion, the agreement of the clusterings of two epochs, is ours; it is high as well where a network stands still,
so it compares settings of the same learning rate and number of epochs.

Axes: N images.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

from .. import settings
from ..figures import of_results
from ..interfaces import CaptionedFigure, Epoch, ImageData, Result, Runtime
from ..nets import backbones
from ..nets.precision import ComputeConfig
from ..training import deepcluster, deepcluster_model
from ..training.deepcluster_settings import ClusteringConfig
from ..training.optimizers import SgdConfig
from ..training.views import AffineConfig

NAMESPACE = "deepcluster"
INPUTS: tuple[str, ...] = ()
VERSION = 5
METRICS = deepcluster.METRICS
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
    "optimizer.lr": 0.01,
}


@dataclass(frozen=True, kw_only=True)
class Config:
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

    def __post_init__(self) -> None:
        settings.check(self)


limits = deepcluster.limits


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """As ``training.deepcluster.train``, on high-level features alone and with every image counting the same."""
    return (yield from deepcluster.train(config, data, runtime))


sized = deepcluster.sized
classifier = deepcluster_model.classifier


def figures(result: Result, data: ImageData, history: Sequence[Mapping[str, float]]) -> dict[str, CaptionedFigure]:
    return of_results.clustering(result, data, history) | of_results.pseudo_labels(result, data, history)
