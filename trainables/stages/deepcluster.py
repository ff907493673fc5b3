"""DeepCluster: k-means of the network's features gives pseudo-labels, which the network learns; and again.

Source: Caron et al. 2018, "Deep clustering for unsupervised learning of visual features", sections 3 and 4.1. The
settings are those of ``cluster_settings.Settings``; how an epoch goes stands in ``deepclustering``.
The criterion, the agreement of the clusterings of two epochs, is ours; it is high as well where a network stands still,
so it compares settings of the same learning rate and number of epochs.

Axes: N images.
"""

from collections.abc import Generator, Mapping, Sequence

from .. import settings
from ..figures import of_results
from ..interfaces import CaptionedFigure, Epoch, ImageData, Result, Runtime
from ..training import deepcluster, deepcluster_model, deepcluster_settings

NAMESPACE = "deepcluster"
INPUTS: tuple[str, ...] = ()
VERSION = 4
METRICS = deepcluster.METRICS
CRITERION = ("assignment_nmi", "max")

TRAINS_ON_LABELS = False
WEIGHTS = ("backbone", "clustering")
ARRAYS = ("pseudo_labels", "distances", "weights", "probabilities_train", "probabilities_eval")
FACTS = ("network", "sobel", "fusion")
TINY: Mapping[str, settings.Plain] = {
    "augmentation": "affine",
    "batch_size": 24,
    "epochs": 1,
    "num_clusters": 6,
    "pca_dim": 8,
    "lr": 0.01,
}

Config = deepcluster_settings.Settings

limits = deepcluster.limits


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """As ``deepclustering.train``, on high-level features alone and with every image counting the same."""
    return (yield from deepcluster.train(config, data, runtime))


classifier = deepcluster_model.classifier


def figures(result: Result, data: ImageData, history: Sequence[Mapping[str, float]]) -> dict[str, CaptionedFigure]:
    return of_results.clustering(result, data, history) | of_results.pseudo_labels(result, data, history)
