"""CC: two views of an image attract each other, and so do two views of a cluster; trained end to end, in one go.

Of a batch the (B, C) matrix of assignments has an image in each row and a cluster in each column. The instance head
contrasts images, as SimCLR does; the cluster head contrasts the columns of its assignments: what a cluster holds of the
first views must be found among the clusters of both views. The entropy of the mean assignments keeps clusters in use.

Source: Li et al. 2021 (Contrastive Clustering), Eq. 1 to 8. Differs: a backbone for the images' own size in the place
of a ResNet-34 at 224 px, no blur in the views, both views in one pass of the batch norms, and images without labels of
STL-10 have no part. ``entropy_weight`` is ours; the paper's is 1. The last epoch is kept.

Not in the paper: ``view_agreement``, by which settings are chosen without labels (see ``training.view_agreement``).

Axes: N images, B batch, C clusters, D feature width, E embedding width.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import settings
from ..data import augment
from ..figures import of_results
from ..interfaces import CaptionedFigure, DataShape, Epoch, ImageData, Result, Runtime, Split
from ..maths import contrastive, metrics, scan_loss
from ..nets import backbones, models
from ..nets.precision import ComputeConfig
from ..training import clustering, loop, pretext, view_agreement
from ..training.optimizers import AdamOrSgdConfig, adam_or_sgd
from ..training.views import ViewsConfig

NAMESPACE = "cc"
INPUTS: tuple[str, ...] = ()
VERSION = 2
TERMS = ("loss", "instance_loss", "cluster_loss", "assignment_entropy")
METRICS = (*TERMS, "view_agreement", "epoch_seconds", *metrics.EVALUATION_METRICS)
CRITERION = ("view_agreement", "max")
"""Not the loss: it means something else at every temperature and weight."""

TRAINS_ON_LABELS = False
WEIGHTS = ("backbone", "instance_head", "cluster_head")
ARRAYS = ("probabilities_train", "probabilities_eval", "features_eval")
FACTS = ("network", "num_clusters")
TINY: Mapping[str, settings.Plain] = {"augmentation": "affine", "batch_size": 24, "epochs": 1, "optimizer.lr": 3e-5}


@dataclass(frozen=True, kw_only=True)
class Config:
    network: str = settings.setting(
        "auto",
        "backbone; auto picks by image size, from small at 8 px to resnet50 at 224 px",
        choices=("auto", *backbones.BACKBONES),
    )
    num_clusters: int = settings.setting(0, "clusters; 0 means as many as there are classes", low=0, symbol="M")
    instance_temperature: float = settings.setting(0.5, "divides the cosines of images", above=0, high=10, symbol="τ_I")
    cluster_temperature: float = settings.setting(
        1.0, "divides the cosines of clusters", above=0, high=10, symbol="τ_C"
    )
    entropy_weight: float = settings.setting(1.0, "weight of the mean assignments' entropy, of both views", low=0)
    feature_dim: int = settings.setting(128, "width of the contrastive feature", low=2, high=4096)
    epochs: int = settings.setting(1000, "passes over the training images", low=1, unit="epochs")
    batch_size: int = settings.setting(256, "images in a step, over all workers", low=2, unit="images", symbol="N")
    optimizer: AdamOrSgdConfig = settings.group(AdamOrSgdConfig, lr=3e-4, weight_decay=0.0)
    augmentation: str = settings.setting(
        "simclr", "how a view is drawn; affine is for tiny grey images", choices=("simclr", "standard", "affine")
    )
    views: ViewsConfig = settings.group(ViewsConfig)
    compute: ComputeConfig = settings.group(ComputeConfig)

    def __post_init__(self) -> None:
        settings.check(self)


def limits(config: Config, shape: DataShape) -> Iterator[tuple[str, str]]:
    yield from pretext.limits(config, shape)
    yield from clustering.limits_on_size(config, shape, ("num_clusters",))


class TwoHeads(models.ContrastiveModel):
    """Backbone, instance head to the unit sphere, and cluster head; both are MLPs of one hidden layer (section 3)."""

    def __init__(self, backbone: backbones.Backbone, feature_dim: int, num_clusters: int) -> None:
        super().__init__(backbone, feature_dim)
        self.cluster_head = cluster_head(backbone, num_clusters)

    def forward(self, images_BCHW: Tensor, what: str = "embeddings") -> Tensor | tuple[Tensor, Tensor]:
        """What a ContrastiveModel gives, and ``trained``: (embeddings (B, E), logits of clusters (B, C))."""
        if what != "trained":
            return super().forward(images_BCHW, what)
        embeddings_BE, features_BD = cast(tuple[Tensor, Tensor], super().forward(images_BCHW, "both"))
        return embeddings_BE, self.cluster_head(features_BD)


def cluster_head(backbone: backbones.Backbone, num_clusters: int) -> nn.Module:
    """An untrained MLP of the instance head's shape, from features (B, D) to logits (B, C)."""
    return models.ContrastiveModel(backbone, num_clusters, seed=backbone.seed + 1).head


def cluster_loss(p0_BC: Tensor, p1_BC: Tensor, *, temperature: float, entropy_weight: float) -> tuple[Tensor, Tensor]:
    """Contrast of the columns of two views' assignments, minus the entropy of the mean assignments.

    Args:
        p0_BC, p1_BC: probabilities of clusters; row i of both shows image i.
        temperature: divides the cosines of two columns; above 0.
        entropy_weight: 1 in the paper.

    Returns:
        (loss, entropy), scalars in nats; the entropy is the sum of both views', in [0, 2 log C].

    Source: Eq. 4 to 7.
    """
    columns0_CB, columns1_CB = (functional.normalize(rows_BC.T, dim=1) for rows_BC in (p0_BC, p1_BC))
    contrast = contrastive.nt_xent(columns0_CB, columns1_CB, temperature=temperature, symmetric=True)
    entropy = scan_loss.mean_entropy(p0_BC) + scan_loss.mean_entropy(p1_BC)
    return contrast - entropy_weight * entropy, entropy


@dataclass(frozen=True)
class _Setup:
    """What an epoch needs. model: the bare one; trained: the same, wrapped for several ranks."""

    config: Config
    data: ImageData
    source: pretext.Source
    model: TwoHeads
    trained: nn.Module
    optimizer: torch.optim.Optimizer
    runtime: Runtime


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Train backbone and both heads; see the module's docstring.

    Returns:
        weights: backbone, instance_head, cluster_head. arrays, float32: probabilities_train, probabilities_eval (N, C),
        features_eval (N, D) of length 1, from the backbone. facts: network, num_clusters.
    """
    setup = _set_up(config, data, runtime)
    last = yield from loop.epochs(
        config.epochs,
        runtime,
        {"model": setup.model, "optimizer": setup.optimizer},
        lambda epoch: _epoch(setup, epoch) | _evaluate(setup),
    )
    eval_NC, features_ND = _predicted(setup, data.eval)
    train_NC = eval_NC if data.is_union else _predicted(setup, data.train)[0]
    return Result(
        weights={
            "backbone": setup.model.backbone.state_dict(),
            "instance_head": setup.model.head.state_dict(),
            "cluster_head": setup.model.cluster_head.state_dict(),
        },
        arrays={
            "probabilities_train": train_NC.numpy(),
            "probabilities_eval": eval_NC.numpy(),
            "features_eval": functional.normalize(features_ND).cpu().numpy(),
        },
        facts={"network": setup.model.backbone.name, "num_clusters": eval_NC.shape[1]},
        metrics=last,
    )


def _set_up(config: Config, data: ImageData, runtime: Runtime) -> _Setup:
    backbone = pretext.backbone(backbones.resolve(config.network, data.shape), data.shape, runtime.seed)
    model = TwoHeads(backbone, config.feature_dim, config.num_clusters or len(data.class_names)).to(runtime.device)
    return _Setup(
        config,
        data,
        pretext.Source(config, data, data.train, runtime),
        model,
        runtime.prepare(model, config.compute),
        adam_or_sgd(config.optimizer, list(model.parameters())),
        runtime,
    )


def _epoch(setup: _Setup, epoch: int) -> dict[str, float]:
    setup.trained.train()
    sums, steps = torch.zeros(len(TERMS), device=setup.runtime.device), 0
    for _, views in setup.source.batches(epoch, num_views=2):
        terms = _terms(setup, torch.cat(views))
        loop.step(terms[0], setup.optimizer)
        sums += torch.stack(terms).detach()
        steps += 1
    return dict(zip(TERMS, (sums / steps).tolist(), strict=True))


def _terms(setup: _Setup, views_XCHW: Tensor) -> list[Tensor]:
    """TERMS of a global batch. views_XCHW: this rank's images, all first views, then all second ones."""
    config, gather = setup.config, setup.runtime.gather
    embeddings_XE, logits_XC = setup.trained(views_XCHW, "trained")
    z0_BE, z1_BE = (gather(rows) for rows in embeddings_XE.chunk(2))
    p0_BC, p1_BC = (gather(rows) for rows in logits_XC.softmax(1).chunk(2))
    instance = contrastive.nt_xent(z0_BE, z1_BE, temperature=config.instance_temperature, symmetric=True)
    cluster, entropy = cluster_loss(
        p0_BC, p1_BC, temperature=config.cluster_temperature, entropy_weight=config.entropy_weight
    )
    return [instance + cluster, instance, cluster, entropy]


@torch.no_grad()
def _predicted(setup: _Setup, split: Split) -> tuple[Tensor, Tensor]:
    """Probabilities (N, C) on the CPU, and the backbone's features (N, D), of images as they are.

    Raises:
        FloatingPointError: the model has diverged.
    """
    features_ND = models.predict(setup.model, split.images_NCHW, setup.data.mean, setup.data.std)
    return clustering.finite(setup.model.cluster_head(features_ND).softmax(1).cpu()), features_ND


def _evaluate(setup: _Setup) -> dict[str, float]:
    """The metrics of an epoch on the evaluation images."""
    eval_NC, _ = _predicted(setup, setup.data.eval)
    evaluated = clustering.evaluate(eval_NC, setup.data)
    return evaluated | {"view_agreement": _agreement(setup, eval_NC.argmax(1))}


def _agreement(setup: _Setup, clusters_N: Tensor) -> float:
    """See ``view_agreement``. Views have SimCLR's strength whatever the training's is, so that settings compare."""
    drawn = augment.AUGMENTATIONS["affine" if setup.config.augmentation == "affine" else "simclr"]

    def clusters_of(view_BCHW: Tensor) -> Tensor:
        _, logits_BC = setup.model(view_BCHW, "trained")
        return cast(Tensor, logits_BC.argmax(1))

    return view_agreement.of_views(setup.model, setup.data, clusters_N, drawn, clusters_of, setup.runtime)


def classifier(result: Result, data: ImageData) -> models.ClusterClassifier:
    """Backbone and cluster head."""
    backbone = pretext.backbone(result.facts["network"], data.shape, seed=0)
    head = cluster_head(backbone, result.facts["num_clusters"])
    backbone.load_state_dict(result.weights["backbone"])
    head.load_state_dict(result.weights["cluster_head"])
    return models.ClusterClassifier(backbone, head, data.mean, data.std)


def figures(result: Result, data: ImageData, history: Sequence[Mapping[str, float]]) -> dict[str, CaptionedFigure]:
    return of_results.clustering(result, data, history) | of_results.features_by_class(result, data)
