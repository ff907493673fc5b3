"""MoCo pretext: a view must find the other view's key among the keys of earlier images.

Source: MoCo (He et al. 2020), Algorithm 1, and MoCo v2 (Chen et al. 2020), whose additions are the defaults. Version 1
is head linear, schedule step, temperature 0.07. Neighbors are mined among the backbone's features, as SCAN does with
MoCo's released weights. Differs: views are SimCLR's without the blur of v2.

Batch norms see parts of the batch, and the keys' images are dealt to the parts in another order than the queries', so
that statistics shared within a part tell nothing about the pairs. On one device the parts are emulated; with several
workers each holds some of them, and the numbers are the same.

Axes: B batch of this rank, T of all ranks, Q keys in the queue, D feature width.
"""

import copy
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import settings
from ..interfaces import DataShape, Epoch, ImageData, Result, Runtime
from ..maths import contrastive, schedules
from ..nets import backbones, models, momentum, precision
from ..nets.precision import ComputeConfig
from ..training import loop, pretext
from ..training.optimizers import SgdConfig
from ..training.views import ViewsConfig

NAMESPACE = "pretext"
INPUTS: tuple[str, ...] = ()
VERSION = 5
METRICS = (*pretext.METRICS, "train_alignment")
CRITERION = None  # The loss means something else at every temperature and queue size.

TRAINS_ON_LABELS = False
WEIGHTS = ("backbone", "head")
ARRAYS = ("head_train", "head_eval", "backbone_train", "backbone_eval")
FACTS = ("network", "mining_space")
TINY: Mapping[str, settings.Plain] = {
    "augmentation": "affine",
    "batch_size": 24,
    "epochs": 1,
    "optimizer.lr": 0.01,
    "queue_size": 48,
    "bn_splits": 2,
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
    temperature: float = settings.setting(0.2, "divides the cosine similarities", above=0, high=10, symbol="τ")
    feature_dim: int = settings.setting(128, "width of queries and keys", low=2, high=4096)
    head: models.Head = settings.setting("mlp", "projection head: one hidden layer (v2), or none")
    schedule: str = settings.setting("cosine", "how the rate falls; v1 has steps", choices=("cosine", "step"))
    queue_size: int = settings.setting(
        65536, "keys to be told from; trimmed to a multiple of the batch", low=2, unit="keys", symbol="K"
    )
    key_momentum: float = settings.setting(0.999, "what the key encoder keeps of itself in a step", low=0, below=1)
    bn_splits: int = settings.setting(
        8, "parts of a batch that are batch-normalized on their own; a multiple of the workers", low=1
    )
    epochs: int = settings.setting(200, "passes over the training images", low=1, unit="epochs")
    batch_size: int = settings.setting(256, "images in a step, over all workers", low=2, unit="images", symbol="B")
    optimizer: SgdConfig = settings.group(SgdConfig)
    augmentation: str = settings.setting(
        "simclr", "how a view is drawn; affine is for tiny grey images", choices=("simclr", "standard", "affine")
    )
    views: ViewsConfig = settings.group(ViewsConfig)
    compute: ComputeConfig = settings.group(ComputeConfig)

    def __post_init__(self) -> None:
        settings.check(self)


def limits(config: Config, shape: DataShape) -> Iterator[tuple[str, str]]:
    yield from pretext.limits(config, shape)
    if config.queue_size < config.batch_size:
        yield "queue_size", f"queue_size must be at least batch_size ({config.batch_size}), but is {config.queue_size}"
    if config.batch_size % config.bn_splits or config.batch_size < 2 * config.bn_splits:
        yield (
            "bn_splits",
            f"bn_splits must divide batch_size ({config.batch_size}) into parts of at least 2 images, "
            f"but is {config.bn_splits}",
        )


class Pair(nn.Module):
    """The parts of MoCo that no gradient reaches, saved together: the key encoder and its queue."""

    def __init__(self, model: models.ContrastiveModel, queue: momentum.KeyQueue) -> None:
        super().__init__()
        self.keys = copy.deepcopy(model).requires_grad_(False)
        self.queue = queue


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Train query and key encoders; the last epoch's query encoder is kept.

    Returns:
        weights: backbone, head. arrays, float32, rows of length 1: head_train, head_eval (N, feature_dim),
        backbone_train, backbone_eval (N, D). facts: network, mining_space ("backbone").

    Raises:
        ValueError: bn_splits is no multiple of the number of workers.
    """
    if config.bn_splits % runtime.world_size:
        raise ValueError(
            f"pretext.bn_splits is {config.bn_splits}, but {runtime.world_size} workers hold the parts of a batch; "
            "choose a multiple of them"
        )
    network = backbones.resolve(config.network, data.shape)
    source = pretext.Source(config, data, data.pretext, runtime)
    model = pretext.contrastive_model(config, network, data, runtime)
    momentum.split_batch_norms(model, config.bn_splits // runtime.world_size)
    length = config.queue_size // config.batch_size * config.batch_size
    queue = momentum.KeyQueue(length, config.feature_dim, runtime.generator("queue"))
    slow = Pair(model, queue)
    optimizer = pretext.sgd(config.optimizer, model)
    trained = runtime.prepare(model, config.compute)
    milestones = [round(share * config.epochs) for share in DROPS_AT]

    def rate(epoch: int) -> float:
        if config.schedule == "cosine":
            return schedules.cosine(config.optimizer.lr, epoch, epochs=config.epochs)
        return schedules.step(config.optimizer.lr, epoch, milestones=milestones, decay=0.1)

    last = yield from loop.epochs(
        config.epochs,
        runtime,
        {"model": model, "optimizer": optimizer, "slow": slow},
        lambda epoch: _epoch(config, source, trained, slow, optimizer, epoch),
        lr_of=rate,
    )
    return pretext.result(model, network, "backbone", last, source, temperature=config.temperature)


def _epoch(
    config: Config,
    source: pretext.Source,
    trained: nn.Module,
    slow: Pair,
    optimizer: torch.optim.Optimizer,
    epoch: int,
) -> dict[str, float]:
    trained.train()
    slow.train()
    keys = precision.without_gradient(slow.keys, config.compute, source.runtime.device)
    shuffle = source.runtime.generator("shuffle", epoch)
    sums, steps = torch.zeros(2, device=source.runtime.device), 0
    for batch, (view0_BCHW, view1_BCHW) in source.batches(epoch, num_views=2):
        query_TD = source.runtime.gather(trained(view0_BCHW))
        momentum.follow(slow.keys, trained, momentum=config.key_momentum)
        order_T = torch.randperm(batch.total, generator=shuffle, device=source.runtime.device)
        key_TD = shuffled_keys(keys, view1_BCHW, order_T, source.runtime)
        loss = contrastive.queue_nce(query_TD, key_TD, slow.queue.keys_QD, temperature=config.temperature)
        loop.step(loss, optimizer)
        slow.queue.put(key_TD)
        sums += torch.stack((loss.detach(), contrastive.alignment(query_TD, key_TD).detach()))
        steps += 1
    loss_mean, alignment = (sums / steps).tolist()
    return {"loss": loss_mean, "train_alignment": alignment}


@torch.no_grad()
def shuffled_keys(encoder: nn.Module, views_BCHW: Tensor, order_T: Tensor, runtime: Runtime) -> Tensor:
    """Keys (T, D) of the whole batch in its own order; each rank encodes its share of the images as ``order_T`` deals.

    Without dealing, a part's batch norm would hold the queries and keys of the same images, and leak which are pairs.
    """
    share = len(views_BCHW)
    all_TCHW = runtime.gather(views_BCHW)
    own_B = order_T[runtime.rank * share : (runtime.rank + 1) * share]
    keys_TD = runtime.gather(encoder(all_TCHW[own_B]))
    return keys_TD[order_T.argsort()]
