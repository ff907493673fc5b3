"""What the probes share: a frozen backbone from a stage result, its maps, and heads that learn the labels from them.

A probe is the one place where labels are learned: it judges features, and nothing of it goes back into them.

Axes: N images, B batch, C channels, Y classes, L layers.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import settings
from ..data import augment, batches, geometry
from ..data.batch_random import BatchRandom
from ..interfaces import DataShape, Epoch, ImageData, Result, Runtime, Split
from ..nets import alexnet, backbones, feature_maps
from . import loop, whole_pictures

CROP_SHARE = 7 / 8
"""Side of a crop as a share of the kept image's: 224 of 256 px. Crops of smaller images are enlarged to their size."""


def frozen(probed: Result, data: ImageData, runtime: Runtime) -> backbones.Backbone:
    """The backbone that a stage left behind, on the device, in eval mode and without gradients.

    Raises:
        ValueError: the stage left none.
    """
    if "backbone" not in probed.weights or "network" not in probed.facts:
        raise ValueError("the stage before the probe left no backbone behind; a probe needs one to judge")
    backbone = backbones.build(
        probed.facts["network"],
        in_channels=data.shape.num_channels,
        image_size_px=data.shape.image_size_px,
        seed=runtime.seed,
        sobel=bool(probed.facts.get("sobel", False)),
    )
    backbone.load_state_dict(probed.weights["backbone"])
    return backbone.to(runtime.device).eval().requires_grad_(False)


def as_trained(probed: Result, data: ImageData) -> ImageData:
    """The same images with the mean and deviation by which the probed network saw them normalized: its own or none."""
    if probed.facts.get("normalized", True):
        return data
    channels = data.shape.num_channels
    return replace(data, mean=(0.0,) * channels, std=(1.0,) * channels)


def labeled_rows(split: Split) -> Tensor:
    """Rows with a label, on the labels' device.

    Raises:
        ValueError: there is none.
    """
    rows_N = (split.labels_N >= 0).nonzero().squeeze(1)
    if not len(rows_N):
        raise ValueError("a probe learns from labels, but no image of this data set has one; take the probe out")
    return rows_N


def label_share_setting() -> Any:
    """The field ``label_share`` of every probe that trains."""
    return settings.setting(
        1.0,
        "share of the labeled training images of each class to learn from, drawn by the seed; at least one of each",
        above=0,
        high=1,
    )


def num_drawn(class_size: int, label_share: float) -> int:
    """How many of a class's labeled images ``drawn_rows`` takes."""
    return min(class_size, max(1, round(label_share * class_size)))


def drawn_rows(split: Split, label_share: float, runtime: Runtime) -> Tensor:
    """Rows to learn from, sorted, int64 on the runtime's device: ``num_drawn`` of each class, the same on every rank.

    Raises:
        ValueError: as ``labeled_rows``.
    """
    rows_N = labeled_rows(split)
    if label_share == 1:
        return rows_N.to(runtime.device)
    order_N = torch.randperm(len(rows_N), generator=runtime.generator("labels"), device=runtime.device)
    shuffled_N = rows_N.to(runtime.device)[order_N]
    labels_N = split.labels_N.to(runtime.device)[shuffled_N]
    by_class = shuffled_N[labels_N.argsort(stable=True)].split(labels_N.bincount().tolist())
    return torch.cat([rows_Y[: num_drawn(len(rows_Y), label_share)] for rows_Y in by_class]).sort().values


def limits(batch_size: int, label_share: float, shape: DataShape) -> Iterator[tuple[str, str]]:
    """What the data set's size forbids."""
    num, what = shape.num_train, "training images"
    if label_share < 1 and shape.num_classes:
        sizes = shape.class_sizes or (shape.num_train_labeled // shape.num_classes,) * shape.num_classes
        num, what = (
            sum(num_drawn(size, label_share) for size in sizes),
            f"images that label_share {label_share:g} draws",
        )
    if batch_size > num:
        yield "batch_size", f"batch_size must be at most the number of {what} ({num}), but is {batch_size}"


class Lasting(Protocol):
    """Settings of the training of heads."""

    @property
    def epochs(self) -> int: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def label_share(self) -> float: ...


class Heads(nn.Module):
    """One classifier per layer, trained side by side on the maps of one forward pass; none knows of the others."""

    def __init__(self, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(heads)

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:
        """(L, B, Y) logits, in the order of the heads."""
        return torch.stack([head(maps[layer]) for layer, head in self.heads.items()])


@dataclass(frozen=True)
class Probe:
    """What an epoch needs. heads: as the runtime wraps them. view: "crop", or "plain" for images as they are."""

    backbone: backbones.Backbone
    heads: nn.Module
    layers: tuple[str, ...]
    data: ImageData
    runtime: Runtime
    view: str

    def images(self, kept_BCHW: Tensor, crops_B4: Tensor | None, flip_B: Tensor | None) -> Tensor:
        """Normalized images, cut out and mirrored where that is asked for, and otherwise as networks see them."""
        norm = augment.Norm(self.data.mean, self.data.std)
        if crops_B4 is not None and flip_B is not None:
            return norm.apply(geometry.resized_crop(kept_BCHW.float().div_(255), crops_B4, flip_B))
        return augment.judged(kept_BCHW, norm)

    def maps(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return feature_maps.collect(self.backbone, images_BCHW, self.layers)


def trained(
    config: Lasting,
    probe: Probe,
    heads: Heads,
    optimizer: torch.optim.Optimizer,
    *,
    ten_crops: bool,
    lr_of: Callable[[int, int], float] | None = None,
) -> Generator[Epoch, None, Result]:
    """Train the heads of a probe on the labels, and hold each one's predictions against them.

    Args:
        heads: those of the probe, bare.
        ten_crops: whether ten crops of an evaluation image vote.
        lr_of: the learning rate of a step, by its epoch and its number in the whole training, both from 0.

    Returns:
        weights: heads. facts: layers. metrics: the loss, each layer's accuracy on both splits, and num_labeled, how
        many images the heads learned from.
    """
    count, rows_N = loop.Values(steps=0), drawn_rows(probe.data.train, config.label_share, probe.runtime)

    def run(number: int) -> dict[str, float]:
        def before_step() -> None:
            if lr_of is not None:
                loop.set_lr(optimizer, lr_of(number, count["steps"]))
            count["steps"] += 1

        metrics = epoch(probe, rows_N, optimizer, config.batch_size, number, before_step)
        return metrics if lr_of is None else metrics | {"lr": optimizer.param_groups[0]["lr"]}

    parts: dict[str, loop.Stateful] = {"heads": heads, "optimizer": optimizer, "count": count}
    last = yield from loop.epochs(config.epochs, probe.runtime, parts, run)
    return Result(
        weights={"heads": heads.state_dict()},
        facts={"layers": list(probe.layers)},
        metrics={
            **last,
            "num_labeled": float(len(rows_N)),
            **accuracies(probe, heads, config.batch_size, ten_crops=ten_crops),
        },
    )


def epoch(  # noqa: PLR0913 - what decides an epoch
    probe: Probe,
    rows_N: Tensor,
    optimizer: torch.optim.Optimizer,
    batch_size: int,
    number: int,
    before_step: Callable[[], None],
) -> dict[str, float]:
    """One pass over these training images: the mean loss of the heads, and each one's training accuracy."""
    data, runtime, device = probe.data, probe.runtime, probe.runtime.device
    labels_N = data.train.labels_N.to(device)
    views, dropped = runtime.generator("views", number), runtime.generator("dropout", number)
    probe.heads.train()
    sums_L, loss_sum, steps = torch.zeros(len(probe.layers), device=device), torch.zeros((), device=device), 0
    order = runtime.batches(len(rows_N), batch_size, number, drop_last=False)
    for batch in batches.announced(data.train, rows_N, order):
        rows_B = rows_N[batch.rows_B]
        crops_B4 = flip_B = None
        if probe.view == "crop":
            draws = BatchRandom(views, batch.total, batch.start, len(rows_B))
            crops_B4, flip_B = _random_crops(draws, data.train.images_NCHW.shape[-1]), draws.bernoulli(0.5)
        alexnet.feed_dropout(probe.heads, BatchRandom(dropped, batch.total, batch.start, len(rows_B)))
        kept_BCHW = data.train.images_NCHW[rows_B].to(device)
        logits_LBY = probe.heads(probe.maps(probe.images(kept_BCHW, crops_B4, flip_B)))
        own_B = labels_N[rows_B]
        losses_L = torch.stack([functional.cross_entropy(logits_BY, own_B) for logits_BY in logits_LBY])
        before_step()
        # The heads share nothing, so the sum's gradient is each one's own.
        loop.step(losses_L.sum(), optimizer)
        loss_sum += runtime.gather(losses_L.detach().mean()[None]).mean()
        right_BL = (logits_LBY.detach().argmax(2) == own_B).T.float()
        sums_L += runtime.gather(right_BL).mean(0)
        steps += 1
    alexnet.feed_dropout(probe.heads, None)
    loss, *right = (torch.cat([loss_sum[None], sums_L]) / steps).tolist()
    return {"loss": loss} | {f"{layer}_train_acc": each for layer, each in zip(probe.layers, right, strict=True)}


@torch.no_grad()
def accuracies(probe: Probe, heads: nn.Module, batch_size: int, *, ten_crops: bool) -> dict[str, float]:
    """Share of the labeled evaluation images that each head has right; ten crops vote with their mean probability.

    heads: bare. Every rank judges all images, so that none of them needs the others.
    """
    data, device = probe.data, probe.runtime.device
    rows_N, labels_N = labeled_rows(data.eval).to(device), data.eval.labels_N.to(device)
    right_L = torch.zeros(len(probe.layers), device=device)
    heads.eval()
    if not (ten_crops and whole_pictures.are_whole(data.eval.images_NCHW)):
        batches.announce(data.eval, rows_N)
    for rows_B in rows_N.split(batch_size):
        share_LBY = torch.zeros((), device=device)
        for images_BCHW in _judged(probe, rows_B, ten_crops):
            share_LBY = share_LBY + heads(probe.maps(images_BCHW)).softmax(2)
        right_L += (share_LBY.argmax(2) == labels_N[rows_B]).sum(1)
    shares = (right_L / len(rows_N)).tolist()
    return {f"{layer}_acc": share for layer, share in zip(probe.layers, shares, strict=True)}


def _judged(probe: Probe, rows_B: Tensor, ten_crops: bool) -> Iterator[Tensor]:
    """The views by which evaluation images are judged: the ten crops one after another, or the images themselves."""
    kept, device = probe.data.eval.images_NCHW, probe.runtime.device
    if ten_crops and whole_pictures.are_whole(kept):
        norm = augment.Norm(probe.data.mean, probe.data.std)
        for mirrored in (False, True):
            for place in _PLACES:
                yield whole_pictures.window(kept, rows_B, place, mirrored, norm)
        return
    kept_BCHW = kept[rows_B].to(device)
    if not ten_crops:
        yield probe.images(kept_BCHW, None, None)
        return
    for crop_4, mirrored in _ten_crops(kept.shape[-1]):
        crops_B4 = torch.tensor(crop_4, device=device).expand(len(rows_B), 4)
        yield probe.images(kept_BCHW, crops_B4, torch.full((len(rows_B),), mirrored, device=device))


def known_layers(probed: Result, shape: DataShape, wanted: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Layer -> shape of its map, of those in ``wanted`` that the probed network has."""
    shapes = feature_maps.shapes(probed.facts["network"], shape, bool(probed.facts.get("sobel", False)))
    return {layer: shapes[layer] for layer in wanted if layer in shapes}


def _crop_px(size_px: int) -> int:
    return max(1, round(size_px * CROP_SHARE))


def _random_crops(draws: BatchRandom, size_px: int) -> Tensor:
    side = _crop_px(size_px)
    corner_B2 = draws.integers(0, size_px - side + 1, 2)
    return torch.cat([corner_B2, torch.full_like(corner_B2, side)], dim=1)


_PLACES = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5))
"""Where in its room a crop lies, down and across: the four corners and the middle."""


def _ten_crops(size_px: int) -> list[tuple[tuple[int, int, int, int], bool]]:
    """The four corners and the middle, each also mirrored: (top, left, height, width) and whether mirrored."""
    side = _crop_px(size_px)
    corners = [(int(down * (size_px - side)), int(across * (size_px - side))) for down, across in _PLACES]
    return [((top, left, side, side), mirrored) for mirrored in (False, True) for top, left in corners]
