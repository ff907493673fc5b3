"""What the pretexts share: common settings, the views of a batch, and the result that later stages read.

Axes: N images, B batch, C channels, H height, W width, D feature width, K neighbors.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data import augment, splits, view_batches
from ..data.batch_random import BatchRandom
from ..interfaces import Batch, DataShape, ImageData, Result, Runtime, Split
from ..maths import contrastive, metrics
from ..nets import backbones, models
from .optimizers import SgdConfig
from .views import ViewsConfig

METRICS = ("loss", "lr", "epoch_seconds", "knn_acc", "alignment")
"""Of every pretext that trains on views."""
MONITOR_NEIGHBORS = 100
"""SCAN's monitor votes among this many neighbors."""
ALIGNED_IMAGES = 2048
"""Evaluation images, at most, of which ``alignment`` sees a view."""


class ViewedConfig(Protocol):
    """Settings of batches and views, which everything that trains on views has; the optimizer may be any."""

    @property
    def batch_size(self) -> int: ...

    @property
    def augmentation(self) -> str: ...

    @property
    def views(self) -> ViewsConfig: ...


class _Sized(Protocol):
    """Settings that a data set's size and shape can forbid."""

    @property
    def network(self) -> str: ...

    @property
    def batch_size(self) -> int: ...


class Contrastive(Protocol):
    """Settings of a projection head."""

    @property
    def feature_dim(self) -> int: ...

    @property
    def head(self) -> models.Head: ...


def limits(config: _Sized, shape: DataShape) -> Iterator[tuple[str, str]]:
    """What the data set's size forbids any pretext."""
    if config.batch_size > shape.num_train:
        yield "batch_size", f"batch_size is {config.batch_size}, but the data set trains on {shape.num_train} images"
    try:
        backbones.check_size(backbones.resolve(config.network, shape), shape.image_size_px)
    except ValueError as error:
        yield "network", str(error)


def backbone(network: str, shape: DataShape, seed: int, *, sobel: bool = False) -> backbones.Backbone:
    """A fresh backbone for images of this shape."""
    return backbones.build(
        network, in_channels=shape.num_channels, image_size_px=shape.image_size_px, seed=seed, sobel=sobel
    )


def contrastive_model(config: Contrastive, network: str, data: ImageData, runtime: Runtime) -> models.ContrastiveModel:
    """An untrained backbone and projection head, on the device."""
    untrained = backbone(network, data.shape, runtime.seed)
    return models.ContrastiveModel(untrained, config.feature_dim, config.head).to(runtime.device)


def sgd(config: SgdConfig, model: nn.Module, *, nesterov: bool = False) -> torch.optim.SGD:
    """SGD over every parameter."""
    return torch.optim.SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=nesterov and config.momentum > 0,
        fused=True,
    )


@dataclass(frozen=True)
class Source:
    """Where views come from. images: of a pretext ``data.pretext``, put together once and not in every epoch."""

    config: ViewedConfig
    data: ImageData
    images: Split
    runtime: Runtime

    def batches(self, epoch: int, num_views: int) -> Iterator[tuple[Batch, list[Tensor]]]:
        """(batch, ``num_views`` views (B, C, H, W) of this rank's images) for each full batch of an epoch."""
        config, runtime = self.config, self.runtime
        norm, strength = augment.Norm(self.data.mean, self.data.std), config.views.strength()
        view = partial(augment.AUGMENTATIONS[config.augmentation], norm=norm, strength=strength)
        order, views = runtime.batches(self.images, config.batch_size, epoch), runtime.generator("views", epoch)
        at_once = config.augmentation in augment.DRAWN_AT_ONCE
        for batch, step in view_batches.of_batches(
            order, self.images.images_NCHW, view, views, times=num_views, at_once=at_once
        ):
            yield batch, step.views


def mean_over_ranks(sums: Tensor, steps: int, runtime: Runtime) -> list[float]:
    """Means over an epoch and over the ranks, whose shares of a batch are equally large."""
    means: list[float] = (runtime.gather(sums.unsqueeze(0)).mean(dim=0) / steps).tolist()
    return means


def features(
    model: nn.Module, data: ImageData, spaces: Mapping[str, models.What], *, keeps_lengths: bool = False
) -> dict[str, NDArray[Any]]:
    """Arrays "<space>_train" and "<space>_eval", float32 rows of length one; spaces: name -> what ``predict`` gives.

    keeps_lengths: with arrays "lengths_train" and "lengths_eval", (N,), from which ``raw_features`` gets the backbone's
    rows as they were.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for part, split in (("train", data.train), ("eval", data.eval)):
        if part == "eval" and data.is_union:
            arrays |= {key.replace("_train", "_eval"): rows for key, rows in arrays.items()}
            break
        for space, what in spaces.items():
            rows_ND = models.predict(model, split.images_NCHW, data.mean, data.std, what=what)
            arrays[f"{space}_{part}"] = nn.functional.normalize(rows_ND).cpu().numpy()
            if keeps_lengths and what == "features":
                arrays[f"lengths_{part}"] = rows_ND.norm(dim=1).cpu().numpy()
    return arrays


def raw_features(result: Result, part: str, device: torch.device) -> Tensor | None:
    """The backbone's features (N, D) of a split as a pretext stored them; None where it kept no lengths.

    part: "train" or "eval".
    """
    if f"lengths_{part}" not in result.arrays:
        return None
    unit_ND, lengths_N = (torch.tensor(result.arrays[f"{name}_{part}"]) for name in ("backbone", "lengths"))
    return (unit_ND * lengths_N[:, None]).to(device)


def alignment(
    model: nn.Module, arrays: Mapping[str, NDArray[Any]], space: str, data: ImageData, runtime: Runtime
) -> float:
    """Mean squared distance between the features of an image and of a view of it, both of length one; in [0, 4].

    The invariance that neighbors are mined for (SCAN, Eq. 1). It is 0 as well where all images have one feature. Views
    are SimCLR's at its published strength, of gray images affine ones, whatever the training's were: on one data set
    pretexts compare.

    Args:
        model: as ``features`` takes it.
        arrays: what ``features`` made of it, with "<space>_eval". At most ALIGNED_IMAGES of its rows count.
        space: "head" or "backbone".
    """
    generator, num = runtime.generator("alignment"), min(len(data.eval), ALIGNED_IMAGES)
    rows_N = torch.randperm(len(data.eval), generator=generator, device=runtime.device)[:num].sort().values
    drawn = augment.AUGMENTATIONS["affine" if data.shape.num_channels == 1 else "simclr"]
    views_ND = models.predict(
        model,
        splits.picked(data.eval, rows_N).images_NCHW,
        data.mean,
        data.std,
        what="embeddings" if space == "head" else "features",
        view=lambda images_BCHW, norm: drawn(images_BCHW, BatchRandom(generator, len(images_BCHW)), norm),
    )
    plain_ND = torch.tensor(arrays[f"{space}_eval"][rows_N.cpu().numpy()], device=views_ND.device)
    return float(contrastive.alignment(plain_ND, nn.functional.normalize(views_ND)))


def monitor(
    arrays: Mapping[str, NDArray[Any]], space: str, temperature: float, data: ImageData, runtime: Runtime
) -> dict[str, float]:
    """knn_acc: evaluation images whose nearest training images vote for the right class; empty where labels lack.

    It looks at labels, to be read by people and not to choose by.
    """
    labels_N, labels_M = data.train.labels_N.cpu().numpy(), data.eval.labels_N.cpu().numpy()
    k = min(MONITOR_NEIGHBORS, len(labels_N) - data.is_union)
    if k < 1 or (labels_N < 0).all() or (labels_M < 0).all():  # the search is not worth its time
        return {}
    base_ND = np.ascontiguousarray(arrays[f"{space}_train"], dtype=np.float32)
    if data.is_union:
        near_MK, rows_MK = runtime.search.knn(base_ND, None, k + 1, "inner_product")
        near_MK, rows_MK = near_MK[:, 1:], rows_MK[:, 1:]
    else:
        queries_MD = np.ascontiguousarray(arrays[f"{space}_eval"], dtype=np.float32)
        near_MK, rows_MK = runtime.search.knn(base_ND, queries_MD, k, "inner_product")
    return {"knn_acc": metrics.knn_accuracy(near_MK, labels_N[rows_MK], labels_M, temperature=temperature)}


def finished(
    model: nn.Module, arrays: Mapping[str, NDArray[Any]], space: str, temperature: float, source: Source
) -> dict[str, float]:
    """The numbers of a trained pretext's features that its epochs do not have: ``monitor`` and ``alignment``.

    Args:
        model, arrays, space: as in ``alignment``.
        temperature: as in ``monitor``.
    """
    data, runtime = source.data, source.runtime
    moved = alignment(model, arrays, space, data, runtime)
    return {**monitor(arrays, space, temperature, data, runtime), "alignment": moved}


def result(
    model: models.ContrastiveModel,
    network: str,
    mining_space: str,
    last: Mapping[str, float],
    source: Source,
    *,
    temperature: float,
) -> Result:
    """What a contrastive pretext leaves behind: weights and features of backbone and head; last: its last metrics."""
    arrays = features(model, source.data, {"head": "embeddings", "backbone": "features"})
    judged = finished(model, arrays, mining_space, temperature, source)
    return Result(
        weights={"backbone": model.backbone.state_dict(), "head": model.head.state_dict()},
        arrays=arrays,
        facts={"network": network, "mining_space": mining_space},
        metrics={**last, **judged},
    )
