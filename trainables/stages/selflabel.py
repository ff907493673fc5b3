"""SCAN self-labeling: confident predictions on the plain image become labels for its strong view.

Source: SCAN §2.3 and §3.1. As in SCAN's code the plain view is predicted in train mode without gradient
(``pseudo_label_bn``), and with ``ema_mode: overwrite`` the average replaces the student after every step, which equals
a smaller learning rate. The last epoch is kept, or with ``stop_rule: plateau`` the one after which the number of
confident images no longer grew. Settings are compared by the confidence in the images of ``selection_split``; the
selection loss is SCAN's, so that what this stage added to SCAN is seen without labels too.

With alternating normalization (AN, see ``training.alternating_normalization``) corrected rows replace the predictions
on plain images before they are held against the threshold; weights by uncertainty multiply the class weights, so that
they are shared out among the confident images of a batch.

Axes: N images, B batch, H heads (one here), C clusters.
"""

import copy
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from .. import settings
from ..data import augment, view_batches
from ..figures import of_results
from ..interfaces import EVERY_SET, Batch, CaptionedFigure, DataShape, EndsTrial, Epoch, ImageData, Result, Runtime
from ..maths import metrics, selflabel
from ..nets import models, precision
from ..nets.precision import ComputeConfig
from ..training import alternating_normalization, clustering, loop, normalization_metrics
from ..training.alternating_normalization import AnConfig
from ..training.optimizers import AdamOrSgdConfig, adam_or_sgd
from ..training.views import AffineConfig

NAMESPACE = "selflabel"
INPUTS = ("neighbors", "scan")
VERSION = 6
METRICS = (
    "loss",
    "skipped_batches",
    "train_confident_fraction",
    "guarded_confidence",
    "selection_loss",
    "epoch_seconds",
    *alternating_normalization.METRICS,
    normalization_metrics.LABELED,
    *metrics.EVALUATION_METRICS,
)
CRITERION = ("guarded_confidence", "max")

TRAINS_ON_LABELS = False
WEIGHTS = ("backbone", "head")
ARRAYS = ("probabilities_train", "probabilities_eval")
FACTS = ("network", "num_clusters", "kept_epoch")
TINY: Mapping[str, settings.Plain] = {
    "augmentation": "affine",
    "batch_size": 24,
    "epochs": 1,
    "confidence_threshold": 0.15,
    "optimizer.lr": 1e-4,
}

PLATEAU_GAIN = 0.005
"""A relative gain in confident images at or below this share is no gain."""
_SMALL: Mapping[str, settings.Plain] = {"epochs": 200, "batch_size": 1000}
_IMAGENET: Mapping[str, settings.Plain] = {
    "epochs": 25,
    "batch_size": 512,
    "class_balancing": False,
    "optimizer.name": "sgd",
    "optimizer.lr": 0.03,
    "optimizer.momentum": 0.9,
    "optimizer.weight_decay": 0.0,
    "ema_mode": "overwrite",
    "ema_decay": 0.999,
}
_LARGE = {name: _IMAGENET for name in ("imagenet50", "imagenet100", "imagenet200", "imagenet")}
PRESETS: Mapping[str, Mapping[str, Mapping[str, settings.Plain]]] = {
    "repo": {"cifar10": _SMALL, "cifar20": _SMALL, "stl10": {**_SMALL, "epochs": 100}, **_LARGE},
    "paper": {**dict.fromkeys(("cifar10", "cifar20", "stl10"), {**_SMALL, "stop_rule": "plateau"}), **_LARGE},
    "literal": {EVERY_SET: alternating_normalization.LITERAL},
}
"""What SCAN's code ran and what the paper says: they differ in STL-10's epochs and in which epoch is kept.
literal is AN as its text has it."""

SMOKE: Mapping[str, settings.Plain] = {"confidence_threshold": 0.01}
"""After two epochs of everything no prediction is confident, and nothing of this stage would run."""

SMALLEST_SHARE = 0.25
"""Clusters below this share of their fair size void the confidence as a criterion: a collapsed model is sure too."""


@dataclass(frozen=True, kw_only=True)
class Config:
    confidence_threshold: float = settings.setting(
        0.99, "a prediction above it becomes a label", above=0, below=1, unit="as a probability", symbol="τ"
    )
    class_balancing: bool = settings.setting(True, "weigh every predicted class alike in the loss")
    augmentation: str = settings.setting(
        "scan_strong", "how the trained view is drawn", choices=("scan_strong", "simclr", "standard", "affine")
    )
    views: AffineConfig = settings.group(AffineConfig)
    epochs: int = settings.setting(200, "passes over the training images", low=1, unit="epochs")
    batch_size: int = settings.setting(1000, "images in a step, over all workers", low=2, unit="images", symbol="B")
    optimizer: AdamOrSgdConfig = settings.group(AdamOrSgdConfig)
    compute: ComputeConfig = settings.group(ComputeConfig)
    ema_mode: str = settings.setting(
        "off",
        "average of the weights: none; written over the student after each step; or kept aside for evaluation",
        choices=("off", "overwrite", "shadow_eval"),
    )
    ema_decay: float = settings.setting(
        0.999, "share of the old average kept", low=0, below=1, symbol="α",
        when={"ema_mode": ("overwrite", "shadow_eval")},
    )  # fmt: skip
    pseudo_label_bn: str = settings.setting(
        "train", "batch statistics or running ones under the plain view", choices=("train", "eval")
    )
    stop_rule: str = settings.setting(
        "last", "keep the last epoch, or stop when confident images stop growing", choices=("last", "plateau")
    )
    patience_epochs: int = settings.setting(
        10, "epochs without gain before the plateau rule stops", low=1, unit="epochs", when={"stop_rule": ("plateau",)}
    )
    an: AnConfig = settings.group(AnConfig)
    selection_split: str = clustering.selection_split_setting()

    def __post_init__(self) -> None:
        settings.check(self)


def limits(config: Config, shape: DataShape) -> Iterator[tuple[str, str]]:
    yield from clustering.limits_on_size(config, shape, ("batch_size",))


@dataclass(frozen=True)
class _Setup:
    """What an epoch needs. trained: the model, wrapped for several ranks. average: of its weights, or None."""

    config: Config
    data: ImageData
    neighbors: Result
    model: models.ClusteringModel
    trained: nn.Module
    average: models.ClusteringModel | None
    optimizer: torch.optim.Optimizer
    normalizer: alternating_normalization.Normalizer
    runtime: Runtime

    @property
    def evaluated(self) -> models.ClusteringModel:
        """The model that is evaluated and kept."""
        aside = self.config.ema_mode == "shadow_eval" and self.average is not None
        return self.average if aside and self.average is not None else self.model

    def parts(self) -> dict[str, loop.Stateful]:
        """What is saved with an epoch."""
        average = {} if self.average is None else {"average": self.average}
        return {"model": self.model, "optimizer": self.optimizer, "normalizer": self.normalizer, **average}


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Train backbone and head on their own confident predictions.

    Returns:
        weights: backbone, head. arrays: probabilities_train, probabilities_eval (N, C), float32; where predictions
        were corrected also refined_eval (N, C). facts: network, num_clusters, kept_epoch.

    Raises:
        EndsTrial: no image of a whole epoch was confident.
    """
    start = inputs["scan"]
    setup = _set_up(config, data, inputs, runtime)
    normalizer = setup.normalizer
    stops = config.stop_rule == "plateau"
    best = loop.Best(setup.evaluated if stops else None, -1.0)

    def run(epoch: int) -> dict[str, float]:
        metrics = _epoch(setup, epoch) | _evaluate(setup) | normalizer.report()
        confident = metrics["train_confident_fraction"]
        if not stops or confident > best.value * (1 + PLATEAU_GAIN):
            best.keep(epoch + 1, confident, metrics=metrics)
        return metrics

    yield from loop.epochs(
        config.epochs,
        runtime,
        setup.parts() | {"best": best},
        run,
        stop=lambda epoch: stops and epoch - best.epoch >= config.patience_epochs,
    )
    best.restore()
    arrays = clustering.of_both_splits(setup.evaluated, data)
    refined, an_metrics = normalizer.at_the_end(torch.tensor(arrays["probabilities_eval"]), data.eval.labels_N)
    return Result(
        weights=clustering.parts(setup.evaluated),
        arrays=arrays | refined,
        facts={
            "network": start.facts["network"],
            "num_clusters": start.facts["num_clusters"],
            "kept_epoch": best.epoch,
        },
        metrics=best.facts["metrics"] | an_metrics,
    )


def _set_up(config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime) -> _Setup:
    start = inputs["scan"]
    model = clustering.restored(start, data.shape, runtime.seed).to(runtime.device)
    average = None if config.ema_mode == "off" else copy.deepcopy(model)
    optimizer = adam_or_sgd(config.optimizer, list(model.parameters()))
    sizes = alternating_normalization.Sizes(start.facts["num_clusters"], len(data.class_names), config.batch_size)
    normalizer = alternating_normalization.Normalizer(config.an, sizes, runtime.device)
    trained = runtime.prepare(model, config.compute)
    return _Setup(config, data, inputs["neighbors"], model, trained, average, optimizer, normalizer, runtime)


def _epoch(setup: _Setup, epoch: int) -> dict[str, float]:
    config, data, model, runtime = setup.config, setup.data, setup.model, setup.runtime
    norm, strength = augment.Norm(data.mean, data.std), config.views.strength()
    strong_view = partial(augment.AUGMENTATIONS[config.augmentation], norm=norm, strength=strength)
    views = runtime.generator("views", epoch)
    order = runtime.batches(data.train, config.batch_size, epoch)
    weak = precision.without_gradient(model, config.compute, runtime.device)
    loss_sum, steps, skipped = torch.zeros((), device=runtime.device), 0, 0
    corrected_2 = torch.zeros(2, device=runtime.device)
    for batch, step in view_batches.of_batches(order, data.train.images_NCHW, strong_view, views):
        model.train(config.pseudo_label_bn == "train")
        with torch.no_grad():
            weak_BC = runtime.gather(weak(augment.judged(step.images[0], norm))[0].softmax(1))
        setup.trained.train()
        strong_BC = runtime.gather(setup.trained(step.views[0])[0])
        weak_BC, weights_B, own_2 = _normalized(setup, weak_BC, batch, epoch)
        corrected_2 += own_2
        loss, confident_B = selflabel.confident_cross_entropy(
            weak_BC,
            strong_BC,
            threshold=config.confidence_threshold,
            balanced=config.class_balancing,
            weights_B=weights_B,
        )
        setup.optimizer.zero_grad(set_to_none=True)
        any_confident = _read_later(confident_B.any())
        loss.backward()
        if not any_confident():
            # Nothing to learn from: no step and no average, as an empty batch would shrink weights by decay alone.
            skipped += 1
            continue
        setup.optimizer.step()
        _average(setup)
        loss_sum += loss.detach()
        steps += 1
    if steps == 0:
        raise EndsTrial(
            f"self-labeling epoch {epoch + 1}: no image is confident above {config.confidence_threshold}; "
            "lower selflabel.confidence_threshold or train scan longer"
        )
    losses = {"loss": float(loss_sum / steps), "skipped_batches": float(skipped)}
    corrected, labeled = corrected_2.tolist()
    return losses | ({normalization_metrics.LABELED: labeled / corrected} if corrected else {})


def _normalized(setup: _Setup, weak_BC: Tensor, batch: Batch, epoch: int) -> tuple[Tensor, Tensor | None, Tensor]:
    """Predictions on plain images after normalization, weights (B,) of their terms or None, and two counts (2,).

    The counts are of the rows that were corrected, and of those of them that are above the threshold now.
    """
    normalizer, nothing = setup.normalizer, torch.zeros(2, device=weak_BC.device)
    if not normalizer.is_active(epoch):
        return weak_BC, None, nothing
    labels_B = setup.runtime.gather(setup.data.train.labels_N[batch.rows_B])
    targets_BC, entropy_B = normalizer(weak_BC, labels_B, epoch)
    corrected_B = (targets_BC != weak_BC).any(1)
    labeled_B = corrected_B & (targets_BC.amax(1) > setup.config.confidence_threshold)
    weights_B = normalizer.weights(entropy_B) if normalizer.weighs(epoch) else None
    return targets_BC, weights_B, torch.stack((corrected_B.sum(), labeled_B.sum())).float()


def _read_later(flag: Tensor) -> Callable[[], bool]:
    """Reads a flag without waiting for what is given to the device from now on, which then has work meanwhile."""
    if flag.device.type != "cuda":
        return lambda: bool(flag)
    copied, arrived = torch.empty_like(flag, device="cpu", pin_memory=True), torch.cuda.Event()
    copied.copy_(flag, non_blocking=True)
    arrived.record()

    def read() -> bool:
        arrived.synchronize()
        return bool(copied)

    return read


@torch.no_grad()
def _average(setup: _Setup) -> None:
    model, average = setup.model, setup.average
    if average is None:
        return
    kept, new = (list[Tensor](each.parameters()) for each in (average, model))
    torch._foreach_lerp_(kept, new, 1 - setup.config.ema_decay)
    if setup.config.ema_mode == "overwrite":
        # SCAN's code: parameters and the statistics of the moment the average was made replace the student's.
        torch._foreach_copy_(new, kept)
        torch._foreach_copy_(list(model.buffers()), list(average.buffers()))
    else:
        torch._foreach_copy_(list(average.buffers()), list(model.buffers()))


def _evaluate(setup: _Setup) -> dict[str, float]:
    config, data, threshold = setup.config, setup.data, setup.config.confidence_threshold
    eval_NC = clustering.probabilities(setup.evaluated, data.eval, data)[0]
    train_NC = eval_NC if data.is_union else clustering.probabilities(setup.evaluated, data.train, data)[0]
    confident = float((train_NC.max(1).values > threshold).float().mean())
    selecting_NC = eval_NC if config.selection_split == "eval" else train_NC
    chosen_by = confident if config.selection_split == "train" else metrics.confident_fraction(eval_NC, threshold)
    return clustering.evaluate(eval_NC, data, threshold) | {
        "train_confident_fraction": confident,
        "guarded_confidence": _guarded(chosen_by, selecting_NC),
        "selection_loss": clustering.selection_loss(selecting_NC, setup.neighbors, config.selection_split),
    }


def _guarded(confident: float, probabilities_NC: Tensor) -> float:
    num_clusters = probabilities_NC.shape[1]
    sizes_C = torch.bincount(probabilities_NC.argmax(1), minlength=num_clusters) / len(probabilities_NC)
    return confident if float(sizes_C.min()) >= SMALLEST_SHARE / num_clusters else 0.0


classifier = clustering.classifier


def figures(result: Result, data: ImageData, history: Sequence[Mapping[str, float]]) -> dict[str, CaptionedFigure]:
    features = clustering.features(result, data)
    return of_results.clustering(result, data, history, features) | of_results.refinement(result, data, features)
