"""Deep embedded clustering: an encoder and its cluster centers learn from their own most certain assignments.

Source: Xie et al. 2016 (DEC), section 3; with ``reconstruction_weight`` above 0, IDEC (Guo et al. 2017, Eq. 6), whose
weights are 0.1 and 1. Centers start from k-means on the autoencoder's embedding. The target of Eq. 3 is taken over all
training images every ``target_update_interval`` steps, in float64, and stays fixed in between; training ends when fewer
than ``tolerance`` of the images change their cluster between two updates. The loss is the mean over a batch.

With alternating normalization (AN, see ``training.alternating_normalization``) corrected rows replace q before it is
sharpened, or the target after it, in batches of ``an_batch_size`` drawn anew at each update. With both, one threshold
serves both, and weights are those of the assignments.

Axes: N images, B batch, D values of an image, E embedding width, C clusters.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import settings
from ..figures import of_results
from ..interfaces import EVERY_SET, Batch, CaptionedFigure, DataShape, Epoch, ImageData, Result, Runtime, Split
from ..maths import metrics, soft_assignment
from ..nets import autoencoder
from ..nets.precision import ComputeConfig
from ..training import alternating_normalization, clustering, loop
from ..training.alternating_normalization import AnConfig
from ..training.optimizers import AdamOrSgdConfig, adam_or_sgd

NAMESPACE = "dec"
INPUTS = ("pretext",)
VERSION = 5
METRICS = (
    "loss",
    "divergence",
    "reconstruction",
    "label_change",
    "selection_loss",
    "epoch_seconds",
    *alternating_normalization.METRICS,
    *metrics.EVALUATION_METRICS,
)
CRITERION = ("selection_loss", "min")

TRAINS_ON_LABELS = False
WEIGHTS = ("clustering",)
ARRAYS = ("probabilities_train", "probabilities_eval", "embedding_train", "embedding_eval")
FACTS = ("num_values", "widths", "embed_dim", "scaling", "num_clusters", "is_settled", "student_t_dof")
TINY: Mapping[str, settings.Plain] = {
    "batch_size": 24,
    "epochs": 1,
    "target_update_interval": 2,
    "tolerance": 0.0,
    "an_batch_size": 24,
}

_AN = ("correction", "reweight", "both")
PRESETS: Mapping[str, Mapping[str, Mapping[str, settings.Plain]]] = {
    "paper": {
        "mnist": {"optimizer.lr": 0.01, "target_update_interval": 140, "epochs": 200},
        "features": {"optimizer.lr": 0.01, "target_update_interval": 40, "epochs": 200},
    },
    "literal": {EVERY_SET: {**alternating_normalization.LITERAL, "an_site": "both"}},
}
"""DEC as it was published (the pretext's half is the autoencoder's), and AN as its text has it, at both sites."""


@dataclass(frozen=True, kw_only=True)
class Config:
    num_clusters: int = settings.setting(0, "clusters; 0 means as many as there are classes", low=0, symbol="C")
    student_t_dof: float = settings.setting(1.0, "degrees of freedom of the assignment's kernel", above=0, symbol="ν")
    kmeans_restarts: int = settings.setting(20, "runs of k-means for the first centers", low=1, high=1000)
    epochs: int = settings.setting(200, "passes over the training images at most", low=1, unit="epochs")
    batch_size: int = settings.setting(256, "images in a step, over all workers", low=2, unit="images", symbol="B")
    target_update_interval: int = settings.setting(140, "steps between two targets", low=1, unit="steps", symbol="T")
    tolerance: float = settings.setting(
        0.001, "training ends when a smaller share of images changes its cluster; 0 never ends it", low=0, below=1
    )
    optimizer: AdamOrSgdConfig = settings.group(
        AdamOrSgdConfig, name=settings.setting("sgd", "optimizer of encoder and centers"), lr=0.01, weight_decay=0.0
    )
    compute: ComputeConfig = settings.group(ComputeConfig)
    clustering_weight: float = settings.setting(1.0, "weight of the divergence; IDEC takes 0.1", above=0, symbol="γ")
    reconstruction_weight: float = settings.setting(
        0.0, "weight of the reconstruction error; above 0 keeps the decoder, as IDEC does", low=0
    )
    an: AnConfig = settings.group(AnConfig)
    an_site: str = settings.setting(
        "before_sharpening",
        "what is normalized: the soft assignments, the target made of them, or one after the other",
        choices=("before_sharpening", "after_sharpening", "both"),
        when={"an.mode": _AN},
    )
    an_batch_size: int = settings.setting(
        256, "images normalized together", low=2, unit="images", when={"an.mode": _AN}
    )

    def __post_init__(self) -> None:
        settings.check(self)


def limits(config: Config, shape: DataShape) -> Iterator[tuple[str, str]]:
    yield from clustering.limits_on_size(config, shape, ("num_clusters", "batch_size"))


@dataclass(frozen=True)
class _Setup:
    """What an epoch needs. model: the bare one; trained: the same, wrapped for several ranks."""

    config: Config
    data: ImageData
    model: autoencoder.EmbeddedClustering
    trained: nn.Module
    optimizer: torch.optim.Optimizer
    normalizer: alternating_normalization.Normalizer
    runtime: Runtime


@dataclass
class _Progress:
    """What lasts from step to step. target_NC float32, entropy_N: of the last update; labels_N: the clusters then.

    losses: of the last epoch that made a step.
    """

    target_NC: Tensor
    entropy_N: Tensor
    labels_N: Tensor
    steps: int = 0
    updates: int = 0
    label_change: float = 1.0
    is_settled: bool = False
    losses: dict[str, float] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, value.to(self.labels_N.device) if isinstance(value, Tensor) else value)


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Train encoder and centers; see the module's docstring.

    Returns:
        weights: clustering (encoder, decoder and centers). arrays: probabilities_train, probabilities_eval (N, C) and
        embedding_train, embedding_eval (N, E), float32; where assignments were corrected also refined_eval (N, C).
        facts: those of the autoencoder, num_clusters, is_settled, student_t_dof.
    """
    setup, progress = _set_up(config, data, inputs["pretext"], runtime, is_fresh=runtime.resume() is None)

    def run(epoch: int) -> dict[str, float]:
        progress.losses = _epoch(setup, progress, epoch) or progress.losses
        evaluated = _evaluate(setup, _assignments(setup, data.eval), progress)
        return progress.losses | evaluated | setup.normalizer.report()

    parts: dict[str, loop.Stateful] = {
        "model": setup.model, "optimizer": setup.optimizer, "normalizer": setup.normalizer, "progress": progress
    }  # fmt: skip
    yield from loop.epochs(config.epochs, runtime, parts, run, stop=lambda _: progress.is_settled)
    q_train_NC = _assignments(setup, data.train)
    q_eval_NC = q_train_NC if data.is_union else _assignments(setup, data.eval)
    embedding = {"train": autoencoder.embedded(setup.model.autoencoder, data.train).cpu().numpy()}
    embedding["eval"] = (
        embedding["train"] if data.is_union else autoencoder.embedded(setup.model.autoencoder, data.eval).cpu().numpy()
    )
    arrays = {f"embedding_{part}": rows for part, rows in embedding.items()}
    arrays["probabilities_train"] = q_train_NC.float().cpu().numpy()
    arrays["probabilities_eval"] = arrays["probabilities_train"] if data.is_union else q_eval_NC.float().cpu().numpy()
    refined, an_metrics = setup.normalizer.at_the_end(q_eval_NC, data.eval.labels_N)
    return Result(
        weights={"clustering": setup.model.state_dict()},
        arrays=arrays | refined,
        facts={
            **inputs["pretext"].facts,
            "num_clusters": q_eval_NC.shape[1],
            "is_settled": progress.is_settled,
            "student_t_dof": config.student_t_dof,
        },
        metrics=progress.losses | _evaluate(setup, q_eval_NC, progress) | setup.normalizer.report() | an_metrics,
    )


def _set_up(
    config: Config, data: ImageData, pretext: Result, runtime: Runtime, *, is_fresh: bool
) -> tuple[_Setup, _Progress]:
    """Everything at its start; without a k-means where a saved state follows."""
    num_clusters = config.num_clusters or len(data.class_names)
    points_NE = np.ascontiguousarray(pretext.arrays["embedding_train"], dtype=np.float32)
    centers_CE, labels_N = np.zeros((num_clusters, points_NE.shape[1]), np.float32), np.zeros(len(points_NE), np.int64)
    if is_fresh:
        start = runtime.search.kmeans(
            points_NE, num_clusters, seed=runtime.seed, iterations=300, restarts=config.kmeans_restarts
        )
        centers_CE, labels_N = start.centroids_CD, start.labels_N
    whole = autoencoder.built(pretext.facts, runtime.seed)
    whole.load_state_dict(pretext.weights["autoencoder"])
    model = autoencoder.EmbeddedClustering(
        whole,
        torch.tensor(centers_CE),
        config.student_t_dof,
        keeps_decoder=config.reconstruction_weight > 0,
    ).to(runtime.device)
    optimizer = adam_or_sgd(config.optimizer, [p for p in model.parameters() if p.requires_grad])
    sizes = alternating_normalization.Sizes(num_clusters, len(data.class_names), config.an_batch_size)
    normalizer = alternating_normalization.Normalizer(config.an, sizes, runtime.device)
    setup = _Setup(config, data, model, runtime.prepare(model, config.compute), optimizer, normalizer, runtime)
    nothing = torch.zeros(0, device=runtime.device)
    return setup, _Progress(nothing, nothing, torch.tensor(labels_N, device=runtime.device))


@torch.no_grad()
def _assignments(setup: _Setup, split: Split) -> Tensor:
    """(N, C) float64 soft assignments of a split.

    Raises:
        FloatingPointError: the model has diverged.
    """
    whole = setup.model.autoencoder
    embedding_NE = autoencoder.embedded(whole, split, precision=setup.config.compute.precision).double()
    q_NC = soft_assignment.student_t(embedding_NE, setup.model.centers_CE.double(), setup.config.student_t_dof)
    if not bool(q_NC.isfinite().all()):
        raise FloatingPointError("the soft assignments are not finite numbers")
    return q_NC


def _update(setup: _Setup, progress: _Progress, epoch: int) -> None:
    """A new target for every training image, and whether the clusters have settled. Every rank computes all of it."""
    config = setup.config
    q_NC = _assignments(setup, setup.data.train)
    labels_N = q_NC.argmax(1)
    progress.label_change = float((labels_N != progress.labels_N).double().mean())
    progress.is_settled = progress.updates > 0 and progress.label_change < config.tolerance
    progress.labels_N = labels_N
    entropy_N = torch.zeros(len(q_NC), dtype=torch.float64, device=q_NC.device)
    sites = config.an_site if setup.normalizer.is_active(epoch) else "nowhere"
    if sites in ("before_sharpening", "both"):
        q_NC, entropy_N = _normalized(setup, q_NC, progress, epoch)
    target_NC = soft_assignment.target(q_NC)
    if sites in ("after_sharpening", "both"):
        target_NC, target_entropy_N = _normalized(setup, target_NC, progress, epoch)
        entropy_N = target_entropy_N if sites == "after_sharpening" else entropy_N
    progress.target_NC, progress.entropy_N = target_NC.float(), entropy_N
    progress.updates += 1


def _normalized(setup: _Setup, rows_NC: Tensor, progress: _Progress, epoch: int) -> tuple[Tensor, Tensor]:
    """Rows (N, C) after alternating normalization, and entropies (N,), in batches drawn anew."""
    generator = setup.runtime.generator("refined together", progress.updates)
    order_N = torch.randperm(len(rows_NC), generator=generator, device=generator.device)
    return setup.normalizer.in_batches(rows_NC, setup.data.train.labels_N, epoch, order_N)


def _epoch(setup: _Setup, progress: _Progress, epoch: int) -> dict[str, float]:
    """Mean losses of one pass; empty where the clusters settled before its first step."""
    config, runtime, split = setup.config, setup.runtime, setup.data.train
    sums, steps = torch.zeros(3, device=runtime.device), 0
    for batch in runtime.batches(split, config.batch_size, epoch):
        if progress.steps % config.target_update_interval == 0:
            _update(setup, progress, epoch)
            if progress.is_settled:
                break
        terms_3 = _loss(setup, progress, batch, epoch)
        loop.step(terms_3[0], setup.optimizer)
        sums += runtime.gather(terms_3.detach()[None]).mean(0)
        steps += 1
        progress.steps += 1
    if not steps:  # Settled at the first step: the loss is that of the epoch before.
        return {}
    loss, divergence, reconstruction = (sums / steps).tolist()
    losses = {"loss": loss, "divergence": divergence}
    return losses | ({"reconstruction": reconstruction} if config.reconstruction_weight else {})


def _loss(setup: _Setup, progress: _Progress, batch: Batch, epoch: int) -> Tensor:
    """This rank's part of (loss, divergence, reconstruction error)."""
    config = setup.config
    scaled_BD = setup.model.autoencoder.scaled(setup.data.train.images_NCHW[batch.rows_B])
    q_BC, decoded_BD = setup.trained(scaled_BD)
    divergence_B = soft_assignment.divergence(progress.target_NC[batch.rows_B], q_BC)
    if setup.normalizer.weighs(epoch):
        entropy_T = setup.runtime.gather(progress.entropy_N[batch.rows_B])
        own = slice(batch.start, batch.start + len(batch.rows_B))
        divergence_B = divergence_B * setup.normalizer.weights(entropy_T)[own]
    divergence = divergence_B.mean()
    error = torch.zeros_like(divergence) if decoded_BD is None else (decoded_BD - scaled_BD).square().mean()
    total = config.clustering_weight * divergence + config.reconstruction_weight * error
    return torch.stack((total, divergence, error))


def _evaluate(setup: _Setup, q_NC: Tensor, progress: _Progress) -> dict[str, float]:
    """The evaluation's metrics, and what chooses: how far assignments are from their own target, and how unsettled."""
    own = float(soft_assignment.divergence(soft_assignment.target(q_NC), q_NC).mean())
    evaluated = clustering.evaluate(q_NC.float().cpu(), setup.data)
    return evaluated | {"label_change": progress.label_change, "selection_loss": own + progress.label_change}


def classifier(result: Result, data: ImageData) -> autoencoder.ClusterModel:
    """Encoder and centers. The decoder that the weights hold too is not used."""
    weights, dof = result.weights["clustering"], result.facts["student_t_dof"]
    centers_CE = torch.zeros_like(weights["centers_CE"])
    whole = autoencoder.built(result.facts, seed=0)
    model = autoencoder.EmbeddedClustering(whole, centers_CE, dof, keeps_decoder=False)
    model.load_state_dict(weights)
    return autoencoder.ClusterModel(model, dof)


def figures(result: Result, data: ImageData, history: Sequence[Mapping[str, float]]) -> dict[str, CaptionedFigure]:
    refined = of_results.refinement(result, data, of_results.kept(result, "embedding_eval"))
    return of_results.clustering(result, data, history) | refined
