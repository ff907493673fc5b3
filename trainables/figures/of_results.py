"""Families of figures that a stage chooses from for its ``figures``, each figure with its caption and drawn when asked.

Axes: N images, P of them that are drawn, C clusters, D feature width, K neighbors.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..interfaces import CaptionedFigure, ImageData, Result
from ..maths import metrics
from . import alternating_normalization, clusters, correlation, embedding, pseudolabels
from . import neighbors as neighbor_sheets

Figures = dict[str, CaptionedFigure]
History = Sequence[Mapping[str, float]]
Features = Callable[[Tensor], Tensor]
"""Rows of the evaluation split (int64) to their features (P, D) float32."""


def kept(result: Result, array: str) -> Features:
    """Features that the stage left, by the name of their array."""
    return lambda rows_P: torch.tensor(np.asarray(result.arrays[array])[rows_P.numpy()], dtype=torch.float32)


def clustering(result: Result, data: ImageData, history: History, features: Features | None = None) -> Figures:
    """Of the array probabilities_eval (N, C): sheets of images where there are images, sizes, and against classes.

    features: of the model that was clustered, for the prototype of each cluster; None draws none.
    """
    rows_NC, names = torch.tensor(np.asarray(result.arrays["probabilities_eval"])), data.class_names
    images, labels_N = data.eval.images_NCHW, data.eval.labels_N.cpu()
    found: Figures = {}
    if not data.shape.is_features:
        found["clusters"] = CaptionedFigure(
            "The most confident images of each cluster, one row per cluster",
            lambda: clusters.cluster_sheet(images, rows_NC),
        )
        found["least_confident"] = CaptionedFigure(
            "The least confident images, with probability, cluster and true class",
            lambda: clusters.least_confident(images, rows_NC, labels_N, names),
        )
        if features is not None:
            found["prototypes"] = CaptionedFigure(
                "The image that stands for each cluster: the nearest to the mean of its most confident ones",
                lambda: neighbor_sheets.prototypes(images, metrics.prototypes(rows_NC, features)),
            )
    found |= _confusion("confusion", "Which clusters the images of each class went to", rows_NC, data)
    if any("acc" in row for row in history):
        found["epochs"] = CaptionedFigure(
            "Accuracy and the share of confident images over the epochs", lambda: clusters.epochs(history)
        )
    found["cluster_sizes"] = CaptionedFigure(
        "How many images each cluster has", lambda: neighbor_sheets.cluster_sizes(rows_NC)
    )
    return found


def _confusion(name: str, caption: str, rows_NC: Tensor, data: ImageData) -> Figures:
    labels_N, names = data.eval.labels_N.cpu().numpy(), data.class_names
    counts_CY = metrics.contingency(rows_NC.argmax(1).numpy(), labels_N, rows_NC.shape[1], len(names))
    if not counts_CY.any():
        return {}
    return {name: CaptionedFigure(caption, lambda: clusters.confusion(counts_CY, names, data.class_groups))}


def refinement(result: Result, data: ImageData, features: Features | None = None) -> Figures:
    """Of the array refined_eval: against classes, and among the features before and after; empty without it."""
    if "refined_eval" not in result.arrays:
        return {}
    refined_NC = torch.tensor(np.asarray(result.arrays["refined_eval"]))
    found = _confusion("confusion_refined", "The same after unsure assignments were refined", refined_NC, data)
    if features is None:
        return found
    before_N = np.asarray(result.arrays["probabilities_eval"]).argmax(1)
    rows_P = embedding.sampled(len(before_N))
    pair = before_N[rows_P], refined_NC.argmax(1).numpy()[rows_P]

    @cache
    def points_PD() -> NDArray[np.float32]:
        return embedding.unit(features(torch.from_numpy(rows_P)).numpy())

    caption = "The features in two dimensions ({}), colored by cluster before and after refinement"
    found["refined_pca"] = CaptionedFigure(
        caption.format("PCA"), lambda: alternating_normalization.by_pca(points_PD(), *pair)
    )
    found["refined_tsne"] = CaptionedFigure(
        caption.format("t-SNE"), lambda: alternating_normalization.by_tsne(points_PD(), *pair)
    )
    return found


CONFIDENCES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)


def confidence(result: Result, data: ImageData) -> Figures:
    """Of the array probabilities_train (N, C): how many labels a threshold would give, and how many were right."""
    labels_N = data.train.labels_N.cpu()
    if not bool((labels_N >= 0).any()):
        return {}
    rows_NC = torch.tensor(np.asarray(result.arrays["probabilities_train"]))
    points = metrics.confidence_curve(rows_NC, labels_N, CONFIDENCES, num_classes=len(data.class_names))
    caption = "Training images above each confidence, and how many of them are right (by labels)"
    return {"confidence": CaptionedFigure(caption, lambda: clusters.confidence_curve(CONFIDENCES, points))}


def neighbors(result: Result, data: ImageData) -> Figures:
    """Of the array neighbors_train (N, K + 1)."""
    if data.shape.is_features:
        return {}
    draw = partial(
        neighbor_sheets.neighbors,
        data.train.images_NCHW,
        np.array(result.arrays["neighbors_train"]),
        data.train.labels_N.cpu().numpy(),
    )
    return {
        "neighbors": CaptionedFigure("Images with their nearest neighbors; those of another class are framed", draw)
    }


def pseudo_labels(result: Result, data: ImageData, history: History) -> Figures:
    """Of the arrays weights and pseudo_labels (N,), where weights differ, and of the metric assignment_nmi."""
    found: Figures = {}
    weights_N, labels_N = np.array(result.arrays["weights"]), np.array(result.arrays["pseudo_labels"])
    if weights_N.std() > 0:
        found["weights_by_cluster"] = CaptionedFigure(
            "How the weights of the images spread within each cluster",
            lambda: pseudolabels.weights_by_cluster(weights_N, labels_N),
        )
        found["trusted_and_not"] = CaptionedFigure(
            "The most and the least trusted images of each cluster, one row per cluster",
            lambda: pseudolabels.trusted_and_not(data.train.images_NCHW, weights_N, labels_N),
        )
    if any("assignment_nmi" in row for row in history):
        found["assignment_nmi"] = CaptionedFigure(
            "Agreement of the pseudo-labels with those of the epoch before, and with the classes",
            lambda: pseudolabels.agreement(history),
        )
    return found


def layers(result: Result) -> Figures:
    """Of a probe's facts["layers"] and its metrics ``<layer>_acc`` and ``<layer>_train_acc``."""
    caption = "What a probe of the frozen network got right from each layer"
    return {"accuracy_by_layer": CaptionedFigure(caption, lambda: pseudolabels.accuracy_by_layer(result))}


def features_by_class(result: Result, data: ImageData) -> Figures:
    """Of the array features_eval (N, D), the images with a label; empty where there is none."""
    features_ND, labels_N = np.asarray(result.arrays["features_eval"]), data.eval.labels_N.cpu().numpy()
    known_N = labels_N >= 0
    if not known_N.any():
        return {}
    if not known_N.all():
        features_ND, labels_N = features_ND[known_N], labels_N[known_N]
    caption = "The features in two dimensions (t-SNE), colored by class"
    return {"features": CaptionedFigure(caption, lambda: correlation.embedding(features_ND, labels_N))}


def pseudo_graph(result: Result, history: History) -> Figures:
    """Of the arrays confidence_untrained and confidence_last (N,) and the metrics bcubed_precision, bcubed_recall."""
    found: Figures = {
        "confidence": CaptionedFigure(
            "How sure the network was of each image before training and after the last epoch",
            lambda: correlation.confidence(result.arrays["confidence_untrained"], result.arrays["confidence_last"]),
        )
    }
    if any("bcubed_precision" in row for row in history):
        found["pseudo_graph"] = CaptionedFigure(
            "Precision and recall of the pseudo-graph over the epochs, by labels",
            lambda: correlation.pseudo_graph(history),
        )
    return found
