"""SimCLR pretext: two views of an image attract each other, views of other images repel.

Source: SCAN's use of SimCLR (ResNet, MLP head without BN, SGD with a cosine schedule, no blur).
Differs from SimCLR's own recipe: only the first view is an anchor (``symmetry: one_sided``), as SCAN's code has it.
The last epoch's model is kept; nothing here looks at labels.

Axes: N images, B batch, C channels, H height, W width, D feature width.
"""

import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .. import checks
from ..contract import DataShape, Epoch, ImageData, Result, Runtime
from ..data import augment, stream
from ..data.draws import Draws
from ..maths import contrast, schedules
from ..nets import backbones, models

NAMESPACE = "pretext"
INPUTS: tuple[str, ...] = ()
VERSION = 1
METRICS = ("loss", "alignment", "lr", "epoch_seconds")
CRITERION = None  # The loss means something else at every temperature and batch size.


@dataclass(frozen=True, kw_only=True)
class Config:
    network: str = checks.setting(
        "auto",
        "backbone; auto picks by image size, from small at 8 px to resnet50 at 224 px",
        choices=("auto", *backbones.BACKBONES),
    )
    temperature: float = checks.setting(0.1, "divides the cosine similarities", above=0, high=10, symbol="τ")
    feature_dim: int = checks.setting(128, "width of the contrastive feature", low=2, high=4096)
    head: str = checks.setting("mlp", "projection head: one hidden layer, or none", choices=("mlp", "linear"))
    symmetry: str = checks.setting(
        "one_sided", "which views are anchors: the first, or both", choices=("one_sided", "symmetric")
    )
    epochs: int = checks.setting(500, "passes over the training images", low=1, unit="epochs")
    batch_size: int = checks.setting(512, "images in a step, over all workers", low=2, unit="images", symbol="B")
    lr: float = checks.setting(0.4, "learning rate of SGD at the start; falls along a cosine", above=0)
    momentum: float = checks.setting(0.9, "momentum of SGD", low=0, below=1)
    weight_decay: float = checks.setting(1e-4, "L2 penalty, on every parameter", low=0)
    augmentation: str = checks.setting(
        "simclr", "how a view is drawn; affine is for tiny grey images", choices=("simclr", "standard", "affine")
    )
    crop_min_area: float = checks.setting(
        0.2, "smallest share of the image that a crop covers", above=0, high=1, when={"augmentation": ("simclr",)}
    )
    jitter_scale: float = checks.setting(
        1.0, "multiplies the strengths of color jitter", low=0, high=2, when={"augmentation": ("simclr",)}
    )
    affine_scale: float = checks.setting(
        1.0, "multiplies the ranges of the affine views", low=0, high=2, when={"augmentation": ("affine",)}
    )

    def __post_init__(self) -> None:
        checks.check(self)


def limits(config: Config, shape: DataShape) -> Iterator[tuple[str, str]]:
    if config.batch_size > shape.num_train:
        yield "batch_size", f"batch_size is {config.batch_size}, but the data set trains on {shape.num_train} images"
    try:
        backbones.check_size(backbones.resolve(config.network, shape), shape.image_size_px)
    except ValueError as error:
        yield "network", str(error)


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Train backbone and head; see the module's docstring.

    Returns:
        weights: backbone, head. arrays, float32, rows of length 1: head_train, head_eval (N, feature_dim),
        backbone_train, backbone_eval (N, D). facts: network, mining_space ("head").
    """
    network = backbones.resolve(config.network, data.shape)
    shape = data.shape
    backbone = backbones.build(
        network, in_channels=shape.num_channels, image_size_px=shape.image_size_px, seed=runtime.seed
    )
    model = models.ContrastiveModel(backbone, config.feature_dim, config.head).to(runtime.device)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
    )
    done, metrics = 0, {}
    saved = runtime.resume()
    if saved is not None:
        done, metrics = saved["epoch"], dict(saved["metrics"])
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    trained = runtime.prepare(model)
    for epoch in range(done, config.epochs):
        started = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = schedules.cosine_scan(config.lr, epoch, epochs=config.epochs)
        metrics = _epoch(config, data, trained, optimizer, runtime, epoch)
        metrics |= {"lr": optimizer.param_groups[0]["lr"], "epoch_seconds": time.perf_counter() - started}
        yield Epoch(
            epoch + 1,
            config.epochs,
            metrics,
            lambda number=epoch + 1, last=metrics: {  # type: ignore[misc]
                "epoch": number,
                "metrics": last,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
            },
        )
    arrays: dict[str, Any] = {}
    for part, split in (("train", data.train), ("eval", data.eval)):
        if part == "eval" and data.is_union:
            arrays |= {"head_eval": arrays["head_train"], "backbone_eval": arrays["backbone_train"]}
            continue
        for space, what in (("head", "embeddings"), ("backbone", "features")):
            rows_ND = models.predict(model, split.images_NCHW, data.mean, data.std, what=what)  # type: ignore[arg-type]
            arrays[f"{space}_{part}"] = torch.nn.functional.normalize(rows_ND).cpu().numpy()
    return Result(
        weights={"backbone": model.backbone.state_dict(), "head": model.head.state_dict()},
        arrays=arrays,
        facts={"network": network, "mining_space": "head"},
        metrics=metrics,
    )


def _epoch(
    config: Config,
    data: ImageData,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    runtime: Runtime,
    epoch: int,
) -> dict[str, float]:
    norm = augment.Norm(data.mean, data.std)
    strength = augment.Strength(
        crop_min_area=config.crop_min_area, jitter=config.jitter_scale, affine=config.affine_scale
    )
    view = augment.AUGMENTATIONS[config.augmentation]
    draws_generator = runtime.generator("views", epoch)
    model.train()
    sums, steps = torch.zeros(2, device=runtime.device), 0
    for batch in stream.batches(
        data.train,
        config.batch_size,
        runtime.generator("order", epoch),
        rank=runtime.rank,
        world_size=runtime.world_size,
        drop_last=True,
    ):
        images = data.train.images_NCHW[batch.rows_B]
        views = []
        for _ in range(2):
            draws = Draws(draws_generator, batch.total, batch.start, len(batch.rows_B))
            views.append(view(images, draws, norm, strength))
        z0_BD, z1_BD = (runtime.gather(z) for z in model(torch.cat(views)).chunk(2))
        loss = contrast.nt_xent(z0_BD, z1_BD, temperature=config.temperature, symmetric=config.symmetry == "symmetric")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        sums += torch.stack((loss.detach(), contrast.alignment(z0_BD, z1_BD).detach()))
        steps += 1
    loss_mean, alignment = (sums / steps).tolist()
    return {"loss": loss_mean, "alignment": alignment}
