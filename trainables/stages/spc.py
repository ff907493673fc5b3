"""SPC after SCAN: label propagation sorts pseudo-labels into strong and weak ones, and the two are mixed.

Source: SPC §4.2-§4.3. SCAN's confident predictions (above δ) that also lead their class in the propagated labels (the
top r of all images per class) are the strong set; every other image gets its propagated label anew each epoch.
Strong images, and mixtures of a strong with a weak one, train the network further.

Differs, each behind a setting: the text mixes strong with weak (Eq. 11-16, ``mix: hierarchical``, our default), the
printed code mixes within one batch (``mix: code``); the text intersects (image, label) pairs, the code images
(``intersection_requires_label_agreement``); λ_M is unpublished (1 here); no selection rule is published (last epoch).

Not in the paper: with alternating normalization (AN, see ``training.alternating_normalization``) corrected rows replace
the labels that reach an image before they become its weak label, in batches of ``an_batch_size`` drawn anew each epoch;
weights by uncertainty multiply the weak labels' cross entropies. The strong set is drawn without them.

Axes: N images, B batch, C clusters, K graph neighbors, D feature width, S strong, W weak.
"""

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import settings
from ..figures import of_results
from ..interfaces import Batch, CaptionedFigure, DataShape, Epoch, ImageData, Result, Runtime
from ..maths import metrics, propagation, schedules, spc_labels
from ..nets import models
from ..nets.precision import ComputeConfig
from ..training import alternating_normalization, clustering, loop, spc_mixing
from ..training.alternating_normalization import AnConfig
from ..training.optimizers import SgdConfig

NAMESPACE = "spc"
INPUTS = ("neighbors", "scan")
VERSION = 4
METRICS = (
    "loss",
    "loss_strong",
    "loss_mixed",
    "strong_fraction",
    "label_changes",
    "cg_iterations",
    "delta_effective",
    "selection_loss",
    "strong_acc",
    "weak_acc",
    "label_acc",
    "scan_label_acc",
    "epoch_seconds",
    *alternating_normalization.METRICS,
    *metrics.EVALUATION_METRICS,
)
CRITERION = ("selection_loss", "min")  # The training loss means something else at every δ and r.

TRAINS_ON_LABELS = False
WEIGHTS = ("backbone", "head")
ARRAYS = ("probabilities_train", "probabilities_eval", "strong_train", "targets_train")
FACTS = ("network", "num_clusters")
TINY: Mapping[str, settings.Plain] = {
    "strong_augmentation": "affine",
    "weak_augmentation": "affine",
    "strong_threshold": 0.15,
    "graph_neighbors": 5,
    "top_fraction_per_class": 0.1,
    "batch_size": 8,  # below the number of weak images, which ranks must share evenly
    "labeled_batch_size": 4,
    "epochs": 1,
    "optimizer.lr": 1e-4,
}

_AN = ("correction", "reweight", "both")


@dataclass(frozen=True, kw_only=True)
class Config:
    strong_threshold: float = settings.setting(
        0.95, "a prediction above it may be a strong label", above=0, below=1, unit="as a probability", symbol="δ"
    )
    graph_neighbors: int = settings.setting(20, "neighbors an image is linked to", low=1, unit="neighbors", symbol="k2")
    top_fraction_per_class: float = settings.setting(
        0.03,
        "images per class that lead the propagated labels",
        above=0,
        high=1,
        unit="as a share of all images",
        symbol="r",
    )
    top_fraction_basis: spc_labels.FractionBasis = settings.setting(
        "dataset",
        "what the share is of: all images, or the images a class would hold if all were alike",
    )
    propagation_decay: float = settings.setting(0.99, "how far labels spread; 1 / (1 + μ)", low=0, below=1, symbol="γ")
    cg_max_iterations: int = settings.setting(30, "conjugate gradient steps at most", low=1, high=10000)
    graph_space: str = settings.setting(
        "backbone", "features that the graph links", choices=("backbone", "probabilities")
    )
    intersection_requires_label_agreement: bool = settings.setting(
        False, "a strong label must also be the propagated one (Eq. 9 read literally)"
    )
    refresh: str = settings.setting(
        "epoch0_only", "when the strong set is drawn", choices=("epoch0_only", "every_epoch")
    )
    weak_label: spc_labels.WeakLabel = settings.setting(
        "lp_hard",
        "label of a weak image: propagated, hard or soft, or SCAN's own soft prediction",
    )
    mix: str = settings.setting(
        "hierarchical", "strong with weak (text), or within one batch (code)", choices=("hierarchical", "code")
    )
    mixup_beta: float = settings.setting(
        1.0, "parameter of the Beta distribution of the mixing share", above=0, high=100, symbol="α"
    )
    mixed_loss_weight: float = settings.setting(
        1.0, "weight of the mixed images' loss", low=0, symbol="λ_M", when={"mix": ("hierarchical",)}
    )
    lambda_scope: str = settings.setting(
        "sample",
        "one mixing share per image or per batch",
        choices=("sample", "batch"),
        when={"mix": ("hierarchical",)},
    )
    num_augs: int = settings.setting(1, "draws of the same batch whose losses are averaged", low=1, high=10)
    batch_size: int = settings.setting(
        256,
        "weak images in a step, and as many strong ones; with mix: code both together",
        low=4,
        unit="images",
        symbol="B",
    )
    labeled_batch_size: int = settings.setting(
        32, "strong images within the batch", low=1, unit="images", when={"mix": ("code",)}
    )
    strong_augmentation: str = settings.setting(
        "spc_weak", "how images of the strong set are drawn (weakly)", choices=("spc_weak", "eval", "affine")
    )
    weak_augmentation: str = settings.setting(
        "spc_strong", "how images of the weak set are drawn (strongly)", choices=("spc_strong", "simclr", "affine")
    )
    strong_affine_scale: float = settings.setting(
        0.5,
        "multiplies the ranges of affine views of strong images",
        low=0,
        high=2,
        when={"strong_augmentation": ("affine",)},
    )
    weak_affine_scale: float = settings.setting(
        1.0,
        "multiplies the ranges of affine views of weak images",
        low=0,
        high=2,
        when={"weak_augmentation": ("affine",)},
    )
    epochs: int = settings.setting(50, "passes over the weak images", low=1, unit="epochs")
    optimizer: SgdConfig = settings.group(
        SgdConfig,
        lr=settings.setting(0.03, "learning rate of SGD at the start; falls along a cosine", above=0),
        momentum=settings.setting(0.9, "Nesterov momentum of SGD", low=0, below=1),
        weight_decay=5e-4,
    )
    compute: ComputeConfig = settings.group(ComputeConfig)
    an: AnConfig = settings.group(
        AnConfig,
        mode=settings.setting(
            "none",
            "alternating normalization: correct unsure weak labels, weigh them by how unsure they are, or both",
            choices=("none", *_AN),
        ),
    )
    an_batch_size: int = settings.setting(
        256, "images normalized together", low=2, unit="images", when={"an.mode": _AN}
    )
    selection_split: str = clustering.selection_split_setting()

    def __post_init__(self) -> None:
        settings.check(self)


def limits(config: Config, shape: DataShape) -> Iterator[tuple[str, str]]:
    yield from clustering.limits_on_size(config, shape, ("batch_size",))
    if config.graph_neighbors >= shape.num_train:
        yield (
            "graph_neighbors",
            f"graph_neighbors must be below the number of training images ({shape.num_train}), "
            f"but is {config.graph_neighbors}",
        )
    if config.mix == "code" and config.labeled_batch_size >= config.batch_size:
        yield (
            "labeled_batch_size",
            f"labeled_batch_size must be below batch_size ({config.batch_size}), but is {config.labeled_batch_size}",
        )
    if config.compute.cuda_graphs and config.num_augs > 1:
        # The second backward pass adds to gradients that lie in a graph's own memory, which its replay overwrites.
        yield (
            "compute.cuda_graphs",
            f"cuda_graphs must be false with more than one draw, but num_augs is {config.num_augs}",
        )


def limits_with(config: Config, others: Mapping[str, Any], shape: DataShape) -> Iterator[tuple[str, str]]:
    """Each cluster, and there are as many as SCAN has, must be able to give the strong set an image."""
    num_clusters = others["scan"].num_clusters or shape.num_classes
    if not num_clusters:
        return  # SCAN's own setting is refused
    of = shape.num_train if config.top_fraction_basis == "dataset" else shape.num_train / num_clusters
    if config.top_fraction_per_class * of >= 1:
        return
    if of < 1:
        way_out = "take more images, or fewer clusters"
    else:
        # Rounded up: what 1 / of is rounded to may still be less than one image.
        way_out = f"raise it to {math.ceil(1000 / of) / 1000:g}"
    yield (
        "top_fraction_per_class",
        f"top_fraction_per_class must take at least one image per cluster, but {config.top_fraction_per_class:g} of "
        f"{of:g} images is less; {way_out}",
    )


@dataclass(frozen=True)
class _Labels:
    """Pseudo-labels of one epoch: who is strong, every image's target distribution, its hard label.

    entropy_N: how unsure each image's label was before it was normalized; empty where nothing is.
    """

    strong: spc_labels.Strong
    targets_NC: Tensor
    hard_N: Tensor
    entropy_N: Tensor

    def state(self) -> dict[str, Any]:
        return {**vars(self), "strong": vars(self.strong)}

    @staticmethod
    def of(state: Mapping[str, Any]) -> "_Labels":
        return _Labels(**{**state, "strong": spc_labels.Strong(**state["strong"])})


@dataclass
class _Kept:
    """The labels of the last epoch, as a part of a saved state."""

    labels: _Labels | None = None

    def state_dict(self) -> dict[str, Any]:
        return {} if self.labels is None else self.labels.state()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.labels = _Labels.of(state_dict)


@dataclass(frozen=True)
class _Setup:
    """What an epoch needs. trained: the model, wrapped for several ranks. scan_NC: SCAN's probabilities, on the CPU."""

    config: Config
    data: ImageData
    model: models.ClusteringModel
    trained: nn.Module
    optimizer: torch.optim.Optimizer
    normalizer: alternating_normalization.Normalizer
    runtime: Runtime
    scan_NC: Tensor
    neighbors: Result


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Train SCAN's model further; see the module's docstring.

    Returns:
        weights: backbone, head. arrays: probabilities_train, probabilities_eval, targets_train (N, C), float32, and
        strong_train (N,) bool; where labels were corrected also refined_eval (N, C). facts: network, num_clusters.
    """
    setup = _set_up(config, data, inputs, runtime)
    kept = _Kept()

    def run(epoch: int) -> dict[str, float]:
        kept.labels, sorting = _sort(setup, kept.labels, epoch)
        return sorting | _epoch(setup, kept.labels, epoch) | _evaluate(setup)

    parts: dict[str, loop.Stateful] = {
        "model": setup.model, "optimizer": setup.optimizer, "normalizer": setup.normalizer, "labels": kept
    }  # fmt: skip
    last = yield from loop.epochs(config.epochs, runtime, parts, run)
    assert kept.labels is not None
    start = inputs["scan"].facts
    arrays = clustering.of_both_splits(setup.model, data)
    refined, an_metrics = setup.normalizer.at_the_end(torch.tensor(arrays["probabilities_eval"]), data.eval.labels_N)
    return Result(
        weights=clustering.parts(setup.model),
        arrays={
            **arrays,
            **refined,
            "strong_train": kept.labels.strong.mask_N.numpy(),
            "targets_train": kept.labels.targets_NC.numpy(),
        },
        facts={"network": start["network"], "num_clusters": start["num_clusters"]},
        metrics={**last, **an_metrics},
    )


def _set_up(config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime) -> _Setup:
    start = inputs["scan"]
    model = clustering.restored(start, data.shape, runtime.seed).to(runtime.device)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=config.optimizer.lr,
        momentum=config.optimizer.momentum,
        weight_decay=config.optimizer.weight_decay,
        nesterov=config.optimizer.momentum > 0,
        fused=True,
    )
    scan_NC = torch.tensor(start.arrays["probabilities_train"])
    sizes = alternating_normalization.Sizes(scan_NC.shape[1], len(data.class_names), config.an_batch_size)
    normalizer = alternating_normalization.Normalizer(config.an, sizes, torch.device("cpu"))
    trained = runtime.prepare(model, config.compute)
    return _Setup(config, data, model, trained, optimizer, normalizer, runtime, scan_NC, inputs["neighbors"])


def _sort(setup: _Setup, before: _Labels | None, epoch: int) -> tuple[_Labels, dict[str, float]]:
    """Propagate labels over the present features; draw the strong set where it is due."""
    config, scan_NC = setup.config, setup.scan_NC
    draw = before is None or config.refresh == "every_epoch"
    strong = spc_labels.strong_set(scan_NC, config.strong_threshold) if draw or before is None else before.strong
    propagated_NC, report = propagation.propagate(
        _graph(setup),
        spc_labels.seed_labels(strong, scan_NC.shape[1]),
        decay=config.propagation_decay,
        max_iterations=config.cg_max_iterations,
    )
    if draw:
        leaders_NC = spc_labels.top_fraction(propagated_NC, config.top_fraction_per_class, config.top_fraction_basis)
        strong = spc_labels.intersect(
            strong, leaders_NC, require_label_agreement=config.intersection_requires_label_agreement
        )
    propagated_NC, scan_NC, entropy_N = _normalized(setup, propagated_NC, epoch)
    hard_N = spc_labels.hard_labels(propagated_NC, scan_NC, strong)
    targets_NC = spc_labels.targets(propagated_NC, scan_NC, strong, config.weak_label)
    sorting = {
        "strong_fraction": float(strong.mask_N.float().mean()),
        "label_changes": 1.0 if before is None else float((hard_N != before.hard_N).float().mean()),
        "cg_iterations": float(report.iterations),
        "delta_effective": strong.threshold,
    }
    sorting |= _label_accuracies(setup, strong.mask_N, hard_N)
    return _Labels(strong, targets_NC, hard_N, entropy_N), sorting | setup.normalizer.report()


def _label_accuracies(setup: _Setup, strong_N: Tensor, hard_N: Tensor) -> dict[str, float]:
    """How many training images bear the right label, by true labels: for people to read, and to choose by never.

    Of the strong images, of the weak ones, of both, and of SCAN's own predictions for all, which the labels should
    better: otherwise what the network is trained towards is worse than what it started from.
    """
    true_N = setup.data.train.labels_N.cpu().numpy()
    sizes = (setup.scan_NC.shape[1], len(setup.data.class_names))
    everyone_N = np.ones(len(true_N), dtype=bool)
    groups = {"strong_acc": strong_N.numpy(), "weak_acc": ~strong_N.numpy(), "label_acc": everyone_N}
    own = metrics.accuracies_within(hard_N.numpy(), true_N, groups, *sizes)
    scan_N = setup.scan_NC.argmax(1).numpy()
    return own | metrics.accuracies_within(scan_N, true_N, {"scan_label_acc": everyone_N}, *sizes)


def _normalized(setup: _Setup, propagated_NC: Tensor, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Propagated labels and SCAN's probabilities, those normalized that weak labels are made of; and entropies (N,).

    An image that no label reached is corrected by SCAN's prediction.
    """
    config, scan_NC = setup.config, setup.scan_NC
    if not setup.normalizer.is_active(epoch):
        return propagated_NC, scan_NC, torch.empty(0)
    generator = setup.runtime.generator("refined together", epoch)
    order_N = torch.randperm(len(scan_NC), generator=generator, device=generator.device).cpu()
    labels_N, is_own = setup.data.train.labels_N.cpu(), config.weak_label == "model_soft"
    reached_N1 = (propagated_NC > 0).any(dim=1, keepdim=True)
    rows_NC = scan_NC if is_own else torch.where(reached_N1, propagated_NC, scan_NC.to(propagated_NC))
    normalized_NC, entropy_N = setup.normalizer.in_batches(rows_NC, labels_N, epoch, order_N)
    if not setup.normalizer.corrects(epoch):
        return propagated_NC, scan_NC, entropy_N
    if is_own:
        return propagated_NC, normalized_NC, entropy_N
    # What was not corrected stays as it is without normalization, an image that no label reached included.
    changed_N1 = (normalized_NC != rows_NC).any(dim=1, keepdim=True)
    return torch.where(changed_N1, normalized_NC, propagated_NC), scan_NC, entropy_N


def _graph(setup: _Setup) -> Any:
    config, data, model = setup.config, setup.data, setup.model
    if config.graph_space == "backbone":
        points_ND = models.predict(model, data.train.images_NCHW, data.mean, data.std, what="features")
    else:
        points_ND = clustering.probabilities(model, data.train, data)[0]
    rows_ND = nn.functional.normalize(points_ND).cpu().numpy()
    similarities_NK, neighbors_NK = setup.runtime.search.knn(rows_ND, None, config.graph_neighbors + 1, "inner_product")
    return propagation.knn_graph(similarities_NK, neighbors_NK)


def _epoch(setup: _Setup, labels: _Labels, epoch: int) -> dict[str, float]:
    """One pass over the weak images, each step with as many strong ones as the mixing asks for."""
    config, runtime = setup.config, setup.runtime
    weak_W = torch.nonzero(~labels.strong.mask_N).squeeze(1).to(runtime.device)
    strong_S = torch.nonzero(labels.strong.mask_N).squeeze(1).to(runtime.device)
    hierarchical = config.mix == "hierarchical"
    num_weak = config.batch_size if hierarchical else config.batch_size - config.labeled_batch_size
    num_weak = min(num_weak, len(weak_W) - len(weak_W) % runtime.world_size)
    num_strong = num_weak if hierarchical else config.labeled_batch_size
    if num_weak < 2 * runtime.world_size:
        raise RuntimeError(
            f"SPC epoch {epoch + 1}: only {len(weak_W)} of {len(labels.hard_N)} images are weak, too few for a step; "
            "raise spc.strong_threshold or lower spc.top_fraction_per_class"
        )
    draws = {name: runtime.generator(name, epoch) for name in ("views", "strong", "mix")}
    weighs = setup.normalizer.weighs(epoch)
    targets_NC = labels.targets_NC.to(runtime.device, copy=weighs)
    entropy_N = labels.entropy_N.to(runtime.device)
    mixer = spc_mixing.Mixer(config, setup.data, setup.trained, runtime)
    mix = mixer.hierarchical if hierarchical else mixer.within_batch
    order = runtime.batches(len(weak_W), num_weak, epoch)
    strong_batches = spc_mixing.strong_batches(strong_S, num_strong, draws["strong"], runtime)
    setup.trained.train()
    sums, steps, num_steps = torch.zeros(3, device=runtime.device), 0, len(weak_W) // num_weak
    for batch in order:
        weak = Batch(weak_W[batch.rows_B], batch.start, batch.total)
        if weighs:
            # Cross entropy is linear in its target: a weak image comes once an epoch, so its target takes the weight.
            weights_B = setup.normalizer.weights(runtime.gather(entropy_N[weak.rows_B]))[
                batch.start : batch.start + len(batch.rows_B)
            ]
            targets_NC[weak.rows_B] *= weights_B[:, None]
        strong = next(strong_batches)
        lr = schedules.cosine_rampdown_spc(
            config.optimizer.lr, epoch, steps, epochs=config.epochs, iterations=num_steps
        )
        loop.set_lr(setup.optimizer, lr)
        setup.optimizer.zero_grad(set_to_none=True)
        for _ in range(config.num_augs):
            terms_3 = mix(targets_NC, strong, weak, draws)
            (terms_3[0] / config.num_augs).backward()
            sums += terms_3.detach() / config.num_augs
        setup.optimizer.step()
        steps += 1
    loss, loss_strong, loss_mixed = (sums / steps).tolist()
    return {"loss": loss, "loss_strong": loss_strong, "loss_mixed": loss_mixed}


def _evaluate(setup: _Setup) -> dict[str, float]:
    """Label metrics, and SCAN's selection loss: its neighbors are the pretext's, so every setting has one scale."""
    data, split = setup.data, setup.config.selection_split
    eval_NC = clustering.probabilities(setup.model, data.eval, data)[0]
    is_other = split == "train" and not data.is_union
    selecting_NC = clustering.probabilities(setup.model, data.train, data)[0] if is_other else eval_NC
    selection = clustering.selection_loss(selecting_NC, setup.neighbors, split)
    return clustering.evaluate(eval_NC, data) | {"selection_loss": selection}


classifier = clustering.classifier


def figures(result: Result, data: ImageData, history: Sequence[Mapping[str, float]]) -> dict[str, CaptionedFigure]:
    features = clustering.features(result, data)
    return of_results.clustering(result, data, history, features) | of_results.refinement(result, data, features)
