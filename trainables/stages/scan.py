"""SCAN clustering: an image and a mined neighbor shall fall into the same cluster, and all clusters shall be used.

Source: SCAN Eq. 2 and §3.1. The equation sums over all neighbors; like SCAN's code we draw one of K + 1 (the image
itself included) per image and epoch (``neighbor_sampling``). The kept epoch and head are those of the smallest
selection loss: the same two terms, entropy weight 1, on mined neighbors of the evaluation images, without labels.

Axes: N images, B batch, H heads, C clusters, K neighbors, M neighbors drawn per image.
"""

import copy
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import checks, clusterer, metrics
from ..contract import DataShape, Epoch, ImageData, Result, Runtime
from ..data import augment, stream
from ..data.draws import Draws
from ..maths import consistency
from ..nets import models

NAMESPACE = "scan"
INPUTS = ("pretext", "neighbors")
VERSION = 1
METRICS = (
    "loss",
    "consistency",
    "entropy",
    "selection_loss",
    "epoch_seconds",
    *metrics.EVALUATION_METRICS,
)
CRITERION = ("selection_loss", "min")


@dataclass(frozen=True, kw_only=True)
class Config:
    entropy_weight: float = checks.setting(5.0, "weight of the entropy of the mean prediction", low=0, symbol="λ")
    num_neighbors: int = checks.setting(
        20, "neighbors an image may be paired with; 0 pairs it with itself", low=0, unit="neighbors", symbol="K"
    )
    neighbor_sampling: str = checks.setting(
        "one_with_self",
        "neighbors met per image and epoch: one of K + 1 with the image itself, one of K, or all K",
        choices=("one_with_self", "one_without_self", "all"),
    )
    num_clusters: int = checks.setting(0, "clusters; 0 means as many as there are classes", low=0, symbol="C")
    num_heads: int = checks.setting(1, "linear heads trained side by side; the best is kept", low=1, high=100)
    update_head_only: bool = checks.setting(False, "freeze the backbone, its BN statistics included")
    epochs: int = checks.setting(100, "passes over the training images", low=1, unit="epochs")
    batch_size: int = checks.setting(128, "images in a step, over all workers", low=2, unit="images", symbol="B")
    optimizer: str = checks.setting("adam", "adam for small sets, sgd for ImageNet", choices=("adam", "sgd"))
    lr: float = checks.setting(1e-4, "learning rate, constant", above=0)
    momentum: float = checks.setting(0.9, "momentum of SGD", low=0, below=1, when={"optimizer": ("sgd",)})
    weight_decay: float = checks.setting(1e-4, "L2 penalty, on every parameter", low=0)
    augmentation: str = checks.setting(
        "scan_strong",
        "how anchors and neighbors are drawn",
        choices=("scan_strong", "simclr", "standard", "affine", "eval"),
    )
    num_strong_ops: int = checks.setting(
        4, "operations drawn of 14", low=1, high=14, when={"augmentation": ("scan_strong",)}
    )
    cutout_max_length: int = checks.setting(
        0, "longest side of the cut-out square; 0 takes it from the image size",
        low=0, unit="px", when={"augmentation": ("scan_strong",)},
    )  # fmt: skip
    affine_scale: float = checks.setting(
        1.0, "multiplies the ranges of the affine views", low=0, high=2, when={"augmentation": ("affine",)}
    )
    selection_split: str = checks.setting(
        "eval", "images whose neighbors select epoch and head", choices=("eval", "train")
    )
    selection_entropy_weight: float = checks.setting(1.0, "entropy weight of the selection loss", low=0)
    confidence_threshold: float = checks.setting(
        0.99, "a prediction above it is counted as confident; counts only", above=0, below=1
    )

    def __post_init__(self) -> None:
        checks.check(self)


def limits(config: Config, shape: DataShape) -> Iterator[tuple[str, str]]:
    yield from clusterer.limits_on_size(config, shape, ("num_clusters", "batch_size"))


@dataclass(frozen=True)
class _Setup:
    """What an epoch needs. model: the bare one; trained: the same, wrapped for several ranks."""

    config: Config
    data: ImageData
    neighbors: Result
    model: models.ClusteringModel
    trained: nn.Module
    optimizer: torch.optim.Optimizer
    runtime: Runtime


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Train backbone and heads; see the module's docstring.

    Returns:
        weights: backbone, head (the best one). arrays: probabilities_train, probabilities_eval (N, C), float32.
        facts: network, num_clusters, best_epoch, best_head.
    """
    setup = _set_up(config, data, inputs, runtime)
    best: dict[str, Any] = {"selection_loss": float("inf")}
    done, losses, saved = 0, {}, runtime.resume()
    if saved is not None:
        done, losses, best = saved["epoch"], dict(saved["losses"]), saved["best"]
        setup.model.load_state_dict(saved["model"])
        setup.optimizer.load_state_dict(saved["optimizer"])
    for epoch in range(done, config.epochs):
        started = time.perf_counter()
        losses = _epoch(setup, epoch)
        selection_H, eval_HNC = _selection(setup)
        head = int(selection_H.argmin())
        selection = float(selection_H[head])
        if selection < best["selection_loss"]:
            kept = copy.deepcopy(setup.model.state_dict())
            best = {"selection_loss": selection, "epoch": epoch + 1, "head": head, "model": kept}
        found = clusterer.judged(eval_HNC[head], data, config.confidence_threshold)
        found |= losses | {"selection_loss": selection, "epoch_seconds": time.perf_counter() - started}
        state = partial(_state, setup, {"epoch": epoch + 1, "losses": losses, "best": best})
        yield Epoch(epoch + 1, config.epochs, found, state)
    setup.model.load_state_dict(best["model"])
    arrays = clusterer.of_both_splits(setup.model, data, best["head"])
    found = clusterer.judged(arrays["probabilities_eval"], data, config.confidence_threshold)
    return Result(
        weights=clusterer.parts(setup.model, best["head"]),
        arrays=arrays,
        facts={
            "network": setup.model.backbone.name,
            "num_clusters": arrays["probabilities_eval"].shape[1],
            "best_epoch": best["epoch"],
            "best_head": best["head"],
        },
        metrics=found | losses | {"selection_loss": best["selection_loss"]},
    )


def _set_up(config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime) -> _Setup:
    pretext = inputs["pretext"]
    num_clusters = config.num_clusters or len(data.class_names)
    model = clusterer.fresh(pretext.facts["network"], data.shape, num_clusters, config.num_heads, runtime.seed)
    model.backbone.load_state_dict(pretext.weights["backbone"])
    model.to(runtime.device)
    if config.update_head_only:
        model.backbone.requires_grad_(False)
    optimizer = clusterer.optimizer(config, [p for p in model.parameters() if p.requires_grad])
    return _Setup(config, data, inputs["neighbors"], model, runtime.prepare(model), optimizer, runtime)


def _state(setup: _Setup, progress: dict[str, Any]) -> dict[str, Any]:
    return progress | {"model": setup.model.state_dict(), "optimizer": setup.optimizer.state_dict()}


def _partners(config: Config, neighbors_NK: Tensor, batch: stream.Batch, generator: torch.Generator) -> Tensor:
    """(B, M) rows met by the anchors. Drawn for the global batch, so that ranks agree on every pair."""
    own_BK = neighbors_NK[batch.rows_B, : config.num_neighbors + 1]
    if config.num_neighbors == 0:
        return own_BK
    if config.neighbor_sampling == "all":
        return own_BK[:, 1:]
    lowest = 0 if config.neighbor_sampling == "one_with_self" else 1
    column_T = torch.randint(
        lowest, config.num_neighbors + 1, (batch.total,), generator=generator, device=own_BK.device
    )
    return own_BK.gather(1, column_T[batch.start : batch.start + len(own_BK), None])


def _epoch(setup: _Setup, epoch: int) -> dict[str, float]:
    config, data, runtime = setup.config, setup.data, setup.runtime
    norm = augment.Norm(data.mean, data.std)
    strength = augment.Strength(
        num_strong_ops=config.num_strong_ops, cutout_max_length=config.cutout_max_length, affine=config.affine_scale
    )
    view = augment.AUGMENTATIONS[config.augmentation]
    pairs, views = runtime.generator("pairs", epoch), runtime.generator("views", epoch)
    neighbors_NK = torch.tensor(setup.neighbors.arrays["neighbors_train"], device=runtime.device)
    setup.trained.train()
    if config.update_head_only:
        setup.model.backbone.eval()
    order = stream.batches(
        data.train,
        config.batch_size,
        runtime.generator("order", epoch),
        rank=runtime.rank,
        world_size=runtime.world_size,
        drop_last=True,
    )
    sums, steps = torch.zeros(3, device=runtime.device), 0
    for batch in order:
        logits = []
        for rows in (batch.rows_B, *_partners(config, neighbors_NK, batch, pairs).unbind(1)):
            draws = Draws(views, batch.total, batch.start, len(rows))
            logits_HBC = setup.trained(view(data.train.images_NCHW[rows], draws, norm, strength))
            logits.append(runtime.gather(logits_HBC.transpose(0, 1)).transpose(0, 1))
        terms_H3 = torch.stack([_loss([each[head] for each in logits], config) for head in range(config.num_heads)])
        setup.optimizer.zero_grad(set_to_none=True)
        terms_H3[:, 0].sum().backward()
        setup.optimizer.step()
        sums += terms_H3.detach().mean(0)
        steps += 1
    total, consistent, entropy = (sums / steps).tolist()
    return {"loss": total, "consistency": consistent, "entropy": entropy}


def _loss(logits: list[Tensor], config: Config) -> Tensor:
    """Eq. 2 on one head: (loss, consistency, entropy). Partners' terms are summed, the anchors' entropy counts once."""
    anchors_BC, *partners = logits
    consistent = torch.stack([consistency.neighbor_disagreement(anchors_BC, each).mean() for each in partners]).sum()
    entropy = consistency.mean_entropy(anchors_BC.softmax(1))
    return torch.stack((consistent - config.entropy_weight * entropy, consistent, entropy))


def _selection(setup: _Setup) -> tuple[Tensor, Tensor]:
    """(H,) selection losses and the (H, N, C) probabilities of the evaluation images, both on the CPU."""
    data, tables = setup.data, setup.neighbors.arrays
    eval_HNC = clusterer.probabilities(setup.model, data.eval, data)
    judged_HNC, table_NK = eval_HNC, tables["neighbors_eval"]
    if setup.config.selection_split == "train":
        judged_HNC = clusterer.probabilities(setup.model, data.train, data)
        table_NK = tables["neighbors_train"][:, : table_NK.shape[1]]
    rows_NK = torch.tensor(table_NK)
    weight = setup.config.selection_entropy_weight
    losses = [consistency.selection_loss(judged_NC, rows_NK, entropy_weight=weight) for judged_NC in judged_HNC]
    return torch.tensor(losses), eval_HNC
