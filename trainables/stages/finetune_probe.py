"""Fine-tuning: how well the classes are told apart when the whole network goes on learning, with labels, from here.

Source: SwAV's semi-supervised evaluation: SGD with one rate for the network and a larger one for the new linear layer,
both along a cosine, crops and mirroring, no decay. The last epoch is reported. Differs: every label is used, and rates
fall once an epoch.

Axes: N images, B batch, Y classes.
"""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import settings
from ..data import augment, batches
from ..data.batch_random import BatchRandom
from ..interfaces import DataShape, Epoch, ImageData, Result, Runtime, Split
from ..maths import schedules
from ..nets import models
from ..nets.precision import ComputeConfig
from ..training import clustering, loop, probing

NAMESPACE = "finetune_probe"
INPUTS = ("probed",)
VERSION = 2
METRICS = ("loss", "output_train_acc", "output_acc", "lr", "epoch_seconds")
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
    optimizer: OptimizerConfig = settings.group(OptimizerConfig)
    compute: ComputeConfig = settings.group(ComputeConfig)
    augmentation: str = settings.setting(
        "standard", "how training images are drawn; affine is for tiny grey images",
        choices=("standard", "affine", "eval"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        settings.check(self)


def limits(config: Config, shape: DataShape) -> Iterator[tuple[str, str]]:
    yield from probing.limits(config.batch_size, shape)


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Train the backbone and a linear layer on all labels.

    Returns:
        weights: backbone, head. metrics: the loss and the accuracy on both splits.

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

    def run(epoch: int) -> dict[str, float]:
        for group, lr in zip(optimizer.param_groups, (config.optimizer.lr, config.optimizer.head_lr), strict=True):
            group["lr"] = schedules.cosine(lr, epoch, epochs=config.epochs)
        loss = _epoch(config, data, trained, optimizer, runtime, epoch)
        return {"loss": loss, "output_acc": _accuracy(model, data.eval, data), "lr": optimizer.param_groups[0]["lr"]}

    last = yield from loop.epochs(config.epochs, runtime, {"model": model, "optimizer": optimizer}, run)
    return Result(
        weights=clustering.parts(model), metrics={**last, "output_train_acc": _accuracy(model, data.train, data)}
    )


def _epoch(
    config: Config,
    data: ImageData,
    trained: nn.Module,
    optimizer: torch.optim.Optimizer,
    runtime: Runtime,
    epoch: int,
) -> float:
    """The mean loss of one pass over the labeled training images."""
    rows_N = probing.labeled_rows(data.train).to(runtime.device)
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


def _accuracy(model: models.ClusteringModel, split: Split, data: ImageData) -> float:
    """Share of the labeled images that the model has right."""
    rows_N = probing.labeled_rows(split).cpu()
    predicted_N: Tensor = clustering.probabilities(model, split, data)[0].argmax(1)
    return float((predicted_N[rows_N] == split.labels_N.cpu()[rows_N]).double().mean())
