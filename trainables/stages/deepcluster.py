"""DeepCluster: k-means of the network's features gives pseudo-labels, which the network learns; and again.

Source: Caron et al. 2018, "Deep clustering for unsupervised learning of visual features", sections 3 and 4.1. The
settings are those of ``cluster_settings.Settings``; how an epoch goes stands in ``deepclustering``.
The criterion, the agreement of the clusterings of two epochs, is ours; it is high as well where a network stands still,
so it compares settings of the same learning rate and number of epochs.

Axes: N images.
"""

from collections.abc import Generator, Mapping

from ..interfaces import Epoch, ImageData, Result, Runtime
from ..training import deepcluster, deepcluster_settings
from ..training.deepcluster import limits

__all__ = ["CRITERION", "INPUTS", "METRICS", "NAMESPACE", "VERSION", "Config", "limits", "train"]

NAMESPACE = "deepcluster"
INPUTS: tuple[str, ...] = ()
VERSION = 3
METRICS = deepcluster.METRICS
CRITERION = ("assignment_nmi", "max")

Config = deepcluster_settings.Settings


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """As ``deepclustering.train``, on high-level features alone and with every image counting the same."""
    return (yield from deepcluster.train(config, data, runtime))
