"""SCAN clustering: an image and a mined neighbor shall fall into the same cluster, and all clusters shall be used.

Source: SCAN Eq. 2 and §3.1. The equation sums over all neighbors; like SCAN's code we draw one of K + 1 (the image
itself included) per image and epoch (``neighbor_sampling``). The kept epoch and head are those of the smallest
selection loss: the same two terms, entropy weight 1, on mined neighbors of the training images, without labels; with
``selection_split: eval``, as in SCAN's code, on those of the images that it is judged on.

With a frozen backbone and ``augmentation: eval`` an image has the same features in every epoch: they are computed once,
or read where the pretext kept them, and the heads train on them, with the losses that the whole network would have had.

With alternating normalization (AN, see ``training.alternating_normalization``) corrected rows replace the neighbors'
predictions, for each head its own, and weights by uncertainty multiply the pairs' terms; the entropy of the anchors'
mean prediction stays as it is. A corrected row has no gradient, the others keep theirs; ``detach_neighbors`` takes it
from all of them, with AN or without, so that an ablation can tell the two apart.

Axes: N images, B batch, H heads, C clusters, D feature width, K neighbors, M neighbors drawn per image.
"""

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import settings
from ..data import augment, view_batches
from ..data.batch_random import BatchRandom
from ..figures import of_results
from ..interfaces import EVERY_SET, Batch, CaptionedFigure, DataShape, Epoch, ImageData, Result, Runtime, Split
from ..maths import metrics, neighbor_pairs, scan_loss
from ..nets import models
from ..nets.precision import ComputeConfig
from ..training import alternating_normalization, clustering, loop
from ..training.alternating_normalization import AnConfig
from ..training.optimizers import AdamOrSgdConfig, adam_or_sgd
from ..training.pretext import raw_features

NAMESPACE = "scan"
INPUTS = ("pretext", "neighbors")
VERSION = 7
LOSSES = ("loss", "consistency", "entropy")
METRICS = (
    *LOSSES,
    "selection_loss",
    *(f"train_confident_{100 * threshold:.0f}" for threshold in metrics.CONFIDENCES),
    *(f"train_confident_{100 * threshold:.0f}_acc" for threshold in metrics.CONFIDENCES),
    "epoch_seconds",
    *alternating_normalization.METRICS,
    *metrics.EVALUATION_METRICS,
)
CRITERION = ("selection_loss", "min")

TRAINS_ON_LABELS = False
WEIGHTS = ("backbone", "head")
ARRAYS = ("probabilities_train", "probabilities_eval")
FACTS = ("network", "num_clusters", "best_epoch", "best_head", "looks_at_labels")
TINY: Mapping[str, settings.Plain] = {
    "augmentation": "affine",
    "batch_size": 24,
    "epochs": 1,
    "num_neighbors": 5,
    "optimizer.lr": 1e-4,
}

_IMAGENET: Mapping[str, settings.Plain] = {
    "epochs": 100,
    "augmentation": "simclr",
    "num_heads": 10,
    "update_head_only": True,
    "optimizer.name": "sgd",
    "optimizer.lr": 5.0,
    "optimizer.momentum": 0.9,
    "optimizer.weight_decay": 0.0,
}
_LARGE: Mapping[str, Mapping[str, settings.Plain]] = {
    "imagenet50": {**_IMAGENET, "num_neighbors": 50, "batch_size": 512},
    "imagenet100": {**_IMAGENET, "num_neighbors": 50, "batch_size": 1024},
    "imagenet200": {**_IMAGENET, "num_neighbors": 50, "batch_size": 1024},
    "imagenet": {**_IMAGENET, "num_neighbors": 20, "batch_size": 4096, "optimizer.lr": 30.0},
}
PRESETS: Mapping[str, Mapping[str, Mapping[str, settings.Plain]]] = {
    "repo": {
        "cifar10": {"epochs": 50, "batch_size": 128},
        "cifar20": {"epochs": 100, "batch_size": 512},
        "stl10": {"epochs": 100, "batch_size": 128},
        **_LARGE,
    },
    "paper": {**dict.fromkeys(("cifar10", "cifar20", "stl10"), {"epochs": 100, "batch_size": 128}), **_LARGE},
    "literal": {EVERY_SET: {**alternating_normalization.LITERAL, "agreement": "ce"}},
}
"""What SCAN's code ran and what the paper says, by data set: they differ in epochs and batch of the CIFAR sets.
literal is AN as its text has it, with the cross entropy of its Eq. 1."""

PRIOR_TOLERANCE = 1e-3
"""How far the shares of a class prior may be from a sum of one, for they are written with a few digits."""

_ONE: Mapping[str, tuple[settings.Plain, ...]] = {"neighbor_sampling": ("one_with_self", "one_without_self")}


@dataclass(frozen=True, kw_only=True)
class ViewsConfig:
    num_strong_ops: int = settings.setting(
        4, "operations drawn of 14", low=1, high=14, when={"augmentation": ("scan_strong",)}
    )
    cutout_max_length: int = settings.setting(
        0, "longest side of the cut-out square; 0 takes it from the image size",
        low=0, unit="px", when={"augmentation": ("scan_strong",)},
    )  # fmt: skip
    affine_scale: float = settings.setting(
        1.0, "multiplies the ranges of the affine views", low=0, high=2, when={"augmentation": ("affine",)}
    )

    def __post_init__(self) -> None:
        settings.check(self)


@dataclass(frozen=True, kw_only=True)
class Config:
    entropy_weight: float = settings.setting(5.0, "weight of the entropy of the mean prediction", low=0, symbol="λ")
    class_prior: str = settings.setting(
        "",
        "known share of each cluster, numbers above 0 with commas between; then the divergence from it takes the place"
        " of the entropy. Empty: not known",
    )
    num_neighbors: int = settings.setting(
        20, "neighbors an image may be paired with; 0 pairs it with itself", low=0, unit="neighbors", symbol="K"
    )
    neighbor_sampling: str = settings.setting(
        "one_with_self",
        "neighbors drawn per image and epoch: one of K + 1 with the image itself, one of K, or all K",
        choices=("one_with_self", "one_without_self", "all"),
    )
    same_class_only: bool = settings.setting(
        False, "drop neighbors of another true class: an upper bound that looks at labels", oracle=(True,), when=_ONE
    )
    num_clusters: int = settings.setting(0, "clusters; 0 means as many as there are classes", low=0, symbol="C")
    num_heads: int = settings.setting(1, "linear heads trained side by side; the best is kept", low=1, high=100)
    update_head_only: bool = settings.setting(False, "freeze the backbone, its BN statistics included")
    epochs: int = settings.setting(100, "passes over the training images", low=1, unit="epochs")
    batch_size: int = settings.setting(128, "images in a step, over all workers", low=2, unit="images", symbol="B")
    augmentation: str = settings.setting(
        "scan_strong",
        "how anchors and neighbors are drawn",
        choices=("scan_strong", "simclr", "standard", "affine", "eval"),
    )
    views: ViewsConfig = settings.group(ViewsConfig)
    optimizer: AdamOrSgdConfig = settings.group(AdamOrSgdConfig)
    compute: ComputeConfig = settings.group(ComputeConfig)
    an: AnConfig = settings.group(AnConfig)
    agreement: scan_loss.Agreement = settings.setting(
        "dot",
        "how a prediction is held against its neighbor's: -log of the dot product, or cross entropy, for which the"
        " neighbor's is a fixed target",
    )
    detach_neighbors: bool = settings.setting(
        False, "the neighbors' predictions carry no gradient: a control for AN", when={"agreement": ("dot",)}
    )
    selection_split: str = clustering.selection_split_setting()
    selection_entropy_weight: float = settings.setting(1.0, "entropy weight of the selection loss", low=0)

    def __post_init__(self) -> None:
        settings.check(self)
        if self.class_prior and (sentence := _prior_fault(self.class_prior)):
            raise settings.SettingsError([("class_prior", sentence)])


def _shares(text: str) -> list[float]:
    return [float(share) for share in text.split(",")]


def _prior_fault(text: str) -> str | None:
    rule = f"class_prior must be numbers above 0 with commas between and the sum 1, but is {text!r}."
    try:
        shares = _shares(text)
    except ValueError:
        return f"{rule} Write for example 0.5,0.3,0.2."
    if not all(share > 0 and math.isfinite(share) for share in shares) or abs(sum(shares) - 1) > PRIOR_TOLERANCE:
        return f"{rule} Its sum is {sum(shares):g}."
    return None


def limits(config: Config, shape: DataShape) -> Iterator[tuple[str, str]]:
    yield from clustering.limits_on_size(config, shape, ("num_clusters", "batch_size"))
    num_clusters = config.num_clusters or shape.num_classes
    if _is_oracle(config) and not shape.num_train_labeled:
        yield "same_class_only", "same_class_only looks at labels, but no training image has one; set it to false"
    if config.class_prior and len(_shares(config.class_prior)) != num_clusters:
        yield (
            "class_prior",
            f"class_prior must have a share for each of the {num_clusters} clusters, "
            f"but has {len(_shares(config.class_prior))}",
        )


@dataclass(frozen=True)
class _Setup:
    """What an epoch needs.

    model: the bare one. trained: the same, or its heads alone where there are features; wrapped for several ranks.
    table_NK, count_N: partners of each training image; the first ``count`` columns may be drawn.
    prior_C: the known shares of the clusters, or None. normalizer: of all heads at once.
    train_ND, eval_ND: features that never change, or None.
    """

    config: Config
    data: ImageData
    neighbors: Result
    model: models.ClusteringModel
    trained: nn.Module
    optimizer: torch.optim.Optimizer
    runtime: Runtime
    table_NK: Tensor
    count_N: Tensor
    prior_C: Tensor | None
    normalizer: alternating_normalization.Normalizer
    train_ND: Tensor | None
    eval_ND: Tensor | None

    def parts(self) -> dict[str, loop.Stateful]:
        """What is saved with an epoch."""
        return {"model": self.model, "optimizer": self.optimizer, "normalizer": self.normalizer}


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Train backbone and heads; see the module's docstring.

    Returns:
        weights: backbone, head (the best one). arrays: probabilities_train, probabilities_eval (N, C), float32; where
        predictions were corrected also refined_eval (N, C). facts: network, num_clusters, best_epoch, best_head,
        looks_at_labels (whether labels chose its pairs).
    """
    setup = _set_up(config, data, inputs, runtime)
    best = loop.Best(setup.model, float("inf"))

    def run(epoch: int) -> dict[str, float]:
        losses = _epoch(setup, epoch)
        selection_H, eval_HNC = _selection(setup)
        head = int(selection_H.argmin())
        selection = float(selection_H[head])
        if selection < best.value:
            best.keep(epoch + 1, selection, head=head)
        evaluated = clustering.evaluate(eval_HNC[head], data)
        return evaluated | losses | setup.normalizer.report(head) | {"selection_loss": selection}

    last = yield from loop.epochs(config.epochs, runtime, setup.parts() | {"best": best}, run)
    best.restore()
    head, losses = best.facts["head"], {name: last[name] for name in LOSSES}
    arrays = _of_both_splits(setup, head)
    eval_NC = torch.tensor(arrays["probabilities_eval"])
    refined, an_metrics = setup.normalizer.at_the_end(eval_NC, data.eval.labels_N, head)
    evaluated = clustering.evaluate(arrays["probabilities_eval"], data)
    return Result(
        weights=clustering.parts(setup.model, head),
        arrays=arrays | refined,
        facts={
            "network": setup.model.backbone.name,
            "num_clusters": eval_NC.shape[1],
            "best_epoch": best.epoch,
            "best_head": head,
            "looks_at_labels": _is_oracle(config),
        },
        metrics=evaluated
        | losses
        | setup.normalizer.report(head)
        | an_metrics
        | {"selection_loss": best.value}
        | _confidence(arrays["probabilities_train"], data),
    )


def _confidence(train_NC: NDArray[Any], data: ImageData) -> dict[str, float]:
    """How many training images a later stage would take for labeled at a threshold, and how many of those rightly."""
    found: dict[str, float] = {}
    labels_N = data.train.labels_N.cpu()
    points = metrics.confidence_curve(
        torch.tensor(train_NC), labels_N, metrics.CONFIDENCES, num_classes=len(data.class_names)
    )
    for threshold, (share, right) in zip(metrics.CONFIDENCES, points, strict=True):
        name = f"train_confident_{100 * threshold:.0f}"
        found |= {name: share} if math.isnan(right) else {name: share, f"{name}_acc": right}
    return found


def _set_up(config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime) -> _Setup:
    pretext = inputs["pretext"]
    num_clusters = config.num_clusters or len(data.class_names)
    model = clustering.fresh(pretext.facts["network"], data.shape, num_clusters, config.num_heads, runtime.seed)
    model.backbone.load_state_dict(pretext.weights["backbone"])
    model.to(runtime.device)
    if config.update_head_only:
        model.backbone.requires_grad_(False)
    optimizer = adam_or_sgd(config.optimizer, [p for p in model.parameters() if p.requires_grad])
    train_ND = eval_ND = None
    trained: nn.Module = model
    if config.update_head_only and config.augmentation == "eval":
        train_ND = _frozen_features(model, pretext, data, "train", runtime.device)
        eval_ND = train_ND if data.is_union else _frozen_features(model, pretext, data, "eval", runtime.device)
        trained = models.HeadsOnFeatures(model.heads)
    table_NK, count_N = _table(config, data, inputs["neighbors"], runtime.device)
    prior_C = None
    if config.class_prior:
        prior_C = torch.tensor(_shares(config.class_prior), device=runtime.device)
        prior_C /= prior_C.sum()
    sizes = alternating_normalization.Sizes(num_clusters, len(data.class_names), config.batch_size, config.num_heads)
    normalizer = alternating_normalization.Normalizer(config.an, sizes, runtime.device)
    return _Setup(
        config, data, inputs["neighbors"], model, runtime.prepare(trained, config.compute), optimizer, runtime,
        table_NK, count_N, prior_C, normalizer, train_ND, eval_ND,
    )  # fmt: skip


def _frozen_features(
    model: models.ClusteringModel,
    pretext: Result,
    data: ImageData,
    part: Literal["train", "eval"],
    device: torch.device,
) -> Tensor:
    """(N, D): what the pretext kept, or else computed."""
    kept_ND = raw_features(pretext, part, device)
    if kept_ND is not None:
        return kept_ND
    split = data.train if part == "train" else data.eval
    return models.predict(model, split.images_NCHW, data.mean, data.std)


def _is_oracle(config: Config) -> bool:
    return config.same_class_only and config.neighbor_sampling != "all"


def _table(config: Config, data: ImageData, neighbors: Result, device: torch.device) -> tuple[Tensor, Tensor]:
    table_NK = torch.tensor(neighbors.arrays["neighbors_train"], device=device)[:, : config.num_neighbors + 1]
    if _is_oracle(config):
        return neighbor_pairs.of_the_same_class(table_NK, data.train.labels_N.to(device))
    return table_NK, torch.full((len(table_NK),), table_NK.shape[1], device=device)


def _partners(setup: _Setup, batch: Batch, generator: torch.Generator) -> Tensor:
    """(B, M) rows of the anchors' partners. Drawn for the global batch, so that ranks agree on every pair."""
    config, own_BK = setup.config, setup.table_NK[batch.rows_B]
    if config.num_neighbors == 0:
        return own_BK
    if config.neighbor_sampling == "all":
        return own_BK[:, 1:]
    unit_B = BatchRandom(generator, batch.total, batch.start, len(own_BK)).uniform(0, 1)
    with_self = config.neighbor_sampling == "one_with_self"
    return neighbor_pairs.draw_one(own_BK, setup.count_N[batch.rows_B], unit_B, with_self=with_self)


def _steps(setup: _Setup, epoch: int) -> Iterator[tuple[tuple[Tensor, ...], list[Tensor]]]:
    """For each step this rank's rows (B,) of anchors and of each kind of partner, and the views or features of each."""
    config, data, runtime = setup.config, setup.data, setup.runtime
    images = len(data.train) if setup.train_ND is not None else data.train
    order = runtime.batches(images, config.batch_size, epoch)
    pairs = runtime.generator("pairs", epoch)

    def rows_of(batch: Batch) -> tuple[Tensor, ...]:
        return batch.rows_B, *_partners(setup, batch, pairs).unbind(1)

    if setup.train_ND is not None:
        for rows in map(rows_of, order):
            yield rows, [setup.train_ND[rows_B] for rows_B in rows]
        return
    strength = augment.Strength(
        num_strong_ops=config.views.num_strong_ops,
        cutout_max_length=config.views.cutout_max_length,
        affine=config.views.affine_scale,
    )
    norm, views = augment.Norm(data.mean, data.std), runtime.generator("views", epoch)
    view = partial(augment.AUGMENTATIONS[config.augmentation], norm=norm, strength=strength)
    for _, step in view_batches.of_batches(order, data.train.images_NCHW, view, views, rows_of=rows_of):
        yield step.rows, step.views


def _epoch(setup: _Setup, epoch: int) -> dict[str, float]:
    config, runtime = setup.config, setup.runtime
    setup.trained.train()
    if config.update_head_only:
        setup.model.backbone.eval()
    sums, steps = torch.zeros(3, device=runtime.device), 0
    for (_, *partner_rows), inputs in _steps(setup, epoch):
        logits = [runtime.gather(setup.trained(each).transpose(0, 1)).transpose(0, 1) for each in inputs]
        terms = _terms(setup, logits, partner_rows, epoch)
        loop.step(terms[0].sum(), setup.optimizer)
        sums += torch.stack([each_H.detach().mean() for each_H in terms])
        steps += 1
    total, consistent, entropy = (sums / steps).tolist()
    return {"loss": total, "consistency": consistent, "entropy": entropy}


def _terms(
    setup: _Setup, logits: list[Tensor], partner_rows: Sequence[Tensor], epoch: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(total, consistency, entropy), each (H,), of the anchors' logits (H, T, C) and then the partners'.

    partner_rows: this rank's rows of each kind of partner.
    """
    config, runtime, normalizer = setup.config, setup.runtime, setup.normalizer
    targets, weights = logits[1:], None
    if normalizer.is_active(epoch):
        labels = [runtime.gather(setup.data.train.labels_N[rows_B]) for rows_B in partner_rows]
        # Without an axis of heads for one alone: what is done with one batch is then done without a mask.
        one = slice(None) if config.num_heads > 1 else 0
        refined = [
            normalizer.of_logits(logits_HTC[one], labels_T, epoch)
            for logits_HTC, labels_T in zip(targets, labels, strict=True)
        ]
        targets = [each.view_as(logits[0]) for each, _ in refined]
        weights = [each.view(logits[0].shape[:2]) for _, each in refined]
    if config.detach_neighbors:
        targets = [each.detach() for each in targets]
    return scan_loss.scan_loss(
        logits[0],
        *targets,
        entropy_weight=config.entropy_weight,
        prior_C=setup.prior_C,
        weights=weights,
        agreement=config.agreement,
    )


def _probabilities(setup: _Setup, split: Split, features_ND: Tensor | None) -> Tensor:
    """(H, N, C) on the CPU."""
    if features_ND is None:
        return clustering.probabilities(setup.model, split, setup.data)
    with torch.no_grad():
        return clustering.finite(models.HeadsOnFeatures(setup.model.heads)(features_ND).softmax(-1).cpu())


def _of_both_splits(setup: _Setup, head: int) -> dict[str, NDArray[Any]]:
    """Arrays probabilities_train and probabilities_eval, from the features where they never change."""
    if setup.train_ND is None:
        return clustering.of_both_splits(setup.model, setup.data, head)
    data = setup.data
    train_NC = _probabilities(setup, data.train, setup.train_ND)[head].numpy()
    eval_NC = train_NC if data.is_union else _probabilities(setup, data.eval, setup.eval_ND)[head].numpy()
    return {"probabilities_train": train_NC, "probabilities_eval": eval_NC}


def _selection(setup: _Setup) -> tuple[Tensor, Tensor]:
    """(H,) selection losses and the (H, N, C) probabilities of the evaluation images, both on the CPU."""
    data, config = setup.data, setup.config
    eval_HNC = _probabilities(setup, data.eval, setup.eval_ND)
    is_other = config.selection_split == "train" and not data.is_union
    selecting_HNC = _probabilities(setup, data.train, setup.train_ND) if is_other else eval_HNC
    losses = [
        clustering.selection_loss(rows_NC, setup.neighbors, config.selection_split, config.selection_entropy_weight)
        for rows_NC in selecting_HNC
    ]
    return torch.tensor(losses), eval_HNC


classifier = clustering.classifier


def figures(result: Result, data: ImageData, history: Sequence[Mapping[str, float]]) -> dict[str, CaptionedFigure]:
    features = clustering.features(result, data)
    found = of_results.clustering(result, data, history, features) | of_results.confidence(result, data)
    return found | of_results.refinement(result, data, features)
