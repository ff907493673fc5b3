"""Fine-tuning: how well the classes are told apart when the whole network goes on learning, with labels, from here.

Source: SwAV's semi-supervised evaluation: SGD with one rate for the network and a larger one for the new linear layer,
both along a cosine, crops and mirroring, no decay. The last epoch is reported. Differs: rates fall once an epoch, and
the default is every label; SwAV's 1 % is ``label_share: 0.01``, of other images than its published lists.
After ``pretext: untrained`` it is supervised training from scratch.

Axes: N images, B batch, Y classes.
"""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import settings
from ..data import augment, batches, splits
from ..data.batch_random import BatchRandom
from ..interfaces import DataShape, Epoch, ImageData, Result, Runtime
from ..maths import metrics, schedules
from ..nets import models
from ..nets.precision import ComputeConfig
from ..training import clustering, loop, probing

NAMESPACE = "finetune_probe"
INPUTS = ("probed",)
VERSION = 3
METRICS = (
    "loss",
    "output_train_acc",
    *("output_acc", "output_top5", "output_nmi", "output_ari"),
    "num_labeled",
    "lr",
    "epoch_seconds",
)
CRITERION = None  # It looks at labels.

TRAINS_ON_LABELS = True
WEIGHTS = ("backbone", "head")
ARRAYS: tuple[str, ...] = ()
FACTS: tuple[str, ...] = ()
TINY: Mapping[str, settings.Plain] = {"augmentation": "affine", "batch_size": 24, "epochs": 1, "optimizer.lr": 1e-3}


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """SGD with a learning rate for the network and one for the linear layer."""

    lr: float = settings.setting(0.01, "learning rate of the network at the start", above=0)
    head_lr: float = settings.setting(0.2, "learning rate of the linear layer at the start", above=0)
    momentum: float = settings.setting(0.9, "momentum of SGD", low=0, below=1)
    weight_decay: float = settings.setting(0.0, "L2 penalty, on every parameter", low=0)

    def __post_init__(self) -> None:
        settings.check(self)


@dataclass(frozen=True, kw_only=True)
class Config:
    epochs: int = settings.setting(20, "passes over the training images", low=1, unit="epochs")
    batch_size: int = settings.setting(256, "images in a step, over all workers", low=2, unit="images", symbol="B")
    label_share: float = probing.label_share_setting()
    optimizer: OptimizerConfig = settings.group(OptimizerConfig)
    compute: ComputeConfig = settings.group(ComputeConfig)
    augmentation: str = settings.setting(
        "standard", "how training images are drawn; spc_weak shifts and mirrors, affine is for tiny grey images",
        choices=("standard", "spc_weak", "affine", "eval"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        settings.check(self)


def limits(config: Config, shape: DataShape) -> Iterator[tuple[str, str]]:
    yield from probing.limits(config.batch_size, config.label_share, shape)


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Train the backbone and a linear layer on the labels that are drawn.

    Returns:
        weights: backbone, head. metrics: the loss; accuracy, top-5 (of five classes or more), NMI and ARI of the
        predicted classes of the evaluation images; the accuracy on the images learned from, and their number.

    Raises:
        ValueError: no backbone, or no labels.
    """
    data = probing.as_trained(inputs["probed"], data)
    backbone = probing.frozen(inputs["probed"], data, runtime).requires_grad_(True)
    model = models.ClusteringModel(backbone, len(data.class_names), seed=runtime.seed).to(runtime.device)
    optimizer = torch.optim.SGD(
        [{"params": list(backbone.parameters())}, {"params": list(model.heads.parameters())}],
        lr=config.optimizer.lr,
        momentum=config.optimizer.momentum,
        weight_decay=config.optimizer.weight_decay,
        fused=True,
    )
    trained = runtime.prepare(model, config.compute)
    rows_N = probing.drawn_rows(data.train, config.label_share, runtime)

    def run(epoch: int) -> dict[str, float]:
        for group, lr in zip(optimizer.param_groups, (config.optimizer.lr, config.optimizer.head_lr), strict=True):
            group["lr"] = schedules.cosine(lr, epoch, epochs=config.epochs)
        loss = _epoch(config, data, rows_N, trained, optimizer, runtime, epoch)
        return {"loss": loss, **_judged(model, data), "lr": optimizer.param_groups[0]["lr"]}

    last = yield from loop.epochs(config.epochs, runtime, {"model": model, "optimizer": optimizer}, run)
    learned = {"output_train_acc": _train_accuracy(model, data, rows_N), "num_labeled": float(len(rows_N))}
    return Result(weights=clustering.parts(model), metrics={**last, **learned})


def _epoch(  # noqa: PLR0913 - what decides an epoch
    config: Config,
    data: ImageData,
    rows_N: Tensor,
    trained: nn.Module,
    optimizer: torch.optim.Optimizer,
    runtime: Runtime,
    epoch: int,
) -> float:
    """The mean loss of one pass over these training images."""
    norm, views = augment.Norm(data.mean, data.std), runtime.generator("views", epoch)
    trained.train()
    total, steps = torch.zeros((), device=runtime.device), 0
    order = runtime.batches(len(rows_N), config.batch_size, epoch, drop_last=False)
    for batch in batches.announced(data.train, rows_N, order):
        rows_B = rows_N[batch.rows_B]
        draws = BatchRandom(views, batch.total, batch.start, len(rows_B))
        images_BCHW = augment.AUGMENTATIONS[config.augmentation](data.train.images_NCHW[rows_B], draws, norm)
        loss = functional.cross_entropy(trained(images_BCHW)[0], data.train.labels_N[rows_B])
        loop.step(loss, optimizer)
        total += runtime.gather(loss.detach()[None]).mean()
        steps += 1
    return float(total / steps)


def _judged(model: models.ClusteringModel, data: ImageData) -> dict[str, float]:
    """How well the model knows the labeled evaluation images: its classes are theirs, so nothing is mapped."""
    rows_N = probing.labeled_rows(data.eval).cpu()
    probabilities_NY = clustering.probabilities(model, data.eval, data)[0][rows_N]
    labels_N, num_classes = data.eval.labels_N.cpu()[rows_N], len(data.class_names)
    predicted_N = probabilities_NY.argmax(1)
    counts_YY = metrics.contingency(predicted_N.numpy(), labels_N.numpy(), num_classes, num_classes)
    top5 = metrics.top5(probabilities_NY, labels_N, np.arange(num_classes))
    return {
        "output_acc": float((predicted_N == labels_N).double().mean()),
        **({} if top5 is None else {"output_top5": top5}),
        "output_nmi": metrics.nmi(counts_YY),
        "output_ari": metrics.ari(counts_YY),
    }


def _train_accuracy(model: models.ClusteringModel, data: ImageData, rows_N: Tensor) -> float:
    """Share of these training images that the model has right, as they are."""
    predicted_N = clustering.probabilities(model, splits.picked(data.train, rows_N), data)[0].argmax(1)
    return float((predicted_N == data.train.labels_N[rows_N].cpu()).double().mean())
