"""What DeepCluster and UAD, which adds to it, are set by."""

from dataclasses import dataclass

from .. import settings
from ..nets import backbones, precision


@dataclass(frozen=True, kw_only=True)
class Settings(precision.Settings):
    """DeepCluster's settings, with its defaults for AlexNet on ImageNet."""

    network: str = settings.setting(
        "auto", "backbone; alexnet_dc is the papers'", choices=("auto", *backbones.BACKBONES)
    )
    sobel: bool = settings.setting(True, "give the network image gradients instead of colors")
    clustering: str = settings.setting(
        "kmeans", "k-means, or power iteration clustering, which finds the number itself", choices=("kmeans", "pic")
    )
    num_clusters: int = settings.setting(
        0, "clusters; 0 means ten for each class", low=0, symbol="k", when={"clustering": ("kmeans",)}
    )
    kmeans_iterations: int = settings.setting(
        20, "Lloyd iterations at most", low=1, high=10000, when={"clustering": ("kmeans",)}
    )
    pic_neighbors: int = settings.setting(
        5, "edges that leave each image", low=1, unit="neighbors", when={"clustering": ("pic",)}
    )
    pic_sigma: float = settings.setting(
        0.2, "width of the edge weights, of squared distances", above=0, symbol="σ", when={"clustering": ("pic",)}
    )
    pic_damping: float = settings.setting(
        0.001, "share of the graph in each power iteration", above=0, below=1, when={"clustering": ("pic",)}
    )
    pca_dim: int = settings.setting(256, "dimensions kept by the whitening PCA; 0 clusters features as they are", low=0)
    incremental_pca: bool = settings.setting(
        False,
        "fit the PCA on a stream of batches: memory of 24 bytes x width^2 instead of 12 bytes x images x width, for a "
        "second forward pass",
    )
    epochs: int = settings.setting(200, "clusterings, each followed by training", low=1, unit="epochs")
    epochs_between_reassignments: float = settings.setting(
        1.0, "images drawn per clustering, as a share of the data set", above=0, high=100
    )
    uniform_sampler: bool = settings.setting(True, "draw images uniformly over the clusters, not over the images")
    batch_size: int = settings.setting(256, "images in a step, over all workers", low=2, unit="images", symbol="B")
    lr: float = settings.setting(0.05, "learning rate of SGD, constant", above=0)
    momentum: float = settings.setting(0.9, "momentum of SGD; the top layer has none", low=0, below=1)
    weight_decay: float = settings.setting(1e-5, "L2 penalty, on every parameter", low=0)
    augmentation: str = settings.setting(
        "standard", "how images are drawn; affine is for tiny gray images",
        choices=("standard", "simclr", "affine", "eval"),
    )  # fmt: skip
    affine_scale: float = settings.setting(
        1.0, "multiplies the ranges of the affine views", low=0, high=2, when={"augmentation": ("affine",)}
    )

    def __post_init__(self) -> None:
        settings.check(self)
