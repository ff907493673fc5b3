"""RotNet pretext: every image is shown turned by quarter turns, and the network says by how many.

Source: RotNet (Gidaris et al. 2018), Eq. 2 and 3, with its CIFAR-10 schedule; SCAN's Table 2 has it as one of its
pretexts. Rotations are exact; they follow the augmentation. Features for neighbors are the backbone's, since the head
knows four directions alone. Differs: RotNet pads its crops with black, ``spc_weak`` by reflection.

Axes: N images, B batch, R rotations, C channels, H height, W width, D feature width.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .. import settings
from ..interfaces import Epoch, ImageData, Result, Runtime
from ..maths import schedules
from ..nets import backbones, models
from ..nets.precision import ComputeConfig
from ..training import loop, pretext
from ..training.optimizers import SgdConfig
from ..training.views import ViewsConfig

NAMESPACE = "pretext"
INPUTS: tuple[str, ...] = ()
VERSION = 4
METRICS = (*pretext.METRICS, "rotations_right")
CRITERION = None  # Two and four rotations are tasks of different difficulty.

TRAINS_ON_LABELS = False
WEIGHTS = ("backbone", "head")
ARRAYS = ("backbone_train", "backbone_eval")
FACTS = ("network", "mining_space")
TINY: Mapping[str, settings.Plain] = {"augmentation": "affine", "batch_size": 24, "epochs": 1, "optimizer.lr": 0.01}
SPACES = ("backbone",)

DROPS_AT = (0.3, 0.6, 0.8)
"""Shares of the epochs after which the rate falls (60, 120 and 160 of 200), each time by DROP."""
DROP = 0.2
MONITOR_TEMPERATURE = 0.1


@dataclass(frozen=True, kw_only=True)
class Config:
    network: str = settings.setting(
        "auto",
        "backbone; auto picks by image size, from small at 8 px to resnet50 at 224 px",
        choices=("auto", *backbones.BACKBONES),
    )
    rotations: int = settings.setting(4, "4 turns by 0, 90, 180 and 270 degrees; 2 by 0 and 180", choices=(2, 4))
    epochs: int = settings.setting(200, "passes over the training images", low=1, unit="epochs")
    batch_size: int = settings.setting(
        128, "images in a step, over all workers, before they are turned", low=2, unit="images", symbol="B"
    )
    optimizer: SgdConfig = settings.group(
        SgdConfig,
        lr=settings.setting(0.1, "learning rate of SGD at the start; falls in three steps", above=0),
        weight_decay=5e-4,
    )
    augmentation: str = settings.setting(
        "spc_weak",
        "how an image is drawn before it is turned; spc_weak shifts and mirrors",
        choices=("spc_weak", "standard", "simclr", "affine"),
    )
    views: ViewsConfig = settings.group(ViewsConfig)
    compute: ComputeConfig = settings.group(ComputeConfig)

    def __post_init__(self) -> None:
        settings.check(self)


limits = pretext.limits


def turned(images_BCHW: Tensor, rotations: int) -> tuple[Tensor, Tensor]:
    """All images in each direction: (R B, C, H, W), direction by direction, and (R B,) int64 numbers of directions."""
    quarters = range(0, 4, 4 // rotations)
    all_BCHW = torch.cat([torch.rot90(images_BCHW, quarter, (2, 3)) for quarter in quarters])
    directions_B = torch.arange(rotations, device=images_BCHW.device).repeat_interleave(len(images_BCHW))
    return all_BCHW, directions_B


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Train backbone and a linear head of ``rotations`` outputs; the last epoch's model is kept.

    Returns:
        weights: backbone, head. arrays, float32, rows of length 1: backbone_train, backbone_eval (N, D).
        facts: network, mining_space ("backbone").
    """
    network = backbones.resolve(config.network, data.shape)
    source = pretext.Source(config, data, data.pretext, runtime)
    model = models.ClusteringModel(pretext.backbone(network, data.shape, runtime.seed), config.rotations)
    model = model.to(runtime.device)
    optimizer = pretext.sgd(config.optimizer, model, nesterov=True)
    trained = runtime.prepare(model, config.compute)
    milestones = [round(share * config.epochs) for share in DROPS_AT]
    last = yield from loop.epochs(
        config.epochs,
        runtime,
        {"model": model, "optimizer": optimizer},
        lambda epoch: _epoch(config, source, trained, optimizer, epoch),
        lr_of=lambda epoch: schedules.step(config.optimizer.lr, epoch, milestones=milestones, decay=DROP),
    )
    arrays = pretext.features(model, data, {"backbone": "features"})
    return Result(
        weights={"backbone": model.backbone.state_dict(), "head": model.heads[0].state_dict()},
        arrays=arrays,
        facts={"network": network, "mining_space": "backbone"},
        metrics={**last, **pretext.finished(model, arrays, "backbone", MONITOR_TEMPERATURE, source)},
    )


def _epoch(
    config: Config,
    source: pretext.Source,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    epoch: int,
) -> dict[str, float]:
    model.train()
    sums, steps = torch.zeros(2, device=source.runtime.device), 0
    for _, (views_BCHW,) in source.batches(epoch, num_views=1):
        all_BCHW, directions_B = turned(views_BCHW, config.rotations)
        (logits_BR,) = model(all_BCHW)
        # Ranks hold equal shares, so the mean of their gradients is that of the whole batch.
        loss = functional.cross_entropy(logits_BR, directions_B)
        loop.step(loss, optimizer)
        sums += torch.stack((loss.detach(), (logits_BR.argmax(dim=1) == directions_B).float().mean()))
        steps += 1
    loss_mean, right = pretext.mean_over_ranks(sums, steps, source.runtime)
    return {"loss": loss_mean, "rotations_right": right}
