"""Instance discrimination pretext: every image is told from all others by a memory of their features.

Source: InstDisc (Wu et al. 2018): the full softmax over the memory (Eq. 2), or its noise-contrastive estimate (Eq. 6)
with the constant Z measured on the first batch (Eq. 7). Its proximal term (Eq. 8) is left out, as in its published
training. The memory holds the images of ``data.pretext``. Differs: views are SimCLR's, which also mirror.

Axes: N images, B batch, K negatives, M the own row and the K negatives, D feature width.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import settings
from ..data.batch_random import BatchRandom
from ..interfaces import Epoch, ImageData, Result, Runtime
from ..maths import instance_discrimination, schedules
from ..nets import backbones, models
from ..nets.precision import ComputeConfig
from ..training import loop, pretext
from ..training.optimizers import SgdConfig
from ..training.views import ViewsConfig

NAMESPACE = "pretext"
INPUTS: tuple[str, ...] = ()
VERSION = 4
METRICS = pretext.METRICS
CRITERION = None  # The loss means something else at every temperature and number of negatives.

TRAINS_ON_LABELS = False
WEIGHTS = ("backbone", "head")
ARRAYS = ("head_train", "head_eval", "backbone_train", "backbone_eval")
FACTS = ("network", "mining_space")
TINY: Mapping[str, settings.Plain] = {
    "augmentation": "affine",
    "batch_size": 24,
    "epochs": 1,
    "optimizer.lr": 1e-3,
    "negatives": 5,
}
SPACES = ("head", "backbone")

DROPS_AT = (0.6, 0.8)
"""Shares of the epochs after which the rate falls (120 and 160 of 200), each time to a tenth."""


@dataclass(frozen=True, kw_only=True)
class Config:
    network: str = settings.setting(
        "auto",
        "backbone; auto picks by image size, from small at 8 px to resnet50 at 224 px",
        choices=("auto", *backbones.BACKBONES),
    )
    temperature: float = settings.setting(0.1, "divides the cosine similarities", above=0, high=10, symbol="τ")
    feature_dim: int = settings.setting(128, "width of the feature and of the memory", low=2, high=4096)
    head: models.Head = settings.setting("linear", "projection head: none, or one hidden layer")
    negatives: int = settings.setting(
        0, "images drawn as noise for each image; 0 is the full softmax over all of them", low=0, symbol="m"
    )
    memory_momentum: float = settings.setting(
        0.5, "what a memory row keeps of itself when it is renewed", low=0, below=1
    )
    epochs: int = settings.setting(200, "passes over the training images", low=1, unit="epochs")
    batch_size: int = settings.setting(128, "images in a step, over all workers", low=2, unit="images", symbol="B")
    optimizer: SgdConfig = settings.group(
        SgdConfig,
        lr=settings.setting(0.03, "learning rate of SGD at the start; falls in two steps", above=0),
        weight_decay=5e-4,
    )
    augmentation: str = settings.setting(
        "simclr", "how a view is drawn; affine is for tiny grey images", choices=("simclr", "standard", "affine")
    )
    views: ViewsConfig = settings.group(ViewsConfig)
    compute: ComputeConfig = settings.group(ComputeConfig)

    def __post_init__(self) -> None:
        settings.check(self)


limits = pretext.limits


class Memory(nn.Module):
    """A feature of every image, and the constant Z (0 until it was measured), saved with the model's state."""

    def __init__(self, memory_ND: Tensor) -> None:
        super().__init__()
        self.memory_ND: Tensor
        self.constant: Tensor
        self.register_buffer("memory_ND", memory_ND)
        self.register_buffer("constant", torch.zeros((), device=memory_ND.device))


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Train backbone and head; the last epoch's model is kept.

    Returns:
        weights: backbone, head. arrays, float32, rows of length 1: head_train, head_eval (N, feature_dim),
        backbone_train, backbone_eval (N, D). facts: network, mining_space ("head").
    """
    network = backbones.resolve(config.network, data.shape)
    source = pretext.Source(config, data, data.pretext, runtime)
    model = pretext.contrastive_model(config, network, data, runtime)
    memory = Memory(
        instance_discrimination.fresh_memory(len(source.images), config.feature_dim, runtime.generator("memory"))
    )
    optimizer = pretext.sgd(config.optimizer, model)
    trained = runtime.prepare(model, config.compute)
    milestones = [round(share * config.epochs) for share in DROPS_AT]
    last = yield from loop.epochs(
        config.epochs,
        runtime,
        {"model": model, "optimizer": optimizer, "memory": memory},
        lambda epoch: _epoch(config, source, trained, memory, optimizer, epoch),
        lr_of=lambda epoch: schedules.step(config.optimizer.lr, epoch, milestones=milestones, decay=0.1),
    )
    return pretext.result(model, network, "head", last, source, temperature=config.temperature)


def _epoch(
    config: Config,
    source: pretext.Source,
    model: nn.Module,
    memory: Memory,
    optimizer: torch.optim.Optimizer,
    epoch: int,
) -> dict[str, float]:
    model.train()
    noise = source.runtime.generator("negatives", epoch)
    sums, steps = torch.zeros(1, device=source.runtime.device), 0
    for batch, (views_BCHW,) in source.batches(epoch, num_views=1):
        features_BD = model(views_BCHW)
        # Ranks hold equal shares, so the mean of their gradients is that of the whole batch.
        if config.negatives:
            draws = BatchRandom(noise, batch.total, batch.start, len(batch.rows_B))
            others_BK = draws.integers(0, len(source.images), config.negatives)
            loss = _estimate(
                config, features_BD, torch.cat([batch.rows_B[:, None], others_BK], 1), memory, source.runtime
            )
        else:
            loss = instance_discrimination.full_softmax(
                features_BD, memory.memory_ND, batch.rows_B, temperature=config.temperature
            )
        loop.step(loss, optimizer)
        instance_discrimination.remember(
            memory.memory_ND,
            source.runtime.gather(batch.rows_B),
            source.runtime.gather(features_BD.detach()),
            momentum=config.memory_momentum,
        )
        sums += loss.detach()
        steps += 1
    (loss_mean,) = pretext.mean_over_ranks(sums, steps, source.runtime)
    return {"loss": loss_mean}


def _estimate(config: Config, features_BD: Tensor, rows_BM: Tensor, memory: Memory, runtime: Runtime) -> Tensor:
    num_images = len(memory.memory_ND)
    weights_BM = instance_discrimination.weights(features_BD, memory.memory_ND[rows_BM], temperature=config.temperature)
    measured = runtime.gather(instance_discrimination.estimated_constant(weights_BM, num_images).unsqueeze(0)).mean()
    memory.constant.copy_(torch.where(memory.constant > 0, memory.constant, measured))
    return instance_discrimination.nce(weights_BM, memory.constant, num_images)
