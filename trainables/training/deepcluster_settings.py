"""What DeepCluster and UAD, which adds to it, are both set by."""

from dataclasses import dataclass
from typing import Protocol

from .. import settings
from ..nets.precision import ComputeConfig
from .optimizers import SgdConfig
from .views import AffineConfig


@dataclass(frozen=True, kw_only=True)
class ClusteringConfig:
    """How features are clustered: the group ``clustering`` of both Configs."""

    method: str = settings.setting(
        "kmeans", "k-means, or power iteration clustering, which finds the number itself", choices=("kmeans", "pic")
    )
    kmeans_iterations: int = settings.setting(
        20, "Lloyd iterations at most", low=1, high=10000, when={"method": ("kmeans",)}
    )
    pic_neighbors: int = settings.setting(
        5, "edges that leave each image", low=1, unit="neighbors", when={"method": ("pic",)}
    )
    pic_sigma: float = settings.setting(
        0.2, "width of the edge weights, of squared distances", above=0, symbol="σ", when={"method": ("pic",)}
    )
    pic_damping: float = settings.setting(
        0.001, "share of the graph in each power iteration", above=0, below=1, when={"method": ("pic",)}
    )
    pca_dim: int = settings.setting(256, "dimensions kept by the whitening PCA; 0 clusters features as they are", low=0)
    incremental_pca: bool = settings.setting(
        False,
        "fit the PCA on a stream of batches: memory of 24 bytes x width^2 instead of 12 bytes x images x width, for a "
        "second forward pass",
    )

    def __post_init__(self) -> None:
        settings.check(self)


class DeepClusterConfig(Protocol):
    """Settings that the Configs of both stages have."""

    @property
    def network(self) -> str: ...

    @property
    def sobel(self) -> bool: ...

    @property
    def num_clusters(self) -> int: ...

    @property
    def final_clusters(self) -> int: ...

    @property
    def clustering(self) -> ClusteringConfig: ...

    @property
    def epochs(self) -> int: ...

    @property
    def epochs_between_reassignments(self) -> float: ...

    @property
    def uniform_sampler(self) -> bool: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def optimizer(self) -> SgdConfig: ...

    @property
    def augmentation(self) -> str: ...

    @property
    def views(self) -> AffineConfig: ...

    @property
    def compute(self) -> ComputeConfig: ...
