"""SwAV: views of an image predict each other's codes, which deal every batch to prototypes in equal parts.

Source: Caron et al. 2020 (SwAV), Eq. 1-3, multi-crop (section 3.2) and its public code: prototypes are made unit
vectors before every step and stay where they are in the first ones; with small batches codes are computed together with
a queue of earlier embeddings, once it is full; LARC with a warm-up and a cosine. All images are trained on, unlabeled
ones too. Clusters are the prototypes: an image belongs to the nearest. With more prototypes than classes this is
over-clustering, of which ``acc_majority`` is to be read, and what was learned is better judged by
``probes: [linear_probe]``. The last epoch is kept.

With alternating normalization (AN, see ``training.alternating_normalization``) corrected rows replace the codes of a
batch, without its queue; weights by uncertainty multiply each of the cross entropies in which a code is the target.

Not in the paper: ``view_agreement``, by which settings are chosen. The loss means something else at every temperature,
epsilon and number of prototypes.

Axes: N images, B batch of this rank, T of all ranks, V crops, E embedding width, K prototypes.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import settings
from ..data import augment, multicrop
from ..data.batch_random import BatchRandom
from ..figures import of_results
from ..interfaces import EVERY_SET, Batch, CaptionedFigure, DataShape, Epoch, ImageData, Result, Runtime, Split
from ..maths import metrics, schedules, sinkhorn
from ..nets import backbones, larc, models
from ..nets import swav as nets
from ..nets.precision import ComputeConfig
from ..training import alternating_normalization, clustering, loop, pretext, view_agreement
from ..training.alternating_normalization import AnConfig

NAMESPACE = "swav"
INPUTS: tuple[str, ...] = ()
VERSION = 6
METRICS = (
    "loss",
    "lr",
    "view_agreement",
    "epoch_seconds",
    *alternating_normalization.METRICS,
    *metrics.EVALUATION_METRICS,
)
CRITERION = ("view_agreement", "max")

TRAINS_ON_LABELS = False
WEIGHTS = ("backbone", "projection", "prototypes")
ARRAYS = ("probabilities_eval", "features_eval")
FACTS = ("network", "num_clusters", "temperature")
TINY: Mapping[str, settings.Plain] = {
    "augmentation": "affine",
    "head": "linear",
    "hidden_dim": 32,
    "num_prototypes": 5,
    "queue_length": 48,
    "queue_start_epoch": 0,
    "batch_size": 24,
    "epochs": 1,
    "optimizer.lr": 0.01,
}

PRESETS: Mapping[str, Mapping[str, Mapping[str, settings.Plain]]] = {
    "repo": {
        "imagenet": {
            "network": "resnet50", "epochs": 400, "batch_size": 4096, "optimizer.lr": 4.8, "warmup_epochs": 10,
            "warmup_lr": 0.3, "final_lr": 0.0048, "queue": False, "freeze_iterations": 313,
            "views.crop_min_area": 0.14, "views.num_small_crops": 6,
        },
    },
    "small_batch": {
        "imagenet": {
            "network": "resnet50", "epochs": 400, "batch_size": 256, "optimizer.lr": 0.6, "final_lr": 0.0006,
            "queue": True, "freeze_iterations": 5005, "views.crop_min_area": 0.14, "views.num_small_crops": 6,
        },
    },
    "literal": {EVERY_SET: alternating_normalization.LITERAL},
}  # fmt: skip
"""What SwAV's code ran: on 64 GPUs, and on 4 with a queue; and AN as its text has it."""

SMOKE: Mapping[str, settings.Plain] = {
    "warmup_epochs": 0,
    "views.num_small_crops": 0,
    "num_prototypes": 30,
    "queue_start_epoch": 1,
    "freeze_iterations": 7,
}
"""Two epochs of 8 px images: no time to warm up or to fill a long queue, and no room for smaller crops."""

NUM_CODES = 2
"""Large crops, which are those that codes are computed of."""
AGREEMENT_MIN_AREA = 0.2
"""Smallest share of an image in the views by which settings are chosen; SimCLR's."""
_EVALUATION_BATCH = 512

_MULTI_CROP = {"augmentation": ("swav",)}
_QUEUE = {"queue": (True,)}
_COSINE = {"schedule": ("warmup_cosine",)}


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Adam, or SGD with momentum, by itself or with LARC."""

    name: str = settings.setting(
        "larc", "larc scales each tensor's step to its length, for large batches", choices=("larc", "sgd", "adam")
    )
    lr: float = settings.setting(0.6, "learning rate, after the warm-up", above=0)
    momentum: float = settings.setting(0.9, "momentum of SGD", low=0, below=1, when={"name": ("larc", "sgd")})
    weight_decay: float = settings.setting(1e-6, "L2 penalty, on every parameter", low=0)

    def __post_init__(self) -> None:
        settings.check(self)


@dataclass(frozen=True, kw_only=True)
class ViewsConfig:
    crop_min_area: float = settings.setting(
        0.08, "smallest share of the image that a large crop covers; 0.14 beside small crops", above=0, below=1,
        when=_MULTI_CROP,
    )  # fmt: skip
    jitter_scale: float = settings.setting(
        1.0, "multiplies the reach of color jitter: 0.8, and 0.2 of the hue", low=0, high=2, when=_MULTI_CROP
    )
    blur: bool = settings.setting(True, "blur half of the views; not meant for images of 32 px", when=_MULTI_CROP)
    num_small_crops: int = settings.setting(
        0, "small crops beside the two large ones; 6 on ImageNet", low=0, high=32, when=_MULTI_CROP, symbol="V - 2"
    )
    small_crop_px: int = settings.setting(96, "side of a small crop", low=8, unit="px", when=_MULTI_CROP)
    small_crop_min_area: float = settings.setting(
        0.05, "smallest share of the image that a small crop covers", above=0, below=1, when=_MULTI_CROP
    )
    small_crop_max_area: float = settings.setting(
        0.14, "largest share of the image that a small crop covers", above=0, high=1, when=_MULTI_CROP
    )
    affine_scale: float = settings.setting(
        1.0, "multiplies the ranges of the affine views", low=0, high=2, when={"augmentation": ("affine",)}
    )

    def __post_init__(self) -> None:
        settings.check(self)
        if self.small_crop_min_area >= self.small_crop_max_area:
            rule = f"small_crop_min_area must be below small_crop_max_area ({self.small_crop_max_area:g})"
            raise settings.SettingsError([("small_crop_min_area", f"{rule}, but is {self.small_crop_min_area:g}.")])


@dataclass(frozen=True, kw_only=True)
class Config:
    network: str = settings.setting(
        "auto",
        "backbone; auto picks by image size, from small at 8 px to resnet50 at 224 px",
        choices=("auto", *backbones.BACKBONES),
    )
    num_prototypes: int = settings.setting(3000, "prototypes, which are the clusters", low=2, high=100_000, symbol="K")
    temperature: float = settings.setting(0.1, "divides the scores in a prediction", above=0, high=10, symbol="τ")
    epsilon: float = settings.setting(0.05, "softness of the codes", above=0, high=10, symbol="ε")
    sinkhorn_iterations: int = settings.setting(3, "passes that make prototypes be used alike", low=1, high=100)
    feature_dim: int = settings.setting(128, "width of the embedding", low=2, high=4096)
    head: str = settings.setting(
        "mlp", "projection: a hidden layer with batch norm, or one linear layer", choices=("mlp", "linear")
    )
    hidden_dim: int = settings.setting(2048, "width of the hidden layer", low=2, high=65_536, when={"head": ("mlp",)})
    freeze_iterations: int = settings.setting(313, "first steps in which prototypes do not move", low=0, unit="steps")
    queue: bool = settings.setting(
        True, "compute codes together with earlier embeddings; for batches below about 1,000"
    )
    queue_length: int = settings.setting(
        3840, "embeddings in the queue; trimmed to a multiple of the batch", low=2, unit="images", when=_QUEUE
    )
    queue_start_epoch: int = settings.setting(
        15, "epochs before the queue begins to fill", low=0, unit="epochs", when=_QUEUE
    )
    epochs: int = settings.setting(200, "passes over the training images", low=1, unit="epochs")
    batch_size: int = settings.setting(256, "images in a step, over all workers", low=2, unit="images", symbol="B")
    optimizer: OptimizerConfig = settings.group(OptimizerConfig)
    schedule: str = settings.setting(
        "warmup_cosine", "how the rate changes, step by step", choices=("warmup_cosine", "constant")
    )
    warmup_epochs: int = settings.setting(0, "epochs in which the rate rises", low=0, unit="epochs", when=_COSINE)
    warmup_lr: float = settings.setting(0.0, "learning rate at the first step of a warm-up", low=0, when=_COSINE)
    final_lr: float = settings.setting(0.0006, "learning rate at the end", low=0, when=_COSINE)
    augmentation: str = settings.setting(
        "swav", "how a view is drawn; affine is for tiny grey images, two views each", choices=("swav", "affine")
    )
    views: ViewsConfig = settings.group(ViewsConfig)
    compute: ComputeConfig = settings.group(ComputeConfig)
    an: AnConfig = settings.group(AnConfig)

    def __post_init__(self) -> None:
        settings.check(self)
        if self.schedule == "warmup_cosine" and self.warmup_epochs >= self.epochs:
            rule = f"warmup_epochs must be below epochs ({self.epochs})"
            raise settings.SettingsError([("warmup_epochs", f"{rule}, but is {self.warmup_epochs}.")])

    @property
    def has_small_crops(self) -> bool:
        return self.augmentation == "swav" and self.views.num_small_crops > 0


def limits(config: Config, shape: DataShape) -> Iterator[tuple[str, str]]:
    yield from pretext.limits(config, shape)
    if config.queue and config.queue_length < config.batch_size:
        yield (
            "queue_length",
            f"queue_length must be at least batch_size ({config.batch_size}), but is {config.queue_length}",
        )
    if config.has_small_crops:
        try:
            backbones.check_size(backbones.resolve(config.network, shape), config.views.small_crop_px)
        except ValueError as error:
            yield "views.small_crop_px", f"small_crop_px is {config.views.small_crop_px}: {error}"


@dataclass(frozen=True)
class _Setup:
    """What an epoch needs. model: the bare one; trained: the same, wrapped for several ranks."""

    config: Config
    data: ImageData
    images: Split
    model: nets.PrototypeModel
    trained: nn.Module
    optimizer: torch.optim.Optimizer
    queue: nets.CropQueue
    normalizer: alternating_normalization.Normalizer
    runtime: Runtime

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return len(self.images) // self.config.batch_size


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Train backbone, projection and prototypes; see the module's docstring.

    Returns:
        weights: backbone, projection, prototypes. arrays, float32: probabilities_eval (N, K), features_eval (N, E) of
        length 1; where codes were corrected also refined_eval (N, K). facts: network, num_clusters, temperature.
    """
    setup = _set_up(config, data, runtime)
    parts: dict[str, loop.Stateful] = {
        "model": setup.model, "optimizer": setup.optimizer, "queue": setup.queue, "normalizer": setup.normalizer
    }  # fmt: skip
    last = yield from loop.epochs(
        config.epochs,
        runtime,
        parts,
        lambda epoch: _epoch(setup, epoch) | _evaluate(setup),
        lr_of=lambda epoch: _rate(setup, epoch * setup.steps),
    )
    setup.model.normalize_prototypes()
    embeddings_NE, eval_NK = _predicted(setup)
    refined, an_metrics = setup.normalizer.at_the_end(eval_NK, data.eval.labels_N)
    return Result(
        weights={
            "backbone": setup.model.backbone.state_dict(),
            "projection": setup.model.head.state_dict(),
            "prototypes": setup.model.prototypes.state_dict(),
        },
        arrays={
            "probabilities_eval": eval_NK.numpy(),
            "features_eval": embeddings_NE.cpu().numpy(),
            **refined,
        },
        facts={
            "network": setup.model.backbone.name,
            "num_clusters": config.num_prototypes,
            "temperature": config.temperature,
        },
        metrics={**last, **an_metrics},
    )


def _set_up(config: Config, data: ImageData, runtime: Runtime) -> _Setup:
    network = backbones.resolve(config.network, data.shape)
    hidden_dim = config.hidden_dim if config.head == "mlp" else 0
    model = nets.PrototypeModel(
        pretext.backbone(network, data.shape, runtime.seed), config.feature_dim, hidden_dim, config.num_prototypes
    ).to(runtime.device)
    length = config.queue_length // config.batch_size * config.batch_size if config.queue else 0
    queue = nets.CropQueue(NUM_CODES, length, config.feature_dim, runtime.device)
    sizes = alternating_normalization.Sizes(config.num_prototypes, len(data.class_names), config.batch_size)
    normalizer = alternating_normalization.Normalizer(config.an, sizes, runtime.device)
    optimizer = _optimizer(config, model)
    trained = runtime.prepare(model, config.compute)
    return _Setup(config, data, data.pretext, model, trained, optimizer, queue, normalizer, runtime)


def _optimizer(config: Config, model: nn.Module) -> torch.optim.Optimizer:
    if config.optimizer.name == "adam":
        return torch.optim.Adam(
            model.parameters(), lr=config.optimizer.lr, weight_decay=config.optimizer.weight_decay, fused=True
        )
    lr, momentum, decay = config.optimizer.lr, config.optimizer.momentum, config.optimizer.weight_decay
    if config.optimizer.name == "larc":
        return larc.Larc(model.parameters(), lr=lr, momentum=momentum, weight_decay=decay)
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=decay, fused=True)


def _rate(setup: _Setup, iteration: int) -> float:
    config = setup.config
    if config.schedule == "constant":
        return config.optimizer.lr
    return schedules.warmup_cosine(
        config.optimizer.lr,
        iteration,
        iterations=config.epochs * setup.steps,
        warmup=config.warmup_epochs * setup.steps,
        start_lr=config.warmup_lr,
        final_lr=config.final_lr,
    )


def _epoch(setup: _Setup, epoch: int) -> dict[str, float]:
    config, runtime, model = setup.config, setup.runtime, setup.model
    views = runtime.generator("views", epoch)
    setup.trained.train()
    total, step = torch.zeros(1, device=runtime.device), epoch * setup.steps
    for batch in runtime.batches(setup.images, config.batch_size, epoch):
        loop.set_lr(setup.optimizer, _rate(setup, step))
        model.normalize_prototypes()
        draws = BatchRandom(views, batch.total, batch.start, len(batch.rows_B))
        crops = _crops(setup, setup.images.images_NCHW[batch.rows_B], draws)
        embeddings, scores = setup.trained(crops)
        scores_VBK = scores.chunk(len(crops))
        codes, weights = _targets(setup, embeddings.chunk(len(crops)), scores_VBK, batch, epoch)
        loss = sinkhorn.swapped_prediction(codes, scores_VBK, temperature=config.temperature, weights_AB=weights)
        setup.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if step < config.freeze_iterations:
            model.prototypes.weight.grad = None
        setup.optimizer.step()
        total += loss.detach()
        step += 1
    (loss_mean,) = pretext.mean_over_ranks(total, setup.steps, runtime)
    return {"loss": loss_mean}


def _crops(setup: _Setup, images_BCHW: Tensor, draws: BatchRandom) -> list[Tensor]:
    """The large crops, then the small ones."""
    config, norm = setup.config, augment.Norm(setup.data.mean, setup.data.std)
    if config.augmentation == "affine":
        strength = augment.Strength(affine=config.views.affine_scale)
        return [augment.affine(images_BCHW, draws, norm, strength) for _ in range(NUM_CODES)]
    large = _large(setup, (config.views.crop_min_area, 1.0), config.views.jitter_scale)
    area = (config.views.small_crop_min_area, config.views.small_crop_max_area)
    small = replace(large, size_px=config.views.small_crop_px, area=area)
    kinds = [large] * NUM_CODES + [small] * config.views.num_small_crops
    return [multicrop.view(images_BCHW, draws, norm, kind) for kind in kinds]


def _large(setup: _Setup, area: tuple[float, float], jitter: float) -> multicrop.Crop:
    return multicrop.Crop(setup.data.shape.image_size_px, area, jitter, setup.config.views.blur)


def _targets(
    setup: _Setup,
    embeddings_VBE: tuple[Tensor, ...],
    scores_VBK: tuple[Tensor, ...],
    batch: Batch,
    epoch: int,
) -> tuple[list[Tensor], list[Tensor] | None]:
    """This rank's codes of the large crops, and the weights of their terms; the queue takes the batch in."""
    config, runtime, normalizer = setup.config, setup.runtime, setup.normalizer
    uses_queue = config.queue and epoch >= config.queue_start_epoch
    own = slice(batch.start, batch.start + len(batch.rows_B))
    labels_T = runtime.gather(setup.images.labels_N[batch.rows_B]) if normalizer.is_active(epoch) else None
    codes, weights = [], []
    for crop in range(NUM_CODES):
        scores_TK = runtime.gather(scores_VBK[crop].detach())
        rows_XK = scores_TK
        if uses_queue and setup.queue.is_full:
            earlier_QK = setup.queue.rows(crop) @ setup.model.prototypes.weight.detach().T
            rows_XK = torch.cat((earlier_QK, scores_TK))
        codes_XK = sinkhorn.codes(rows_XK, epsilon=config.epsilon, iterations=config.sinkhorn_iterations)
        codes_TK = codes_XK[-batch.total :]
        if labels_T is not None:
            codes_TK, entropy_T = normalizer(codes_TK, labels_T, epoch)
            weights.append(normalizer.weights(entropy_T)[own])
        codes.append(codes_TK[own])
    if uses_queue:
        setup.queue.put(torch.stack([runtime.gather(each.detach()) for each in embeddings_VBE[:NUM_CODES]]))
    return codes, weights if normalizer.weighs(epoch) else None


def _evaluate(setup: _Setup) -> dict[str, float]:
    """The metrics of an epoch on the evaluation images."""
    _, eval_NK = _predicted(setup)
    evaluated = clustering.evaluate(eval_NK, setup.data)
    return evaluated | {"view_agreement": _agreement(setup, eval_NK.argmax(1))} | setup.normalizer.report()


def _predicted(setup: _Setup) -> tuple[Tensor, Tensor]:
    """Embeddings (N, E) of the evaluation images as they are, and their probabilities (N, K) on the CPU."""
    data = setup.data
    embeddings_NE = models.predict(setup.model, data.eval.images_NCHW, data.mean, data.std, what="embeddings")
    probabilities = [_scores(setup, part_BE).softmax(1).cpu() for part_BE in embeddings_NE.split(_EVALUATION_BATCH)]
    return embeddings_NE, clustering.finite(torch.cat(probabilities))


@torch.no_grad()
def _scores(setup: _Setup, embeddings_BE: Tensor) -> Tensor:
    unit_KE = functional.normalize(setup.model.prototypes.weight)
    return embeddings_BE @ unit_KE.T / setup.config.temperature


def _agreement(setup: _Setup, clusters_N: Tensor) -> float:
    """See ``view_agreement``. Views have the published strength whatever the training has, so that settings compare."""
    crop = replace(_large(setup, (AGREEMENT_MIN_AREA, 1.0), 1.0), blur=False)

    def view(images_BCHW: Tensor, draws: BatchRandom, norm: augment.Norm) -> Tensor:
        if setup.config.augmentation == "affine":
            return augment.affine(images_BCHW, draws, norm)
        return multicrop.view(images_BCHW, draws, norm, crop)

    def clusters_of(view_BCHW: Tensor) -> Tensor:
        embeddings_BE = setup.model(view_BCHW, "embeddings")
        assert isinstance(embeddings_BE, Tensor)
        return _scores(setup, embeddings_BE).argmax(1)

    return view_agreement.of_views(setup.model, setup.data, clusters_N, view, clusters_of, setup.runtime)


def classifier(result: Result, data: ImageData) -> models.ClusterClassifier:
    """Backbone, projection and prototypes, which are the clusters."""
    projection, prototypes = result.weights["projection"], result.weights["prototypes"]
    hidden_dim = len(projection["0.weight"]) if "0.weight" in projection else 0
    num_prototypes, feature_dim = prototypes["weight"].shape
    backbone = pretext.backbone(result.facts["network"], data.shape, seed=0)
    model = nets.PrototypeModel(backbone, feature_dim, hidden_dim, num_prototypes)
    for part, name in ((model.backbone, "backbone"), (model.head, "projection"), (model.prototypes, "prototypes")):
        part.load_state_dict(result.weights[name])
    head = nn.Sequential(model.head, models.CosineHead(model.prototypes, result.facts["temperature"]))
    return models.ClusterClassifier(model.backbone, head, data.mean, data.std)


def figures(result: Result, data: ImageData, history: Sequence[Mapping[str, float]]) -> dict[str, CaptionedFigure]:
    drawn = of_results.clustering(result, data, history) | of_results.features_by_class(result, data)
    return drawn | of_results.refinement(result, data, of_results.kept(result, "features_eval"))
