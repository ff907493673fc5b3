"""DCCM: a network follows its own confident predictions on plain images while it looks at transformed ones.

Of each outer batch the plain images give targets (which pairs are alike, which labels are sure); the inner loop then
takes small batches of it several times. Three losses: pairs, labels, and the mutual information of deep and shallow
features in triplets. Nothing is trained before; the last epoch is kept.

Source: DCCM section 3 and Alg. 1, details from its code. Code and text differ: the defaults are the code's, and the
preset ``paper`` is the text's (see PRESETS). Table 3 is M1 to M4 in search_spaces/papers/dccm_table3.yaml.
``graph_threshold_schedule: falling`` and ``consistency_loss_weight`` make it DAC; DAC's unit length of predictions is
left out, since cosines do not see it. Differs: DCCM's code keeps the epoch of the best NMI with the true labels.
Probes judge the network up to its features, with the batch norms' statistics of the training images.

Axes: N images, B inner batch, O outer batch, C clusters, D feature width.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from .. import settings
from ..data import augment, batches, view_batches
from ..figures import of_results
from ..interfaces import Batch, CaptionedFigure, DataShape, Epoch, ImageData, NetworkSize, Result, Runtime, Split
from ..maths import correlation, metrics, mutual_information
from ..nets import dccm, rmsprop, sizes
from ..nets.precision import ComputeConfig
from ..training import clustering, loop
from ..training.views import AffineConfig

NAMESPACE = "dccm"
INPUTS: tuple[str, ...] = ()
VERSION = 4
METRICS = (
    "loss",
    "graph_loss",
    "label_loss",
    "mi_loss",
    "consistency_loss",
    "invariance_loss",
    "graph_threshold",
    "confident_pairs",
    "confident_labels",
    "guarded_confidence",
    "bcubed_precision",
    "bcubed_recall",
    "bcubed_f",
    "epoch_seconds",
    *metrics.EVALUATION_METRICS,
)
CRITERION = ("guarded_confidence", "max")
"""Not the loss: it changes with every weight and threshold, and is smallest where all images share one cluster."""

TRAINS_ON_LABELS = False
WEIGHTS = ("backbone", "network", "discriminator")
ARRAYS = ("probabilities_train", "probabilities_eval", "features_eval", "confidence_untrained", "confidence_last")
FACTS = ("network", "num_clusters", "normalized")
TINY: Mapping[str, settings.Plain] = {
    "augmentation": "affine",
    "train_on_original": True,
    "outer_batch": 48,
    "inner_batch": 24,
    "inner_repeats": 1,
    "augment_passes": 1,
    "epochs": 1,
    "optimizer.lr": 1e-5,
}

EVALUATION_BATCH = 1000
"""Images predicted together, as in DCCM's code; batch norms have no running statistics."""
SMALLEST_SHARE = 0.25
"""Clusters below this share of their fair size void the confidence as a criterion: a collapsed model is sure too."""
TERMS = ("loss", "graph_loss", "label_loss", "mi_loss", "consistency_loss", "invariance_loss")

_DATA_SETS = (
    "digits",
    "mnist",
    "cifar10",
    "cifar20",
    "cifar100",
    "stl10",
    "imagenet10",
    "imagenet_dogs",
    "tiny_imagenet",
)
PRESETS: Mapping[str, Mapping[str, Mapping[str, settings.Plain]]] = {
    "paper": dict.fromkeys(
        _DATA_SETS,
        {
            "train_on_original": True,
            "label_loss": "ce",
            "mi_loss_weight": 0.1,
            "invariance_loss_weight": 1.0,
        },
    ),
    "repo": {"cifar10": {"mi_loss_weight": 0.05}, "cifar20": {"mi_loss_weight": 0.05, "optimizer.lr": 1e-3}},
}
"""paper: the text of sections 3 and 4, the same for every set; it also asks for 96 px, the data set's ``image_size``.
Eq. 15 leaves out the invariance loss L_r of section 3.3, whose weight is not published. repo: the code's two files.
"""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """RMSprop."""

    lr: float = settings.setting(1e-4, "learning rate of RMSprop, constant", above=0)
    rmsprop_decay: float = settings.setting(0.9, "decay of RMSprop's mean square", above=0, high=0.9999)

    def __post_init__(self) -> None:
        settings.check(self)


@dataclass(frozen=True, kw_only=True)
class Config:
    network: str = settings.setting(
        "auto", "auto picks by image size: dccm_c4 from 32 px on, dccm_small below", choices=("auto", *dccm.NETWORKS)
    )
    num_clusters: int = settings.setting(0, "clusters; 0 means as many as there are classes", low=0, symbol="C")
    graph_threshold: float = settings.setting(
        0.95, "cosine from which two images count as alike", above=0, below=1, symbol="thres₁"
    )
    graph_threshold_schedule: str = settings.setting(
        "fixed", "the threshold stays (DCCM), or falls linearly (DAC)", choices=("fixed", "falling")
    )
    graph_threshold_end: float = settings.setting(
        0.75, "cosine at the end of the fall", above=0, below=1, when={"graph_threshold_schedule": ("falling",)}
    )
    graph_threshold_epochs: int = settings.setting(
        50, "length of the fall", low=1, unit="epochs", when={"graph_threshold_schedule": ("falling",)}
    )
    label_threshold: float = settings.setting(
        0.9, "probability from which a prediction becomes a label", above=0, below=1, symbol="thres₂"
    )
    normalize_similarity: bool = settings.setting(True, "divide the trained cosines by the largest of the batch")
    label_loss: correlation.LabelLoss = settings.setting(
        "bce", "binary cross entropy per cluster (code) or cross entropy (text)"
    )
    graph_loss_weight: float = settings.setting(1.0, "weight of the pairs", low=0)
    label_loss_weight: float = settings.setting(5.0, "weight of the labels", low=0, symbol="α")
    mi_loss_weight: float = settings.setting(
        0.05, "weight of the mutual information; 0.05 in the code, 0.1 in the text", low=0, symbol="β"
    )
    consistency_loss_weight: float = settings.setting(
        0.0, "weight of the tie to the plain image's prediction; 10 in DAC, none in DCCM", low=0
    )
    invariance_loss_weight: float = settings.setting(
        0.0, "weight of the l2 distance to the plain image's prediction: L_r of the text", low=0
    )
    train_on_original: bool = settings.setting(False, "train on plain images too: the losses without prime of the text")
    train_on_transformed: bool = settings.setting(True, "train on transformed images: local robustness")
    triplet_sampler: str = settings.setting(
        "fixed", "partners drawn evenly, or as the code takes them", choices=("fixed", "reference")
    )
    augmentation: str = settings.setting(
        "keras_like", "how images are transformed; affine is for tiny grey images", choices=("keras_like", "affine")
    )
    views: AffineConfig = settings.group(AffineConfig)
    epochs: int = settings.setting(200, "passes over the training images", low=1, unit="epochs")
    outer_batch: int = settings.setting(1000, "images that share their targets", low=4, unit="images")
    inner_batch: int = settings.setting(32, "images in a step, over all workers", low=4, unit="images", symbol="B")
    inner_repeats: int = settings.setting(10, "passes over an outer batch", low=1)
    augment_passes: int = settings.setting(2, "steps on an inner batch, each with new views", low=1)
    optimizer: OptimizerConfig = settings.group(OptimizerConfig)
    compute: ComputeConfig = settings.group(ComputeConfig)

    def __post_init__(self) -> None:
        settings.check(self)
        if self.inner_batch > self.outer_batch:
            sentence = f"inner_batch must be at most outer_batch ({self.outer_batch}), but is {self.inner_batch}."
            raise settings.SettingsError([("inner_batch", sentence)])
        if not (self.train_on_original or self.train_on_transformed):
            sentence = "train_on_transformed must be true where train_on_original is false, but both are false."
            raise settings.SettingsError([("train_on_transformed", sentence)])


def limits(config: Config, shape: DataShape) -> Iterator[tuple[str, str]]:
    yield from clustering.limits_on_size(config, shape, ("num_clusters", "outer_batch"))
    try:
        dccm.resolve(config.network, shape)
    except ValueError as error:
        yield "network", str(error)


def sized(config: Config, shape: DataShape) -> NetworkSize:
    """Network and discriminator, whose maps of pairs are the largest of all."""
    name, num_clusters = dccm.resolve(config.network, shape), config.num_clusters or shape.num_classes
    counts = sizes.count(lambda: dccm.Scored(name, shape, num_clusters), shape)
    kinds = config.train_on_original + config.train_on_transformed
    return NetworkSize(name, *counts, config.inner_batch * kinds)


@dataclass(frozen=True)
class _Setup:
    """What an epoch needs. model: the bare one; trained and discriminator: wrapped for several ranks.

    weights: of the TERMS after the loss.
    """

    config: Config
    data: ImageData
    model: dccm.CorrelationNetwork
    critic: dccm.Discriminator
    trained: nn.Module
    discriminator: nn.Module
    optimizer: torch.optim.Optimizer
    runtime: Runtime
    weights: Tensor


@dataclass(frozen=True)
class _Targets:
    """What the plain images of an inner batch say."""

    linked_BB: Tensor
    label_B: Tensor
    confident_B: Tensor
    predictions_BC: Tensor


def train(
    config: Config, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
) -> Generator[Epoch, None, Result]:
    """Train network and discriminator; see the module's docstring.

    Returns:
        weights: backbone, network, discriminator. arrays, float32: probabilities_train, probabilities_eval (N, C),
        features_eval (N, D), confidence_untrained, confidence_last (N,) largest probabilities of the evaluation images
        before training and after the last epoch. facts: network, num_clusters, normalized.

    Raises:
        FloatingPointError: the model has diverged.
    """
    setup = _set_up(config, data, runtime)
    first = loop.Values(confidence_N=torch.empty(0))

    def run(epoch: int) -> dict[str, float]:
        if epoch == 0:
            first["confidence_N"] = _outputs(setup, data.eval)[0].amax(dim=1)
        terms = _epoch(setup, epoch)
        eval_NC, _ = _outputs(setup, data.eval)
        return terms | _evaluate(setup, eval_NC, terms["graph_threshold"])

    parts: dict[str, loop.Stateful] = {
        "model": setup.model, "critic": setup.critic, "optimizer": setup.optimizer, "first": first
    }  # fmt: skip
    last = yield from loop.epochs(config.epochs, runtime, parts, run)
    eval_NC, features_ND = _outputs(setup, data.eval)
    train_NC = eval_NC if data.is_union else _outputs(setup, data.train)[0]
    return Result(
        weights={
            "backbone": dccm.backbone_state(setup.model, data.shape, _plain_batches(setup, data.train)),
            "network": setup.model.state_dict(),
            "discriminator": setup.critic.state_dict(),
        },
        arrays={
            "probabilities_train": train_NC.numpy(),
            "probabilities_eval": eval_NC.numpy(),
            "features_eval": features_ND.numpy(),
            "confidence_untrained": first["confidence_N"].numpy(),
            "confidence_last": eval_NC.amax(dim=1).numpy(),
        },
        facts={"network": setup.model.name, "num_clusters": eval_NC.shape[1], "normalized": False},
        metrics=last,
    )


def _set_up(config: Config, data: ImageData, runtime: Runtime) -> _Setup:
    name, num_clusters = dccm.resolve(config.network, data.shape), config.num_clusters or len(data.class_names)
    model = dccm.CorrelationNetwork(name, data.shape, num_clusters, seed=runtime.seed).to(runtime.device)
    critic = dccm.Discriminator(name, model.shallow_channels, num_clusters, seed=runtime.seed).to(runtime.device)
    parameters = [*model.parameters(), *critic.parameters()]
    optimizer = rmsprop.fused(parameters, lr=config.optimizer.lr, alpha=config.optimizer.rmsprop_decay)
    trained, trained_critic = (runtime.prepare(part, config.compute) for part in (model, critic))
    weights = torch.tensor([getattr(config, f"{term}_weight") for term in TERMS[1:]], device=runtime.device)
    return _Setup(config, data, model, critic, trained, trained_critic, optimizer, runtime, weights)


def graph_threshold(config: Config, epoch: int) -> float:
    """The threshold of an epoch, counted from 0."""
    if config.graph_threshold_schedule == "fixed":
        return config.graph_threshold
    share = min(1.0, epoch / config.graph_threshold_epochs)
    return config.graph_threshold + share * (config.graph_threshold_end - config.graph_threshold)


def _epoch(setup: _Setup, epoch: int) -> dict[str, float]:
    config, data, runtime = setup.config, setup.data, setup.runtime
    threshold = graph_threshold(config, epoch)
    generators = {purpose: runtime.generator(purpose, epoch) for purpose in ("inner", "views", "triplets")}
    sums, steps = torch.zeros(len(TERMS), device=runtime.device), 0
    counts = torch.zeros(2, dtype=torch.int64, device=runtime.device)
    # Every rank computes the targets of the whole outer batch: one pass without gradients beside 20 with them.
    outer = batches.batches(
        len(data.train), config.outer_batch, runtime.generator("outer", epoch), rank=0, world_size=1, drop_last=False
    )
    for batch in outer:
        plain_OCHW = data.train.images_NCHW[batch.rows_B]
        with torch.no_grad():
            predictions_OC = clustering.finite(setup.model(plain_OCHW.float() / 255).predictions_BC)
        linked_OO = correlation.pseudo_graph(predictions_OC, threshold)
        label_O, confident_O = correlation.pseudo_labels(predictions_OC, config.label_threshold)
        counts += torch.stack([linked_OO.triu(1).sum(), confident_O.sum()])
        for inner, images in _inner_steps(setup, plain_OCHW, generators):
            rows_B = runtime.gather(inner.rows_B)
            targets = _Targets(
                linked_OO[rows_B[:, None], rows_B], label_O[rows_B], confident_O[rows_B], predictions_OC[rows_B]
            )
            sums += _step(setup, images, targets, generators["triplets"])
            steps += 1
    means = dict(zip(TERMS, (sums / steps).tolist(), strict=True))
    pairs, labels = counts.tolist()
    return means | {"graph_threshold": threshold, "confident_pairs": float(pairs), "confident_labels": float(labels)}


def _inner_batches(setup: _Setup, num_rows: int, generator: torch.Generator) -> Iterator[Batch]:
    """Each inner batch as often as it is augmented, over all passes.

    As in DCCM's code, what is left over of an outer batch makes no step: batch norms would see a handful of images.
    """
    config, runtime = setup.config, setup.runtime
    for _ in range(config.inner_repeats):
        order = batches.batches(
            num_rows,
            config.inner_batch,
            generator,
            rank=runtime.rank,
            world_size=runtime.world_size,
            drop_last=num_rows >= config.inner_batch,
        )
        for batch in order:
            for _ in range(config.augment_passes):
                yield batch


def _inner_steps(
    setup: _Setup, plain_OCHW: Tensor, generators: Mapping[str, torch.Generator]
) -> Iterator[tuple[Batch, list[Tensor]]]:
    """Each inner batch with the kinds of images that are trained on: the plain ones, the transformed ones or both."""
    config, channels = setup.config, plain_OCHW.shape[1]
    inner = _inner_batches(setup, len(plain_OCHW), generators["inner"])
    if not config.train_on_transformed:
        for batch in inner:
            yield batch, [plain_OCHW[batch.rows_B].float() / 255]
        return
    norm, strength = augment.Norm((0.0,) * channels, (1.0,) * channels), config.views.strength()
    view = partial(augment.AUGMENTATIONS[config.augmentation], norm=norm, strength=strength)
    for batch, step in view_batches.of_batches(inner, plain_OCHW, view, generators["views"]):
        yield batch, ([step.images[0].float() / 255] if config.train_on_original else []) + step.views


def _step(setup: _Setup, images: Sequence[Tensor], targets: _Targets, triplets: torch.Generator) -> Tensor:
    """One optimizer step on each kind of images (B, C, H, W); the TERMS of it, detached."""
    config = setup.config
    outputs = [_outputs_of_batch(setup, images_BCHW) for images_BCHW in images]
    each_kind = [_terms(config, each.predictions_BC, targets) for each in outputs]
    graph, label, consistent = (sum(kinds[1:], kinds[0]) for kinds in zip(*each_kind, strict=True))
    # The mutual information counts once, on the transformed images where there are any.
    mi = graph.new_zeros(())
    if config.mi_loss_weight > 0:
        drawn = _triplets(config, targets.linked_BB, triplets)
        scores_PBHW = setup.discriminator(outputs[-1].deep_BC, outputs[-1].shallow_BFHW, drawn.partner_PB)
        mi = mutual_information.jsd_loss(scores_PBHW, drawn.usable_B)
    plain_BC = outputs[0].predictions_BC if len(outputs) > 1 else targets.predictions_BC
    with torch.set_grad_enabled(config.invariance_loss_weight > 0):
        invariance = correlation.invariance_loss(outputs[-1].predictions_BC, plain_BC)
    terms = torch.stack([graph, label, mi, consistent, invariance])
    loss = terms @ setup.weights
    loop.step(loss, setup.optimizer)
    return torch.cat([loss[None], terms]).detach()


def _outputs_of_batch(setup: _Setup, images_BCHW: Tensor) -> dccm.Outputs:
    """The network's outputs for the global batch."""
    # The first convolution wants them so forwards and backwards.
    lying_BCHW = images_BCHW.contiguous(memory_format=torch.channels_last)
    return dccm.Outputs(*(setup.runtime.gather(part) for part in setup.trained(lying_BCHW)))


def _terms(config: Config, predictions_BC: Tensor, targets: _Targets) -> tuple[Tensor, Tensor, Tensor]:
    """Graph, label and consistency loss of one kind of images."""
    graph = correlation.graph_loss(predictions_BC, targets.linked_BB, normalize_similarity=config.normalize_similarity)
    label = correlation.label_loss(predictions_BC, targets.label_B, targets.confident_B, form=config.label_loss)
    with torch.set_grad_enabled(config.consistency_loss_weight > 0):
        return graph, label, correlation.consistency_loss(predictions_BC, targets.predictions_BC)


def _triplets(config: Config, linked_BB: Tensor, generator: torch.Generator) -> mutual_information.Triplets:
    if config.triplet_sampler == "reference":
        return mutual_information.reference_triplets(linked_BB)
    keys_BB = torch.rand(linked_BB.shape, generator=generator, device=linked_BB.device)
    return mutual_information.draw_triplets(linked_BB, keys_BB)


@torch.no_grad()
def _outputs(setup: _Setup, split: Split) -> tuple[Tensor, Tensor]:
    """Probabilities (N, C) and features (N, D) on the CPU, predicted in the same mixed batches at every call.

    Raises:
        FloatingPointError: the model has diverged.
    """
    parts = []
    for images_BCHW in _plain_batches(setup, split):
        outputs = setup.model(images_BCHW)
        parts.append((outputs.predictions_BC, outputs.features_BD))
    order_N = _evaluation_order(setup, split)
    predictions_NC, features_ND = (torch.cat(each)[order_N.argsort()].cpu() for each in zip(*parts, strict=True))
    return clustering.finite(predictions_NC), features_ND


def _evaluation_order(setup: _Setup, split: Split) -> Tensor:
    return torch.randperm(len(split), generator=setup.runtime.generator("evaluation"), device=setup.runtime.device)


def _plain_batches(setup: _Setup, split: Split) -> Iterator[Tensor]:
    """All images as the network sees them, (B, C, H, W), in ``_evaluation_order``."""
    for rows in _evaluation_order(setup, split).tensor_split(max(1, len(split) // EVALUATION_BATCH)):
        yield split.images_NCHW[rows].float() / 255


def _evaluate(setup: _Setup, eval_NC: Tensor, threshold: float) -> dict[str, float]:
    """Metrics of the evaluation images, of their confidence, and of the graph that ``threshold`` makes of them."""
    evaluated = clustering.evaluate(eval_NC, setup.data, setup.config.label_threshold)
    fair = SMALLEST_SHARE / eval_NC.shape[1]
    guarded = float(eval_NC.amax(dim=1).mean()) if evaluated["cluster_share_min"] >= fair else 0.0
    order_N = torch.randperm(len(eval_NC), generator=torch.Generator().manual_seed(0))
    graph = metrics.bcubed_of_predictions(
        eval_NC, setup.data.eval.labels_N.cpu(), lambda rows_NC: correlation.pseudo_graph(rows_NC, threshold), order_N
    )
    return evaluated | {"guarded_confidence": guarded} | graph


def classifier(result: Result, data: ImageData) -> dccm.ClusterModel:
    """The network; what it says of an image depends on the batch that the image comes in."""
    facts = result.facts
    network = dccm.CorrelationNetwork(facts["network"], data.shape, facts["num_clusters"], seed=0)
    network.load_state_dict(result.weights["network"])
    return dccm.ClusterModel(network)


def figures(result: Result, data: ImageData, history: Sequence[Mapping[str, float]]) -> dict[str, CaptionedFigure]:
    drawn = of_results.clustering(result, data, history) | of_results.features_by_class(result, data)
    return drawn | of_results.pseudo_graph(result, history)
