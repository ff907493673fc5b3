"""SimGCD: known categories from the labels of some images, and new ones from the model's own sharpened predictions.

Source: Wen et al. 2023 (SimGCD) and its public code. Generalized category discovery (Vaze et al. 2022): the first
classes are known, a share of their images has a label, and everything else has none; the task is to group the unlabeled
images, of known and new classes alike. Half of a batch has labels on average. A classifier of prototypes predicts two
views of every image; each view's prediction, sharpened, is the other's target, the mean prediction is kept from falling
on a few categories, and a contrastive loss shapes the features. Labeled images also have a cross entropy and a
supervised contrastive loss. The backbone comes from the pretext; the paper's is a ViT-B/16 trained by DINO, of which
the last block alone goes on learning. The last epoch is kept.

This is semi-supervised: labels of the labeled part train (terms named ``labeled_...``), those of other images never do.
acc, acc_old (known classes), acc_new and the other metrics of a clustering are of the unlabeled training images, under
one map of clusters to classes. Predictions kept for figures are of the evaluation split, which under
``protocol: union`` holds the labeled images too. Images of ``data.unlabeled`` have no part.

With alternating normalization (AN, see ``training.alternating_normalization``) corrected rows replace the sharpened
predictions of the unlabeled images of a batch, view by view; weights by uncertainty multiply the terms in which these
are targets.

Not in the paper: ``view_agreement``, by which settings are chosen without labels (see ``training.view_agreement``).

Axes: N images, B batch of this rank, T of all ranks, U unlabeled images, V views, C categories, D feature width,
E embedding width, X rows of all views (V times B or T).
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import settings
from ..data import augment, batches, gcd_split
from ..data.batch_random import BatchRandom
from ..figures import of_results
from ..interfaces import EVERY_SET, Batch, CaptionedFigure, DataShape, Epoch, ImageData, Result, Runtime
from ..maths import contrastive, metrics, schedules, sinkhorn
from ..maths import simgcd as maths
from ..nets import freezing, models
from ..nets import simgcd as nets
from ..nets.precision import ComputeConfig
from ..training import alternating_normalization, clustering, loop, pretext, view_agreement
from ..training.alternating_normalization import AnConfig
from ..training.optimizers import SgdConfig
from ..training.views import ViewsConfig

NAMESPACE = "simgcd"
INPUTS = ("pretext",)
VERSION = 4
TERMS = ("loss", "distillation", "mean_entropy_gap", "contrast", "labeled_cross_entropy", "labeled_contrast")
METRICS = (
    *TERMS, "lr", "view_agreement", "acc_old", "acc_new", "epoch_seconds",
    *alternating_normalization.METRICS, *metrics.EVALUATION_METRICS,
)  # fmt: skip
CRITERION = ("view_agreement", "max")

TRAINS_ON_LABELS = True
WEIGHTS = ("backbone", "projection", "prototypes")
ARRAYS = ("probabilities_train", "probabilities_eval", "features_eval", "labeled_train")
FACTS = ("network", "num_clusters", "num_known", "num_labeled", "looks_at_labels", "temperature")
TINY: Mapping[str, settings.Plain] = {
    "augmentation": "affine",
    "trained_part": "all",
    "hidden_dim": 16,
    "feature_dim": 8,
    "batch_size": 24,
    "epochs": 1,
    "optimizer.lr": 0.005,
}

PRESETS: Mapping[str, Mapping[str, Mapping[str, settings.Plain]]] = {
    "repo": {
        "cifar10": {"known_classes": 5, "memax_weight": 1.0},
        "cifar100": {"known_classes": 80, "memax_weight": 4.0},
        "imagenet100": {"known_classes": 50, "memax_weight": 1.0},
    },
    "literal": {EVERY_SET: alternating_normalization.LITERAL},
}
"""What the scripts of SimGCD's code change from data set to data set; and AN as its text has it."""

SMOKE: Mapping[str, settings.Plain] = {"known_list": "", "known_classes": 0, "num_clusters": 0}
"""Numbers of classes of another data set mean nothing on digits."""

NUM_VIEWS = 2
SMALLEST_MASS = 1e-3
"""Of a known class whose images are all labeled, beside a new one's 1: a prior of 0 would forbid its category."""


@dataclass(frozen=True, kw_only=True)
class Config:
    known_list: str = settings.setting(
        "",
        "numbers of the classes whose images may have a label, from 0 on and with commas between (SSB's splits); empty"
        " takes the first known_classes",
    )
    known_classes: int = settings.setting(
        0, "classes whose images may have a label, the first ones; 0 means half of them", low=0, unit="classes",
        when={"known_list": ("",)},
    )  # fmt: skip
    labeled_share: float = settings.setting(
        0.5, "share of the known classes' images that have a label", above=0, high=1, unit="as a share"
    )
    split_seed: int = settings.setting(
        0, "draws the labeled images, whatever the trial's seed is; 0 for the published ones", low=0, high=2**32 - 1
    )
    num_clusters: int = settings.setting(
        0, "categories, known and new; 0 means as many as there are classes", low=0, symbol="K"
    )
    trained_part: freezing.Part = settings.setting("last_block", "part of the backbone that is trained")
    hidden_dim: int = settings.setting(2048, "width of the projection's two hidden layers", low=2, high=65_536)
    feature_dim: int = settings.setting(256, "width of the embedding", low=2, high=4096)
    sup_weight: float = settings.setting(
        0.35, "weight of the terms with labels; the others have the rest of 1", low=0, high=1, symbol="λ"
    )
    memax_weight: float = settings.setting(
        2.0, "weight of the gap between the mean prediction's entropy and its largest", low=0, symbol="ε"
    )
    student_temperature: float = settings.setting(
        0.1, "divides the cosines in a prediction", above=0, high=10, symbol="τs"
    )
    teacher_start: float = settings.setting(
        0.07, "divides the cosines in a target, in the first epoch", above=0, high=10, symbol="τt"
    )
    teacher_end: float = settings.setting(0.04, "the same after the warm-up", above=0, high=10, symbol="τt")
    teacher_warmup_epochs: int = settings.setting(
        30, "epochs in which the targets' temperature goes from start to end", low=0, unit="epochs"
    )
    contrast_temperature: float = settings.setting(
        1.0, "divides the cosines of embeddings; what the code runs", above=0, high=10, symbol="τu"
    )
    labeled_contrast_temperature: float = settings.setting(
        0.07, "the same among labeled images; what the code runs", above=0, high=10, symbol="τc"
    )
    epochs: int = settings.setting(200, "times that as many images are drawn as there are", low=1, unit="epochs")
    batch_size: int = settings.setting(128, "images in a step, over all workers", low=2, unit="images", symbol="B")
    optimizer: SgdConfig = settings.group(
        SgdConfig,
        lr=settings.setting(0.1, "learning rate of SGD at the start; a cosine takes it to a thousandth", above=0),
        weight_decay=settings.setting(5e-5, "L2 penalty, on matrices and filters alone", low=0),
    )
    compute: ComputeConfig = settings.group(ComputeConfig)
    augmentation: str = settings.setting(
        "simgcd",
        "how a view is drawn; affine is for tiny grey images",
        choices=("simgcd", "simclr", "standard", "affine"),
    )
    views: ViewsConfig = settings.group(ViewsConfig)
    an: AnConfig = settings.group(AnConfig)
    an_prior: str = settings.setting(
        "unlabeled",
        "shares that corrected predictions follow: of a known class the unlabeled rest alone, or all alike",
        choices=("unlabeled", "equal"),
        when={"an.mode": ("correction", "both")},
    )

    def __post_init__(self) -> None:
        settings.check(self)
        if self.known_list and (sentence := _list_fault(self.known_list)):
            raise settings.SettingsError([("known_list", sentence)])

    def known(self, num_classes: int) -> list[int]:
        """The known classes, in order. The first of them is the first category, and so on."""
        if self.known_list:
            return sorted(_listed(self.known_list))
        return list(range(self.known_classes or max(1, num_classes // 2)))

    def num_known(self, num_classes: int) -> int:
        return len(self.known(num_classes))


def _listed(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _list_fault(text: str) -> str | None:
    rule = f"known_list must be different whole numbers from 0 on with commas between, but is {text!r}."
    try:
        numbers = _listed(text)
    except ValueError:
        return f"{rule} Write for example 0,2,5."
    if min(numbers) < 0 or len(set(numbers)) < len(numbers):
        return f"{rule} Write each class once."
    return None


def _num_labeled(config: Config, shape: DataShape) -> int:
    """Training images of the known classes that have a label."""
    return sum(shape.class_sizes[known] for known in config.known(shape.num_classes))


def limits(config: Config, shape: DataShape) -> Iterator[tuple[str, str]]:
    yield from clustering.limits_on_size(config, shape, ("batch_size", "num_clusters"))
    num_known, named = config.num_known(shape.num_classes), "known_list" if config.known_list else "known_classes"
    if shape.num_train_labeled == 0:
        sentence = f"{named} needs labels of the known classes, but no training image has one; take another method"
        yield named, sentence
    elif config.known_list and max(config.known(0)) >= shape.num_classes:
        yield (
            "known_list",
            f"known_list must hold numbers below the {shape.num_classes} classes, but has {max(config.known(0))}",
        )
    elif num_known > shape.num_classes:
        yield "known_classes", f"known_classes must be at most the {shape.num_classes} classes, but is {num_known}"
    elif num_known == shape.num_classes and config.labeled_share == 1:
        yield (
            "labeled_share",
            "labeled_share is 1 and all classes are known, so no image is unlabeled; lower one of them",
        )
    elif shape.class_sizes and not int(config.labeled_share * _num_labeled(config, shape)):
        yield (
            "labeled_share",
            f"labeled_share must give some image a label, but {config.labeled_share:g} of the "
            f"{_num_labeled(config, shape)} labeled images of {num_known} known classes is none; raise it",
        )
    elif 0 < config.num_clusters < num_known:
        yield (
            "num_clusters",
            f"num_clusters must be at least the {num_known} known classes, but is {config.num_clusters}; 0 takes all",
        )


@dataclass(frozen=True)
class _Setup:
    """What an epoch needs. model: the bare one; trained: the same, wrapped for several ranks.

    labeled_N: which training images have a label to learn from. labels_N: the category of that label, the place of its
    class among the known ones; -1 for all other images.
    """

    config: Config
    data: ImageData
    model: nets.CategoryModel
    trained: nn.Module
    optimizer: torch.optim.Optimizer
    normalizer: alternating_normalization.Normalizer
    runtime: Runtime
    labeled_N: Tensor
    labels_N: Tensor

    @property
    def num_known(self) -> int:
        return self.config.num_known(len(self.data.class_names))


@dataclass(frozen=True)
class _Step:
    """A global batch as this rank sees it. Its first ``num_unlabeled`` images, over all ranks, have no label."""

    batch: Batch
    num_unlabeled: int


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Train backbone, projection and prototypes; see the module's docstring.

    Returns:
        weights: backbone, projection, prototypes. arrays: probabilities_train, probabilities_eval (N, C), features_eval
        (N, D) of length 1, float32; labeled_train (N,), bool, the images whose labels were learned; where targets were
        corrected also refined_eval (N, C). facts: network, num_clusters, num_known, num_labeled, looks_at_labels,
        temperature.

    Raises:
        ValueError: no image has a label, or all have.
    """
    setup = _set_up(config, data, inputs["pretext"], runtime)
    last = yield from loop.epochs(
        config.epochs,
        runtime,
        {"model": setup.model, "optimizer": setup.optimizer, "normalizer": setup.normalizer},
        lambda epoch: _epoch(setup, epoch) | _evaluate(setup),
        lr_of=lambda epoch: schedules.cosine_scan(config.optimizer.lr, epoch, epochs=config.epochs),
    )
    train_NC, _ = _predicted(setup, "train")
    eval_NC, features_ND = _predicted(setup, "eval")
    refined, an_metrics = setup.normalizer.at_the_end(eval_NC, data.eval.labels_N)
    return Result(
        weights={
            "backbone": setup.model.backbone.state_dict(),
            "projection": setup.model.head.state_dict(),
            "prototypes": setup.model.prototypes.state_dict(),
        },
        arrays={
            "probabilities_train": train_NC.numpy(),
            "probabilities_eval": eval_NC.numpy(),
            "features_eval": functional.normalize(features_ND).cpu().numpy(),
            "labeled_train": setup.labeled_N.cpu().numpy(),
            **refined,
        },
        facts={
            "network": setup.model.backbone.name,
            "num_clusters": train_NC.shape[1],
            "num_known": setup.num_known,
            "num_labeled": int(setup.labeled_N.sum()),
            "looks_at_labels": True,
            "temperature": config.student_temperature,
        },
        metrics={**last, **an_metrics},
    )


def _set_up(config: Config, data: ImageData, start: Result, runtime: Runtime) -> _Setup:
    num_classes = len(data.class_names)
    num_clusters = config.num_clusters or num_classes
    backbone = pretext.backbone(start.facts["network"], data.shape, runtime.seed)
    backbone.load_state_dict(start.weights["backbone"])
    freezing.train_part(backbone, config.trained_part)
    model = nets.CategoryModel(backbone, config.feature_dim, config.hidden_dim, num_clusters).to(runtime.device)
    labels_N = data.train.labels_N
    known = config.known(num_classes)
    labeled_N = gcd_split.labeled_part(labels_N, known=known, share=config.labeled_share, seed=config.split_seed)
    category_Y = torch.full((num_classes,), -1, device=labels_N.device)
    category_Y[known] = torch.arange(len(known), device=labels_N.device)
    return _Setup(
        config,
        data,
        model,
        runtime.prepare(model, config.compute),
        _optimizer(config, model),
        alternating_normalization.Normalizer(
            config.an,
            alternating_normalization.Sizes(num_clusters, num_classes, config.batch_size),
            runtime.device,
            prior_C=_prior(config, num_classes, num_clusters),
        ),
        runtime,
        labeled_N,
        torch.where(labeled_N, category_Y[labels_N.clamp_min(0)], -1),
    )


def _prior(config: Config, num_classes: int, num_clusters: int) -> Tensor | None:
    """Shares (C,) of the categories among unlabeled images if all classes are alike; None for equal ones.

    Of a known class the unlabeled rest is left; its category is the one that its labels train, those of the first ones.
    """
    if config.an_prior == "equal":
        return None
    mass_C = torch.ones(num_clusters, dtype=torch.float64)
    mass_C[: config.num_known(num_classes)] = max(1 - config.labeled_share, SMALLEST_MASS)
    return mass_C / mass_C.sum()


def _optimizer(config: Config, model: nn.Module) -> torch.optim.Optimizer:
    trained = [weights for weights in model.parameters() if weights.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [weights for weights in trained if weights.ndim > 1]},
        {"params": [weights for weights in trained if weights.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        groups,
        lr=config.optimizer.lr,
        momentum=config.optimizer.momentum,
        weight_decay=config.optimizer.weight_decay,
        fused=True,
    )


def _epoch(setup: _Setup, epoch: int) -> dict[str, float]:
    config, data, runtime = setup.config, setup.data, setup.runtime
    views, norm = runtime.generator("views", epoch), augment.Norm(data.mean, data.std)
    strength = config.views.strength()
    view = augment.AUGMENTATIONS[config.augmentation]
    freezing.train_mode(setup.trained)
    steps, sums = _steps(setup, epoch), torch.zeros(len(TERMS), device=runtime.device)
    for step in steps:
        batch, images_BCHW = step.batch, data.train.images_NCHW[step.batch.rows_B]
        draws = BatchRandom(views, batch.total, batch.start, len(batch.rows_B))
        views_XCHW = torch.cat([view(images_BCHW, draws, norm, strength) for _ in range(NUM_VIEWS)])
        terms = _terms(setup, views_XCHW, step, epoch)
        loop.step(terms[0], setup.optimizer)
        sums += torch.stack(terms).detach()
    return dict(zip(TERMS, (sums / len(steps)).tolist(), strict=True))


def _steps(setup: _Setup, epoch: int) -> list[_Step]:
    """This rank's part of every batch of an epoch; what is drawn is the same on all ranks."""
    config, runtime = setup.config, setup.runtime
    rows_ST, num_unlabeled = gcd_split.balanced_batches(
        setup.labeled_N, config.batch_size, runtime.generator("order", epoch)
    )
    own = list(
        batches.dealt(
            rows_ST.flatten(), config.batch_size, rank=runtime.rank, world_size=runtime.world_size, drop_last=True
        )
    )
    batches.announce(setup.data.train, torch.cat([batch.rows_B for batch in own]))
    return [_Step(batch, count) for batch, count in zip(own, num_unlabeled, strict=True)]


def _terms(setup: _Setup, views_XCHW: Tensor, step: _Step, epoch: int) -> list[Tensor]:
    """TERMS of a global batch. views_XCHW: this rank's views of it, all first views, then all second ones."""
    config, runtime, first = setup.config, setup.runtime, step.num_unlabeled
    embeddings_XE, cosines_XC = setup.trained(views_XCHW, "trained")
    embeddings_VTE, cosines_VTC = (
        [runtime.gather(rows) for rows in outputs.chunk(NUM_VIEWS)] for outputs in (embeddings_XE, cosines_XC)
    )
    targets, weights = _targets(setup, cosines_VTC, step, epoch)
    distillation = sinkhorn.swapped_prediction(
        targets, cosines_VTC, temperature=config.student_temperature, weights_AB=weights
    )
    gap = maths.mean_entropy_gap(torch.cat(cosines_VTC), temperature=config.student_temperature)
    apart = contrastive.nt_xent(
        embeddings_VTE[0], embeddings_VTE[1], temperature=config.contrast_temperature, symmetric=True
    )
    cross_entropy = labeled_contrast = torch.zeros_like(gap)
    if first < step.batch.total:
        labels_L = runtime.gather(setup.labels_N[step.batch.rows_B])[first:]
        logits_XC = torch.cat([rows_TC[first:] for rows_TC in cosines_VTC]) / config.student_temperature
        cross_entropy = functional.cross_entropy(logits_XC, labels_L.repeat(NUM_VIEWS))
        labeled_contrast = contrastive.supervised_nt_xent(
            embeddings_VTE[0][first:],
            embeddings_VTE[1][first:],
            labels_L,
            temperature=config.labeled_contrast_temperature,
        )
    unlabeled = distillation + config.memax_weight * gap + apart
    loss = (1 - config.sup_weight) * unlabeled + config.sup_weight * (cross_entropy + labeled_contrast)
    return [loss, distillation, gap, apart, cross_entropy, labeled_contrast]


def _targets(
    setup: _Setup, cosines_VTC: list[Tensor], step: _Step, epoch: int
) -> tuple[list[Tensor], list[Tensor] | None]:
    """Each view's sharpened predictions, which are the other's targets, and the weights of their terms."""
    config, normalizer, first = setup.config, setup.normalizer, step.num_unlabeled
    temperature = maths.teacher_temperature(
        epoch, start=config.teacher_start, end=config.teacher_end, warmup=config.teacher_warmup_epochs
    )
    targets = [maths.teacher(rows_TC, temperature=temperature) for rows_TC in cosines_VTC]
    if not normalizer.is_active(epoch) or first == 0:
        return targets, None
    # Also of images whose labels nothing here may learn from: for the normalizer's report alone.
    labels_U = setup.runtime.gather(setup.data.train.labels_N[step.batch.rows_B])[:first]
    corrected, weights = [], []
    for rows_TC in targets:
        rows_UC, entropy_U = normalizer(rows_TC[:first], labels_U, epoch)
        corrected.append(torch.cat((rows_UC, rows_TC[first:])))
        weights.append(torch.cat((normalizer.weights(entropy_U), torch.ones_like(rows_TC[first:, 0]))))
    return corrected, weights if normalizer.weighs(epoch) else None


def _evaluate(setup: _Setup) -> dict[str, float]:
    """The metrics of an epoch: on the unlabeled training images, and by agreement on the evaluation images."""
    data = setup.data
    train_NC, _ = _predicted(setup, "train")
    eval_NC = train_NC if data.is_union else _predicted(setup, "eval")[0]
    rows_U = (~setup.labeled_N).nonzero().squeeze(1).cpu()
    unlabeled_UC, labels_U = train_NC[rows_U], data.train.labels_N.cpu()[rows_U]
    num_classes = len(data.class_names)
    evaluated = metrics.evaluate(unlabeled_UC, labels_U, num_classes=num_classes)
    counts_CY = metrics.contingency(
        unlabeled_UC.argmax(1).numpy(), labels_U.numpy(), unlabeled_UC.shape[1], num_classes
    )
    evaluated |= metrics.old_and_new_accuracy(counts_CY, setup.config.known(num_classes))
    return evaluated | {"view_agreement": _agreement(setup, eval_NC.argmax(1))} | setup.normalizer.report()


@torch.no_grad()
def _predicted(setup: _Setup, part: str) -> tuple[Tensor, Tensor]:
    """Probabilities (N, C) on the CPU, and features (N, D), of the training or evaluation images as they are."""
    data = setup.data
    split = data.train if part == "train" else data.eval
    features_ND = models.predict(setup.model, split.images_NCHW, data.mean, data.std)
    logits_NC = setup.model.cosines(features_ND) / setup.config.student_temperature
    return clustering.finite(logits_NC.softmax(1).cpu()), features_ND


def _agreement(setup: _Setup, clusters_N: Tensor) -> float:
    """See ``view_agreement``. Views have SimCLR's strength whatever the training's is, so that settings compare."""
    drawn = augment.AUGMENTATIONS["affine" if setup.config.augmentation == "affine" else "simclr"]

    def clusters_of(view_BCHW: Tensor) -> Tensor:
        features_BD = setup.model(view_BCHW, "features")
        assert isinstance(features_BD, Tensor)
        return setup.model.cosines(features_BD).argmax(1)

    return view_agreement.of_views(setup.model, setup.data, clusters_N, drawn, clusters_of, setup.runtime)


def classifier(result: Result, data: ImageData) -> models.ClusterClassifier:
    """Backbone and prototypes, which are the categories."""
    backbone = pretext.backbone(result.facts["network"], data.shape, seed=0)
    backbone.load_state_dict(result.weights["backbone"])
    prototypes = nn.Linear(backbone.width, result.facts["num_clusters"], bias=False)
    prototypes.load_state_dict(result.weights["prototypes"])
    return models.ClusterClassifier(
        backbone, models.CosineHead(prototypes, result.facts["temperature"]), data.mean, data.std
    )


def figures(result: Result, data: ImageData, history: Sequence[Mapping[str, float]]) -> dict[str, CaptionedFigure]:
    drawn = of_results.clustering(result, data, history) | of_results.features_by_class(result, data)
    return drawn | of_results.refinement(result, data, of_results.kept(result, "features_eval"))
