"""What the clustering stages share: a model read from a stage result, evaluated, and turned into one again.

Axes: N images, H heads, C clusters.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import settings
from ..interfaces import DataShape, ImageData, Result, Split, State
from ..maths import metrics, scan_loss
from ..nets import backbones, models


def fresh(network: str, shape: DataShape, num_clusters: int, num_heads: int, seed: int) -> models.ClusteringModel:
    """An untrained model for images of this shape."""
    backbone = backbones.build(network, in_channels=shape.num_channels, image_size_px=shape.image_size_px, seed=seed)
    return models.ClusteringModel(backbone, num_clusters, num_heads)


def restored(start: Result, shape: DataShape, seed: int) -> models.ClusteringModel:
    """The one-headed model that a clustering stage left behind."""
    model = fresh(start.facts["network"], shape, start.facts["num_clusters"], 1, seed)
    model.backbone.load_state_dict(start.weights["backbone"])
    model.heads[0].load_state_dict(start.weights["head"])
    return model


def classifier(result: Result, data: ImageData) -> models.ClusterClassifier:
    """The model of a stage that left a backbone, one linear head and the facts network and num_clusters."""
    model = restored(result, data.shape, seed=0)
    return models.ClusterClassifier(model.backbone, model.heads[0], data.mean, data.std)


def features(result: Result, data: ImageData) -> Callable[[Tensor], Tensor]:
    """Gives the backbone's features (P, D), on the CPU, of some rows of the evaluation split (int64).

    Of a result as ``classifier`` takes it; the model is built at the first call.
    """

    def of_rows(rows_P: Tensor) -> Tensor:
        images_NCHW = data.eval.images_NCHW
        picked_NCHW = images_NCHW[rows_P.to(images_NCHW.device)]
        return models.predict(classifier(result, data).backbone, picked_NCHW, data.mean, data.std).cpu()

    return of_rows


def parts(model: models.ClusteringModel, head: int = 0) -> dict[str, State]:
    """Weights as ``restored`` takes them."""
    return {"backbone": model.backbone.state_dict(), "head": model.heads[head].state_dict()}


def probabilities(model: models.ClusteringModel, split: Split, data: ImageData) -> Tensor:
    """(H, N, C) float32 on the CPU, of the images as they are.

    Raises:
        FloatingPointError: the model has diverged.
    """
    return finite(models.predict(model, split.images_NCHW, data.mean, data.std, what="probabilities").cpu())


def finite(rows_HNC: Tensor) -> Tensor:
    """The same predictions.

    Raises:
        FloatingPointError: the model has diverged.
    """
    if not bool(rows_HNC.isfinite().all()):
        raise FloatingPointError("the model's predictions are not finite numbers")
    return rows_HNC


def of_both_splits(model: models.ClusteringModel, data: ImageData, head: int = 0) -> dict[str, NDArray[Any]]:
    """Arrays probabilities_train and probabilities_eval (N, C) of one head, as every clustering stage stores them."""
    train_NC = probabilities(model, data.train, data)[head].numpy()
    eval_NC = train_NC if data.is_union else probabilities(model, data.eval, data)[head].numpy()
    return {"probabilities_train": train_NC, "probabilities_eval": eval_NC}


def evaluate(
    eval_NC: Tensor | NDArray[np.float32], data: ImageData, confidence_threshold: float = metrics.CONFIDENCE
) -> dict[str, float]:
    """The metrics of ``metrics.evaluate`` on the evaluation split."""
    return metrics.evaluate(
        torch.as_tensor(eval_NC), data.eval.labels_N.cpu(), confidence_threshold, num_classes=len(data.class_names)
    )


def selection_split_setting() -> Any:
    """The field ``selection_split`` of every stage whose criterion can be taken of either split."""
    return settings.setting(
        "train",
        "images that choose epochs, heads and settings, without labels: the training ones, so that what is judged stays"
        " unseen, or the evaluation ones, as SCAN's code has it",
        choices=("train", "eval"),
    )


def selection_loss(
    probabilities_NC: Tensor, neighbors: Result, selection_split: str, entropy_weight: float = 1.0
) -> float:
    """``scan_loss.selection_loss`` on as many mined neighbors in each split: the pretext's, so it has one scale.

    Args:
        probabilities_NC: of the images of ``selection_split``, on the CPU.
        neighbors: result of the stage of that name.
        selection_split: "train" or "eval".
    """
    num_columns = neighbors.arrays["neighbors_eval"].shape[1]
    table_NK = torch.tensor(neighbors.arrays[f"neighbors_{selection_split}"][:, :num_columns])
    return float(scan_loss.selection_loss(probabilities_NC, table_NK, entropy_weight=entropy_weight))


def closeness(points_ND: NDArray[np.float32], centroids_CD: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, C) softmax of the negative squared distances, which ranks images by how clearly they belong to a cluster."""
    squared_NC = (
        (points_ND**2).sum(1, keepdims=True) - 2 * points_ND @ centroids_CD.T + (centroids_CD**2).sum(1)[None, :]
    )
    logits_NC = -squared_NC
    exp_NC = np.exp(logits_NC - logits_NC.max(1, keepdims=True))
    shares_NC: NDArray[np.float32] = (exp_NC / exp_NC.sum(1, keepdims=True)).astype(np.float32)
    return shares_NC


def limits_on_size(config: Any, shape: DataShape, names: tuple[str, ...]) -> list[tuple[str, str]]:
    """A sentence for each named setting that is above the number of training images."""
    values: Mapping[str, int] = {name: getattr(config, name) for name in names}
    return [
        (name, f"{name} must be at most the number of training images ({shape.num_train}), but is {value}")
        for name, value in values.items()
        if value > shape.num_train
    ]
