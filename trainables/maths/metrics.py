"""How good a clustering is: with labels (for the report) and without (for choosing).

Counts of images by cluster and class carry all that accuracy, NMI and ARI need; they are taken once.

Axes: N images, M query images, C clusters, Y classes, K neighbors. Labels are integers, -1 where unknown.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..label_metrics import LABEL_METRICS as LABEL_METRICS
from ..label_metrics import PROBE_SUFFIX as PROBE_SUFFIX
from ..label_metrics import looks_at_labels as looks_at_labels

Labels = NDArray[np.integer[Any]]
Counts = NDArray[np.int64]

EVALUATION_METRICS: tuple[str, ...] = (
    "acc",
    "acc_majority",
    "nmi",
    "nmi_majority",
    "ari",
    "ari_majority",
    "top5",
    "confident_fraction",
    "confident_90",
    "confident_95",
    "confident_99",
    "cluster_share_min",
    "cluster_share_max",
    "num_empty_clusters",
    "cluster_entropy",
)
"""Every name that ``evaluate`` may report."""

CONFIDENCE = 0.99
"""A prediction above it counts as confident where a stage has no threshold of its own."""
CONFIDENCES = (0.9, 0.95, 0.99)
"""All of them are reported at once, so that no stage is trained anew for another one."""


def contingency(predicted_N: Labels, labels_N: Labels, num_clusters: int, num_classes: int) -> Counts:
    """How many images of each class each cluster holds: int64 of shape (C, Y). Images without a label are left out.

    Raises:
        ValueError: lengths differ, or a cluster or a label is out of range.
    """
    if len(predicted_N) != len(labels_N):
        raise ValueError(f"there are {len(predicted_N)} predictions for {len(labels_N)} labels; they must be as many.")
    known_N = labels_N >= 0
    predicted_N, labels_N = predicted_N[known_N].astype(np.int64), labels_N[known_N].astype(np.int64)
    for name, values_N, size in (("clusters", predicted_N, num_clusters), ("labels", labels_N, num_classes)):
        if len(values_N) and not 0 <= values_N.min() <= values_N.max() < size:
            raise ValueError(f"{name} must be below {size}, but go from {values_N.min()} to {values_N.max()}.")
    cells_N = predicted_N * num_classes + labels_N
    return np.bincount(cells_N, minlength=num_clusters * num_classes).reshape(num_clusters, num_classes)


def hungarian_map(counts_CY: Counts) -> NDArray[np.int64]:
    """The class of each cluster, one to one, that makes most images right: shape (C,), -1 for a cluster left over.

    Clusters are left over where there are more than classes; an empty cluster is never given a class.
    """
    size = max(counts_CY.shape)
    square_DD = np.zeros((size, size), dtype=np.int64)
    square_DD[: counts_CY.shape[0], : counts_CY.shape[1]] = counts_CY
    _, class_D = linear_sum_assignment(square_DD, maximize=True)
    class_C = class_D[: counts_CY.shape[0]].astype(np.int64)
    unused_C = (class_C >= counts_CY.shape[1]) | (counts_CY.sum(axis=1) == 0)
    return np.where(unused_C, -1, class_C)


def accuracy(counts_CY: Counts) -> float:
    """Share of images that are right under the best one-to-one map of clusters to classes, in [0, 1]."""
    class_C = hungarian_map(counts_CY)
    used = np.flatnonzero(class_C >= 0)
    return float(counts_CY[used, class_C[used]].sum() / counts_CY.sum())


def accuracies_within(
    predicted_N: Labels, labels_N: Labels, groups: Mapping[str, NDArray[np.bool_]], num_clusters: int, num_classes: int
) -> dict[str, float]:
    """Accuracy within groups of images, all under one map of clusters to classes: that of all images together.

    The map is one to one, or each cluster's largest class where clusters outnumber classes.

    Args:
        groups: name -> bool (N,). One without a labeled image is left out of what comes back.
    """
    counts_CY = contingency(predicted_N, labels_N, num_clusters, num_classes)
    if not counts_CY.any():
        return {}
    class_C = counts_CY.argmax(axis=1) if num_clusters > num_classes else hungarian_map(counts_CY)
    right_N, known_N = class_C[predicted_N] == labels_N, labels_N >= 0
    known = {name: group_N & known_N for name, group_N in groups.items()}
    return {name: float(right_N[group_N].mean()) for name, group_N in known.items() if group_N.any()}


def old_and_new_accuracy(counts_CY: Counts, known: Sequence[int]) -> dict[str, float]:
    """acc_old and acc_new: ``accuracy`` of the images of the ``known`` classes, and of the others.

    One map of clusters to classes serves both, so that together they are ``accuracy``; without images, one is left out.

    Source: Vaze et al. 2022 (generalized category discovery); their code's "v2".
    """
    class_C = hungarian_map(counts_CY)
    used = np.flatnonzero(class_C >= 0)
    right_Y = np.bincount(class_C[used], weights=counts_CY[used, class_C[used]], minlength=counts_CY.shape[1])
    is_known_Y = np.isin(np.arange(counts_CY.shape[1]), known)
    parts = {"acc_old": is_known_Y, "acc_new": ~is_known_Y}
    sizes_Y = counts_CY.sum(axis=0)
    return {
        name: float(right_Y[part].sum() / sizes_Y[part].sum()) for name, part in parts.items() if sizes_Y[part].any()
    }


def majority_accuracy(counts_CY: Counts) -> float:
    """Share of images that belong to their cluster's largest class, in [0, 1]. It grows with the number of clusters."""
    return float(counts_CY.max(axis=1).sum() / counts_CY.sum())


def merged(counts_CY: Counts) -> Counts:
    """The counts after each cluster was merged into its largest class (the smallest of equal ones): shape (Y, Y).

    Where clusters outnumber classes, this is how SCAN's authors judge over-clustering: ACC, NMI and ARI are taken of
    the classes that the clusters stand for. ARI of a perfect clustering is then 1, and below it without merging.
    """
    class_C = counts_CY.argmax(axis=1)
    merged_YY = np.zeros((counts_CY.shape[1],) * 2, dtype=counts_CY.dtype)
    np.add.at(merged_YY, class_C, counts_CY)
    return merged_YY


def nmi(counts_CY: Counts, average: Literal["arithmetic", "geometric"] = "arithmetic") -> float:
    """Normalized mutual information, in [0, 1]: I / mean(H(clusters), H(classes)).

    1 where clusters and classes are both a single one; 0 where only one of them is.
    """
    joint_CY = counts_CY / counts_CY.sum()
    cluster_C, class_Y = joint_CY.sum(axis=1), joint_CY.sum(axis=0)
    cluster_nats, class_nats = _entropy(cluster_C), _entropy(class_Y)
    if cluster_nats == 0.0 or class_nats == 0.0:
        return float(cluster_nats == class_nats)
    rows, columns = np.nonzero(joint_CY)
    joint = joint_CY[rows, columns]
    mutual_nats = float((joint * np.log(joint / (cluster_C[rows] * class_Y[columns]))).sum())
    arithmetic = average == "arithmetic"
    scale = (cluster_nats + class_nats) / 2 if arithmetic else math.sqrt(cluster_nats * class_nats)
    return min(1.0, max(0.0, mutual_nats / scale))


def assignment_nmi(before_N: Labels, after_N: Labels) -> float:
    """NMI of two clusterings of the same images, in [0, 1]; only the pairs that occur take memory.

    DeepCluster's measure of how much the clusters move from one epoch to the next (section 4.1); it needs no labels.
    """
    pairs_N = before_N.astype(np.int64) * (int(after_N.max()) + 1) + after_N
    entropies = []
    for values_N in (before_N, after_N, pairs_N):
        share = np.unique(values_N, return_counts=True)[1] / len(values_N)
        entropies.append(_entropy(share))
    before_nats, after_nats, joint_nats = entropies
    if before_nats == 0.0 or after_nats == 0.0:
        return float(before_nats == after_nats)
    return min(1.0, max(0.0, 2 * (before_nats + after_nats - joint_nats) / (before_nats + after_nats)))


def ari(counts_CY: Counts) -> float:
    """Adjusted Rand index, 0 by chance and 1 at best. 1 where both partitions are trivial in the same way.

    Source: Hubert and Arabie, 1985.
    """
    pairs, pairs_cluster = _num_pairs(counts_CY), _num_pairs(counts_CY.sum(axis=1))
    pairs_class, pairs_all = _num_pairs(counts_CY.sum(axis=0)), _num_pairs(counts_CY.sum())
    if pairs_cluster == pairs_class == pairs:
        return 1.0
    expected = pairs_cluster * pairs_class / pairs_all
    return (pairs - expected) / ((pairs_cluster + pairs_class) / 2 - expected)


def top5(probabilities_NC: Tensor, labels_N: Tensor, class_C: ArrayLike) -> float | None:
    """Share of labeled images with their class among those of their five most probable clusters (ties by index).

    Args:
        class_C: the class of each cluster, from ``hungarian_map``; a cluster with -1 matches nothing.

    None where there are fewer than five clusters; at least one image must be labeled.
    """
    if probabilities_NC.shape[1] < 5:
        return None
    known_N = labels_N >= 0
    if not bool(known_N.all()):
        probabilities_NC, labels_N = probabilities_NC[known_N], labels_N[known_N]
    class_C = np.asarray(class_C)
    cluster_Y = np.full(max(int(class_C.max()), int(labels_N.max())) + 1, -1)
    cluster_Y[class_C[class_C >= 0]] = np.flatnonzero(class_C >= 0)
    own_N1 = torch.from_numpy(cluster_Y).to(labels_N.device)[labels_N][:, None]
    # Counting the clusters ahead is several times faster than sorting them.
    share_N1 = probabilities_NC.gather(1, own_N1.clamp(min=0))
    earlier_NC = torch.arange(probabilities_NC.shape[1], device=own_N1.device) < own_N1
    ahead_N = ((probabilities_NC > share_N1) | ((probabilities_NC == share_N1) & earlier_NC)).sum(dim=1)
    return float(((ahead_N < 5) & (own_N1[:, 0] >= 0)).double().mean())


def confident_count(probabilities_NC: Tensor, threshold: float) -> int:
    """How many images have a largest probability above the threshold (strictly)."""
    return int((probabilities_NC.amax(dim=1) > threshold).sum())


def confident_fraction(probabilities_NC: Tensor, threshold: float) -> float:
    """``confident_count`` as a share of the images, in [0, 1]."""
    return confident_count(probabilities_NC, threshold) / len(probabilities_NC)


def confidence_curve(
    probabilities_NC: Tensor, labels_N: Tensor, thresholds: Sequence[float], *, num_classes: int
) -> list[tuple[float, float]]:
    """For each threshold the share of images that are surer, and the accuracy among those of them with a label.

    One map of clusters to classes serves all thresholds, see ``accuracies_within``. The accuracy is NaN where no such
    image is left. Source: SPC, figure 1.
    """
    confidence_N, predicted_N = probabilities_NC.max(dim=1)
    surer = {f"{threshold}": (confidence_N > threshold).numpy() for threshold in thresholds}
    sizes = (probabilities_NC.shape[1], num_classes)
    right = accuracies_within(predicted_N.numpy(), labels_N.numpy(), surer, *sizes)
    return [(float(surer_N.mean()), right.get(name, math.nan)) for name, surer_N in surer.items()]


def cluster_sizes(predicted_N: Labels, num_clusters: int) -> dict[str, float]:
    """How evenly clusters are used, without labels.

    cluster_share_min, cluster_share_max: share of the images in the smallest and the largest cluster.
    num_empty_clusters: a count. cluster_entropy: of the shares over log C, in [0, 1]; 1 where C is 1.
    """
    share_C = np.bincount(predicted_N, minlength=num_clusters) / len(predicted_N)
    return {
        "cluster_share_min": float(share_C.min()),
        "cluster_share_max": float(share_C.max()),
        "num_empty_clusters": float((share_C == 0).sum()),
        "cluster_entropy": _entropy(share_C) / math.log(num_clusters) if num_clusters > 1 else 1.0,
    }


def neighbor_purity(neighbors_NK: Labels, labels_N: Labels) -> float:
    """Share of mined neighbors with the image's own label, in [0, 1].

    Args:
        neighbors_NK: column 0 is the image itself and does not count; columns 1 to k give the purity at k.

    Pairs without both labels are left out; NaN where none is left.
    """
    own_N1, theirs_NK = labels_N[:, None], labels_N[neighbors_NK[:, 1:]]
    known_NK = (own_N1 >= 0) & (theirs_NK >= 0)
    return float((own_N1 == theirs_NK)[known_NK].mean()) if known_NK.any() else math.nan


def knn_accuracy(
    similarities_MK: NDArray[np.floating[Any]],
    neighbor_labels_MK: Labels,
    labels_M: Labels,
    *,
    temperature: float,
) -> float:
    """Accuracy of a vote among labeled neighbors, each weighing exp(similarity / temperature).

    Args:
        neighbor_labels_MK: labels of each query's neighbors, without the query itself; one without a label has no vote.

    Returns:
        Share of the labeled queries whose heaviest class is right; the smallest class wins a tie, and a query none of
        whose neighbors has a label is wrong. NaN where no query or no neighbor has a label.

    Source: the monitor of InstDisc, MoCo and SCAN's pretext tasks.
    """
    known_M = labels_M >= 0
    if not known_M.any() or not (neighbor_labels_MK >= 0).any():
        return math.nan
    num_classes = int(max(neighbor_labels_MK.max(), labels_M.max())) + 1
    # Only the ratio of two votes counts, and the largest weight of a row must not overflow.
    scaled_MK = (similarities_MK - similarities_MK.max(axis=1, keepdims=True)) / temperature
    weights_MK = np.where(neighbor_labels_MK >= 0, np.exp(scaled_MK.astype(np.float64)), 0.0)
    cells_MK = np.arange(len(labels_M))[:, None] * num_classes + np.maximum(neighbor_labels_MK, 0)
    votes = np.bincount(cells_MK.ravel(), weights_MK.ravel(), minlength=len(labels_M) * num_classes)
    votes_MY = votes.reshape(-1, num_classes)
    right_M = (votes_MY.argmax(axis=1) == labels_M) & votes_MY.any(axis=1)
    return float(right_M[known_M].mean())


def bcubed(linked_NN: NDArray[np.bool_], labels_N: Labels) -> dict[str, float]:
    """BCubed precision, recall and F of a graph that links images said to be alike; each image links to itself.

    Args:
        linked_NN: symmetric or not; the diagonal counts as set. All pairs at once: about 1,000 images, not 60,000.

    Source: DCCM's evaluation of its pseudo-graph; the links need not be transitive.
    """
    linked_NN = linked_NN | np.eye(len(labels_N), dtype=bool)
    alike_NN = labels_N[:, None] == labels_N[None, :]
    right_N = (linked_NN & alike_NN).sum(axis=1)
    precision = float((right_N / linked_NN.sum(axis=1)).mean())
    recall = float((right_N / alike_NN.sum(axis=1)).mean())
    f = 2 * precision * recall / (precision + recall)
    return {"bcubed_precision": precision, "bcubed_recall": recall, "bcubed_f": f}


BCUBED_BLOCK = 1000


def bcubed_of_predictions(
    probabilities_NC: Tensor, labels_N: Tensor, link: Callable[[Tensor], Tensor], order_N: Tensor
) -> dict[str, float]:
    """``bcubed`` of the graph among predictions, averaged over blocks of about 1,000 images.

    Args:
        labels_N: -1 where unknown; such images are left out, and without any label nothing comes back.
        link: rows of a block to bool (block, block).
        order_N: int64, a fixed order of the images from which blocks are cut.
    """
    known_N = order_N[labels_N[order_N] >= 0]
    if not len(known_N):
        return {}
    blocks = known_N.tensor_split(max(1, len(known_N) // BCUBED_BLOCK))
    found = [bcubed(link(probabilities_NC[rows]).numpy(), labels_N[rows].numpy()) for rows in blocks]
    precision, recall = (
        sum(each[name] for each in found) / len(found) for name in ("bcubed_precision", "bcubed_recall")
    )
    f = 2 * precision * recall / (precision + recall)
    return {"bcubed_precision": precision, "bcubed_recall": recall, "bcubed_f": f}


def evaluate_labels(predicted_N: Labels, labels_N: Labels, num_clusters: int, num_classes: int) -> dict[str, float]:
    """What hard assignments alone allow: acc, nmi, ari, and the cluster sizes.

    Where clusters outnumber classes also acc_majority, nmi_majority and ari_majority, of the clusters ``merged`` into
    classes: there acc leaves whole clusters without a class, and compares with no clustering of fewer clusters.
    Without a single labeled image only the cluster sizes come back.

    Raises:
        ValueError: no images, or as ``contingency``.
    """
    if not len(predicted_N):
        raise ValueError("there are no images to evaluate.")
    counts_CY = contingency(predicted_N, labels_N, num_clusters, num_classes)
    metrics: dict[str, float] = {}
    if counts_CY.any():
        metrics["acc"] = accuracy(counts_CY)
        metrics |= {"nmi": nmi(counts_CY), "ari": ari(counts_CY)}
        if num_clusters > num_classes:
            merged_YY = merged(counts_CY)
            metrics["acc_majority"] = majority_accuracy(counts_CY)
            metrics |= {"nmi_majority": nmi(merged_YY), "ari_majority": ari(merged_YY)}
    return metrics | cluster_sizes(predicted_N, num_clusters)


def evaluate(
    probabilities_NC: Tensor,
    labels_N: Tensor,
    confidence_threshold: float = CONFIDENCE,
    *,
    num_classes: int | None = None,
) -> dict[str, float]:
    """Everything an epoch reports about a soft clustering; names are those of EVALUATION_METRICS.

    Args:
        probabilities_NC: rows are probabilities, on any device.
        labels_N: integers, -1 where unknown; such images count in the label-free metrics only.
        confidence_threshold: of confident_fraction, the share of images above it.
        num_classes: Y; None reads it off the labels.

    Returns:
        As ``evaluate_labels``, with confident_fraction and the shares above CONFIDENCES; with top5 where there are
        labels and at least five clusters.

    Raises:
        ValueError: no images, a NaN among the probabilities, or as ``contingency``.
    """
    if not len(probabilities_NC):
        raise ValueError("there are no images to evaluate.")
    confidence_N, predicted_N = probabilities_NC.max(dim=1)
    if bool(confidence_N.isnan().any()):
        row = int(confidence_N.isnan().nonzero()[0])
        raise ValueError(f"probabilities must be numbers, but row {row} holds a NaN; the model has diverged.")
    labels_N = labels_N.to(probabilities_NC.device)
    host_labels_N = labels_N.cpu().numpy()
    num_clusters = probabilities_NC.shape[1]
    num_classes = num_classes or max(1, int(host_labels_N.max()) + 1)
    metrics = evaluate_labels(predicted_N.cpu().numpy(), host_labels_N, num_clusters, num_classes)
    if "acc" in metrics:
        counts_CY = contingency(predicted_N.cpu().numpy(), host_labels_N, num_clusters, num_classes)
        share = top5(probabilities_NC, labels_N, hungarian_map(counts_CY))
        metrics |= {} if share is None else {"top5": share}
    metrics["confident_fraction"] = float((confidence_N > confidence_threshold).double().mean())
    for threshold in CONFIDENCES:
        metrics[f"confident_{100 * threshold:.0f}"] = float((confidence_N > threshold).double().mean())
    return _in_order(metrics)


def prototypes(
    probabilities_NC: Tensor, features_of: Callable[[Tensor], Tensor], *, candidates: int = 10
) -> NDArray[np.int64]:
    """The image that stands for each cluster: of its surest ones, the nearest (L2) to their mean feature.

    Args:
        probabilities_NC: rows are probabilities, on the CPU.
        features_of: rows of images to their (rows, D) features; called once, with the candidates of all clusters.
        candidates: surest images of a cluster that are looked at; a smaller cluster has fewer.

    Returns:
        (C,) rows, -1 for a cluster without images.

    Source: SCAN, section 3.5. Differs from its code: images of other clusters never fill up the candidates.
    """
    confidence_N, cluster_N = probabilities_NC.max(dim=1)
    order_N = torch.sort(confidence_N, descending=True, stable=True).indices
    order_N = order_N[torch.sort(cluster_N[order_N], stable=True).indices]
    members = torch.split(order_N, torch.bincount(cluster_N, minlength=probabilities_NC.shape[1]).tolist())
    surest = [rows[:candidates] for rows in members]
    features = torch.split(features_of(torch.cat(surest)).double(), [len(rows) for rows in surest])
    found = np.full(len(surest), -1, dtype=np.int64)
    for cluster, (rows, features_KD) in enumerate(zip(surest, features, strict=True)):
        if len(rows):
            found[cluster] = int(rows[(features_KD - features_KD.mean(dim=0)).square().sum(dim=1).argmin()])
    return found


def _in_order(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: metrics[name] for name in EVALUATION_METRICS if name in metrics}


def _entropy(share: NDArray[np.float64]) -> float:
    """In nats, with 0 log 0 = 0; exactly 0 where one share holds everything."""
    present = share[share > 0]
    return float(-(present * np.log(present)).sum()) if len(present) > 1 else 0.0


def _num_pairs(counts: Any) -> float:
    counts = np.asarray(counts, dtype=np.float64)
    return float((counts * (counts - 1) / 2).sum())
