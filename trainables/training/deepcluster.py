"""The training that DeepCluster and UAD share: cluster the features, learn the clusters as classes, and again.

Each epoch: features of all images in eval mode, PCA-whitening, rows of length 1, k-means (or PIC), pseudo-labels; a
fresh top layer; as many steps as images drawn uniformly over the clusters give. UAD adds low-level features to what is
clustered, and weights each image's loss by how near it is to its centroid.

Source: Caron et al. 2018 (DeepCluster) sections 3 and 4.1; UAD Eq. 7-15 and Alg. 1.
Differs from DeepCluster's code: the top layer's outputs keep the clusters' numbers where some are empty; k-means starts
from greedy k-means++ points; directions of the PCA without spread become zero; the features' order and all draws come
from the seed; of a large picture the middle square is kept at 256 px, and all crops are cut out of that unless
``dataset.whole_pictures`` is true, where the code cuts random crops out of the whole picture at full resolution, and
ten crops out of the whole rectangle (docs/methods.md has the size of the difference).

Axes: N images, B batch, C clusters, D feature width, E width of a clustered point.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data import augment, batches
from ..data.batch_random import BatchRandom
from ..interfaces import Clustering, DataShape, Epoch, ImageData, NetworkSize, Result, Runtime, State, Whitening
from ..maths import cluster_sampling, metrics, uncertainty
from ..nets import alexnet, backbones, feature_maps, sizes
from . import clustering, deepcluster_model, loop, whole_pictures
from .deepcluster_classifier import Classifier, Learner
from .deepcluster_features import Extractor, Fusion
from .deepcluster_settings import DeepClusterConfig

METRICS = (
    "loss",
    "assignment_nmi",
    "mean_squared_distance",
    "num_clusters",
    "num_empty_train_clusters",
    "num_flat_directions",
    "pseudo_share_max",
    "pseudo_nmi",
    "pseudo_acc_majority",
    "epoch_seconds",
    *metrics.EVALUATION_METRICS,
)
CLUSTERS_PER_CLASS = 10
SMALLEST_MEAN_WEIGHT = 1e-12
FINAL_RESTARTS, FINAL_ITERATIONS = 5, 100
"""Of the k-means into as many clusters as classes by which the final features are evaluated."""


@dataclass(frozen=True)
class Weighting:
    """How images are weighted by distance; the values are those of UAD's settings of the same names."""

    uncertainty_offset: float
    distance: str
    direction: uncertainty.Direction
    loss_form: uncertainty.LossForm
    source_index: str


@dataclass(frozen=True)
class _Round:
    """One clustering of all training images. points_NE: what was clustered. high_level_share: see ``Points``."""

    clustering: Clustering
    labels_N: Tensor
    weights_N: Tensor
    points_NE: NDArray[np.float32]
    eval_points_NE: NDArray[np.float32] | None
    whitening: Whitening | None
    weighted: bool
    high_level_share: float | None = None

    @property
    def num_clusters(self) -> int:
        return len(self.clustering.centroids_CD)


def limits(
    config: DeepClusterConfig, shape: DataShape, source: str = "top", further_width: int = 0
) -> Iterator[tuple[str, str]]:
    """What the data set forbids. source: the tap that is clustered; further_width: of what is put beside it."""
    yield from clustering.limits_on_size(config, shape, ("batch_size", "final_clusters"))
    num_clusters = config.num_clusters or CLUSTERS_PER_CLASS * shape.num_classes
    if config.clustering.method == "kmeans" and num_clusters > shape.num_train:
        rule = f"at most the number of training images ({shape.num_train})"
        yield "num_clusters", f"num_clusters must be {rule}, but is {num_clusters}"
    if config.clustering.method == "pic" and config.clustering.pic_neighbors >= shape.num_train:
        rule = f"below the number of training images ({shape.num_train})"
        yield "clustering.pic_neighbors", f"pic_neighbors must be {rule}, but is {config.clustering.pic_neighbors}"
    if config.clustering.pca_dim == 0 and config.clustering.incremental_pca:
        yield "clustering.incremental_pca", "incremental_pca is true, but pca_dim is 0: there is no PCA to fit"
    try:
        network = backbones.resolve(config.network, shape)
        backbones.check_size(network, shape.image_size_px)
    except ValueError as error:
        yield "network", str(error)
        return
    width = int(np.prod(feature_maps.shapes(network, shape, config.sobel)[source])) + further_width
    most = min(width, shape.num_train)
    if config.clustering.pca_dim > most:
        rule = f"at most {most}, the smaller of the feature's width and the number of images"
        yield "clustering.pca_dim", f"pca_dim must be {rule}, but is {config.clustering.pca_dim}"


def sized(config: DeepClusterConfig, shape: DataShape) -> NetworkSize:
    """The backbone under its top layer; an image has one view."""
    network = backbones.resolve(config.network, shape)
    num_clusters = config.num_clusters or CLUSTERS_PER_CLASS * shape.num_classes

    def model() -> Classifier:
        backbone = backbones.build(
            network,
            in_channels=shape.num_channels,
            image_size_px=shape.image_size_px,
            seed=0,
            sobel=config.sobel,
        )
        return Classifier(backbone, num_clusters)

    return NetworkSize(network, *sizes.count(model, shape), config.batch_size)


def train(
    config: DeepClusterConfig,
    data: ImageData,
    runtime: Runtime,
    fusion: Fusion | None = None,
    weighting: Weighting | None = None,
) -> Generator[Epoch, None, Result]:
    """Cluster and learn in turns; see the module's docstring. fusion, weighting: None is DeepCluster.

    Returns:
        weights: backbone, clustering (PCA and centroids of the final clustering). facts: network, sobel, fusion. arrays
        of the final model's clustering: pseudo_labels, distances and weights (N,) of the training images;
        probabilities_train and probabilities_eval of a k-means into final_clusters on the final features, which acc,
        nmi and ari are of. assignment_nmi: between the labels of the last epoch and the final ones.
    """
    learner = Learner(config, data, runtime, fusion)
    before = loop.Values(labels_N=None)

    def run(epoch: int) -> dict[str, float]:
        clustered = _cluster(learner, fusion, weighting, epoch)
        loss = _epoch(learner, clustered, weighting, epoch)
        metrics = {"loss": loss} | _description(clustered, before["labels_N"], data)
        before["labels_N"] = torch.tensor(clustered.clustering.labels_N)
        return metrics

    # The top layer is made anew after each clustering, so it is no part of the state.
    parts: dict[str, loop.Stateful] = {
        "backbone": learner.backbone, "optimizer": learner.optimizer, "before": before
    }  # fmt: skip
    last = yield from loop.epochs(config.epochs, runtime, parts, run)
    final = _cluster(learner, fusion, weighting, config.epochs, with_eval=True)
    centroids_CD, arrays, evaluated = _evaluate(learner, final)
    return Result(
        weights={
            "backbone": learner.backbone.state_dict(),
            "clustering": _clustering_state(learner, final, centroids_CD, fusion),
        },
        arrays={
            "pseudo_labels": final.clustering.labels_N,
            "distances": final.clustering.distances_N,
            "weights": final.weights_N.cpu().numpy(),
            **arrays,
        },
        facts={
            "network": learner.backbone.name,
            "sobel": config.sobel,
            "fusion": deepcluster_model.facts_of(fusion, runtime.seed),
        },
        metrics={"loss": last["loss"]} | _description(final, before["labels_N"], data) | evaluated,
    )


def _cluster(
    learner: Learner, fusion: Fusion | None, weighting: Weighting | None, epoch: int, with_eval: bool = False
) -> _Round:
    config, runtime, data = learner.config, learner.runtime, learner.data
    extractor = Extractor(
        learner.backbone,
        data,
        runtime,
        config.batch_size,
        fusion,
        config.clustering.pca_dim,
        config.clustering.incremental_pca,
    )
    points = extractor.points(epoch)
    points_NE = points.train_NE
    if config.clustering.method == "pic":
        result = runtime.search.pic(
            points_NE, config.clustering.pic_neighbors, config.clustering.pic_sigma, config.clustering.pic_damping
        )
    else:
        num_clusters = config.num_clusters or CLUSTERS_PER_CLASS * len(data.class_names)
        result = runtime.search.kmeans(
            points_NE,
            num_clusters,
            seed=_seed(runtime, epoch),
            iterations=config.clustering.kmeans_iterations,
            restarts=1,
        )
    labels_N = torch.tensor(result.labels_N, device=runtime.device)
    weights_N = torch.ones(len(labels_N), device=runtime.device)
    if weighting is not None:
        weights_N = _weights(weighting, torch.tensor(result.distances_N, device=runtime.device), labels_N)
    eval_points_NE = None
    if with_eval:
        eval_points_NE = points_NE if data.is_union else points.of(data.eval)
    return _Round(
        result,
        labels_N,
        weights_N,
        points_NE,
        eval_points_NE,
        points.whitening,
        weighting is not None,
        points.high_level_share,
    )


def _seed(runtime: Runtime, epoch: int) -> int:
    generator = runtime.generator("clusters", epoch)
    return int(torch.randint(2**31 - 1, (1,), generator=generator, device=generator.device))


def _weights(weighting: Weighting, squared_N: Tensor, labels_N: Tensor) -> Tensor:
    distances_N = squared_N if weighting.distance == "squared_l2" else squared_N.sqrt()
    weights_N = uncertainty.confidence_weights(
        distances_N,
        labels_N,
        int(labels_N.max()) + 1,
        offset=weighting.uncertainty_offset,
        direction=weighting.direction,
    )
    if weighting.source_index == "image_id":
        return weights_N
    # The paper's figure 5: the list of images is in the order of the clusters, the list of distances is not.
    shuffled_N = torch.empty_like(weights_N)
    shuffled_N[labels_N.argsort(stable=True)] = weights_N
    return shuffled_N


def _epoch(learner: Learner, clustered: _Round, weighting: Weighting | None, epoch: int) -> float:
    """The mean loss of one pass over the images drawn for an epoch."""
    config, data, runtime = learner.config, learner.data, learner.runtime
    trained, top_optimizer = learner.fresh_classifier(clustered.num_clusters, epoch)
    norm, strength = augment.Norm(data.mean, data.std), config.views.strength()
    views, dropped = runtime.generator("views", epoch), runtime.generator("dropout", epoch)
    form: uncertainty.LossForm = "weighted_nll" if weighting is None else weighting.loss_form
    drawn = _drawn(config, clustered, runtime, epoch)
    trained.train()
    loss_sum, steps = torch.zeros((), device=runtime.device), 0
    order, kept = runtime.batches(len(drawn), config.batch_size, epoch, drop_last=False), data.train.images_NCHW
    whole = kept if whole_pictures.are_whole(kept) and config.augmentation == "standard" else None
    for batch in order if whole is not None else batches.announced(data.train, drawn, order):
        rows_B = drawn[batch.rows_B]
        weights_B = clustered.weights_N[rows_B]
        if form == "normalized":
            # Without an offset a batch of farthest images alone weighs nothing.
            weights_B = weights_B / runtime.gather(weights_B).mean().clamp(min=SMALLEST_MEAN_WEIGHT)
        draws = BatchRandom(views, batch.total, batch.start, len(rows_B))
        alexnet.feed_dropout(trained, BatchRandom(dropped, batch.total, batch.start, len(rows_B)))
        if whole is not None:
            images = whole_pictures.standard(whole, rows_B, draws, norm)
        else:
            images = augment.AUGMENTATIONS[config.augmentation](kept[rows_B], draws, norm, strength)
        terms_B = uncertainty.cross_entropies(trained(images), clustered.labels_N[rows_B], weights_B, form)
        # Ranks hold equal shares of the batch, so the mean of their gradients is that of the global mean.
        loop.step(terms_B.mean(), learner.optimizer, top_optimizer)
        loss_sum += runtime.gather(terms_B.detach()).mean()
        steps += 1
    alexnet.feed_dropout(trained, None)
    return float(loss_sum / steps)


def _drawn(config: DeepClusterConfig, clustered: _Round, runtime: Runtime, epoch: int) -> Tensor:
    """The image rows that an epoch trains on, on the device."""
    num_images = len(clustered.labels_N)
    count = max(2, int(num_images * config.epochs_between_reassignments))
    generator = runtime.generator("sampler", epoch)
    if config.uniform_sampler:
        return cluster_sampling.uniform_over_clusters(clustered.labels_N, clustered.num_clusters, count, generator)
    passes = [
        torch.randperm(num_images, generator=generator, device=generator.device) for _ in range(-(-count // num_images))
    ]
    return torch.cat(passes)[:count]


def _description(clustered: _Round, before_N: Tensor | None, data: ImageData) -> dict[str, float]:
    """Metrics of one clustering; before_N: the one before it, without which there is no assignment_nmi."""
    labels_N, clustering = clustered.clustering.labels_N, clustered.clustering
    numbers = {
        "mean_squared_distance": clustering.inertia / len(labels_N),
        "num_clusters": float(clustered.num_clusters),
        "num_empty_train_clusters": float(clustering.num_empty),
        "num_flat_directions": float(clustered.whitening.num_flat if clustered.whitening else 0),
        "pseudo_share_max": float(np.bincount(labels_N).max() / len(labels_N)),
    }
    if before_N is not None:
        numbers["assignment_nmi"] = metrics.assignment_nmi(before_N.numpy(), labels_N)
    if clustered.weighted:
        mean, std = torch.stack((clustered.weights_N.mean(), clustered.weights_N.std(correction=0))).tolist()
        numbers |= {"weight_mean": mean, "weight_std": std}
    if clustered.high_level_share is not None:
        numbers["high_level_share"] = clustered.high_level_share
    true_N = data.train.labels_N.cpu().numpy()
    if (true_N >= 0).any():
        counts_CY = metrics.contingency(labels_N, true_N, clustered.num_clusters, len(data.class_names))
        numbers |= {"pseudo_nmi": metrics.nmi(counts_CY), "pseudo_acc_majority": metrics.majority_accuracy(counts_CY)}
    return numbers


def _clustering_state(
    learner: Learner, final: _Round, centroids_CD: NDArray[np.float32], fusion: Fusion | None
) -> State:
    """What ``deepcluster_model.classifier`` needs beside the backbone."""
    state = {"centroids": torch.tensor(centroids_CD)}
    if final.whitening is not None:
        state |= {
            "matrix": torch.tensor(final.whitening.matrix_DE, dtype=torch.float32),
            "offset": torch.tensor(final.whitening.offset_E, dtype=torch.float32),
        }
    if fusion is not None and fusion.channel_selection_scope != "per_batch":
        state["channels"] = learner.kept_channels(fusion, learner.config.epochs).cpu()
    return state


def _evaluate(
    learner: Learner, clustered: _Round
) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]], dict[str, float]]:
    """A k-means of the final points into ``final_clusters``: centroids, probabilities, metrics."""
    data, runtime = learner.data, learner.runtime
    assert clustered.eval_points_NE is not None
    final = runtime.search.kmeans(
        clustered.points_NE,
        learner.config.final_clusters or len(data.class_names),
        seed=runtime.seed,
        iterations=FINAL_ITERATIONS,
        restarts=FINAL_RESTARTS,
    )
    arrays = {
        "probabilities_train": clustering.closeness(clustered.points_NE, final.centroids_CD),
        "probabilities_eval": clustering.closeness(clustered.eval_points_NE, final.centroids_CD),
    }
    return (
        final.centroids_CD,
        arrays,
        clustering.evaluate(arrays["probabilities_eval"], data),
    )
