"""SimCLR pretext: two views of an image attract each other, views of other images repel.

Source: SCAN's use of SimCLR (ResNet, MLP head without BN, SGD with a cosine schedule, no blur).
Differs from SimCLR's own recipe: only the first view is an anchor (``symmetry: one_sided``), as SCAN's code has it.
The last epoch's model is kept; labels enter the k-NN monitor of the result alone.

Axes: N images, B batch, C channels, H height, W width, D feature width.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass

import torch

from .. import settings
from ..interfaces import Epoch, ImageData, Result, Runtime
from ..maths import contrastive, schedules
from ..nets import backbones, models
from ..nets.precision import ComputeConfig
from ..training import loop, pretext
from ..training.optimizers import SgdConfig
from ..training.views import ViewsConfig

NAMESPACE = "pretext"
INPUTS: tuple[str, ...] = ()
VERSION = 5
METRICS = (*pretext.METRICS, "train_alignment")
CRITERION = None  # The loss means something else at every temperature and batch size.

TRAINS_ON_LABELS = False
WEIGHTS = ("backbone", "head")
ARRAYS = ("head_train", "head_eval", "backbone_train", "backbone_eval")
FACTS = ("network", "mining_space")
TINY: Mapping[str, settings.Plain] = {"augmentation": "affine", "batch_size": 24, "epochs": 1, "optimizer.lr": 3e-4}
SPACES = ("head", "backbone")


@dataclass(frozen=True, kw_only=True)
class Config:
    network: str = settings.setting(
        "auto",
        "backbone; auto picks by image size, from small at 8 px to resnet50 at 224 px",
        choices=("auto", *backbones.BACKBONES),
    )
    temperature: float = settings.setting(0.1, "divides the cosine similarities", above=0, high=10, symbol="τ")
    feature_dim: int = settings.setting(128, "width of the contrastive feature", low=2, high=4096)
    head: models.Head = settings.setting("mlp", "projection head: one hidden layer, or none")
    symmetry: str = settings.setting(
        "one_sided", "which views are anchors: the first, or both", choices=("one_sided", "symmetric")
    )
    epochs: int = settings.setting(500, "passes over the training images", low=1, unit="epochs")
    batch_size: int = settings.setting(512, "images in a step, over all workers", low=2, unit="images", symbol="B")
    optimizer: SgdConfig = settings.group(
        SgdConfig, lr=settings.setting(0.4, "learning rate of SGD at the start; falls along a cosine", above=0)
    )
    augmentation: str = settings.setting(
        "simclr", "how a view is drawn; affine is for tiny grey images", choices=("simclr", "standard", "affine")
    )
    views: ViewsConfig = settings.group(ViewsConfig)
    compute: ComputeConfig = settings.group(ComputeConfig)

    def __post_init__(self) -> None:
        settings.check(self)


limits = pretext.limits


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Train backbone and head; see the module's docstring.

    Returns:
        weights: backbone, head. arrays, float32, rows of length 1: head_train, head_eval (N, feature_dim),
        backbone_train, backbone_eval (N, D). facts: network, mining_space ("head").
    """
    network = backbones.resolve(config.network, data.shape)
    source = pretext.Source(config, data, data.pretext, runtime)
    model = pretext.contrastive_model(config, network, data, runtime)
    optimizer = pretext.sgd(config.optimizer, model)
    trained = runtime.prepare(model, config.compute)
    last = yield from loop.epochs(
        config.epochs,
        runtime,
        {"model": model, "optimizer": optimizer},
        lambda epoch: _epoch(config, source, trained, optimizer, epoch),
        lr_of=lambda epoch: schedules.cosine_scan(config.optimizer.lr, epoch, epochs=config.epochs),
    )
    return pretext.result(model, network, "head", last, source, temperature=config.temperature)


def _epoch(
    config: Config,
    source: pretext.Source,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    epoch: int,
) -> dict[str, float]:
    model.train()
    sums, steps = torch.zeros(2, device=source.runtime.device), 0
    for _, views in source.batches(epoch, num_views=2):
        z0_BD, z1_BD = (source.runtime.gather(z) for z in model(torch.cat(views)).chunk(2))
        loss = contrastive.nt_xent(
            z0_BD, z1_BD, temperature=config.temperature, symmetric=config.symmetry == "symmetric"
        )
        loop.step(loss, optimizer)
        sums += torch.stack((loss.detach(), contrastive.alignment(z0_BD, z1_BD).detach()))
        steps += 1
    loss_mean, alignment = (sums / steps).tolist()
    return {"loss": loss_mean, "train_alignment": alignment}
