"""The types a stage meets: its data, what it yields, what it leaves behind, and the runtime it stands on.

What a stage module says
------------------------
A stage is a module in ``trainables/stages`` with these names (see ``Stage``; ``registry`` checks them):

    NAMESPACE         the prefix of its settings and metrics, and its slot in a pipeline ("pretext", "scan", ...);
                      stages of the slot "pretext" that leave a backbone can take each other's place
    INPUTS            the slots whose results it reads; ("probed",) makes it a probe of the last backbone
    VERSION           raised whenever its numbers change, so that old artifacts are no longer found
    METRICS           the names it may report
    CRITERION         (metric, "min" | "max"), label-free, or None where the stage ranks nothing; its result has it
    TRAINS_ON_LABELS  whether labels train it by definition; plans and reports say so of its method
    WEIGHTS, ARRAYS, FACTS
                      the names in its Result; with "backbone" among the weights a probe may follow it
    TINY              setting -> value: with these it trains on a hundred small images in about a second. Tests train it
                      so, on one process and on two; a low learning rate keeps the two equal
    Config            a frozen dataclass of ``settings.setting`` fields
    limits            what the data set's size forbids, found before anything starts
    train             the whole method, a generator of epochs that returns its result

and, where there is something to say,

    classifier(result, data)
                      its model: images as they lie in the data set, (B, C, H, W), to float32 probabilities of clusters,
                      (B, clusters). The best one of a sweep is logged; LookupError says why there is none
    figures(result, data, history)
                      file name -> CaptionedFigure; history has a row per epoch
    sized(config, shape) -> NetworkSize
                      what it trains, for the estimate of memory, where that is more than ``config.network`` with two
                      views of ``config.batch_size`` images
    SEEDED_BY = "pretext"
                      for a stage outside of the slot "pretext" that the pretext's seed decides
    WHOLE_PICTURES = True
                      it cuts its crops out of whole pictures where ``dataset.whole_pictures`` is true
    SPACES            of a pretext: which features it leaves, "head" and "backbone"
    spaces(config, shape)
                      of a pretext whose settings decide which of SPACES it leaves: those alone
    PRESETS           preset -> data set -> setting -> value: published recipes, which a study takes by name; what
                      stands under EVERY_SET holds for any data set
    limits_with(config, others, shape)
                      what a Config of another stage of its pipeline forbids on this data set; others: slot -> Config
    SMOKE             setting -> value under ``--smoke`` whatever the study says, where a few epochs give the usual
                      settings nothing to work on

Some names of settings are read by others: ``epochs`` and ``*_epochs`` are cut by ``--smoke``; ``batch_size``,
``network`` and ``num_clusters`` enter the estimate of memory; ``num_clusters`` and ``final_clusters`` = 0 mean as many
as there are classes (``num_clusters`` beside ``final_clusters``: ten times as many), and are refused without labels.

What others read from a Result
------------------------------
    weights  backbone             a state dict of ``nets.backbones``; with facts["network"] what probes and later
                                  stages start from
    arrays   probabilities_train, probabilities_eval
                                  (N, C) float32, rows sum to 1: the clustering. Its largest is an image's cluster
             features_eval        (N, D): the features by which reports draw the clusters in two dimensions
             head_train, ...      a pretext's features of each space, by ``<space>_train`` and ``<space>_eval``
             lengths_train, ...   of a pretext whose backbone does not change: the lengths of the backbone's rows, so
                                  that stages which train heads alone need not compute them again
             refined_eval         (N, C): probabilities after alternating normalization, for figures alone
    facts    network              the backbone's name;  sobel: whether gradients of the image go into it
             normalized           false where the network saw plain pixels of 0 to 1; true where this is missing
             num_clusters         C
             space                of a stage that clustered another one's features: which of its spaces
             mining_space         of a pretext: the space in which neighbors are mined
             looks_at_labels      whether labels steered it: then no number of it is called label-free
    metrics  cluster_share_max, num_empty_clusters, cluster_entropy
                                  of ``maths.metrics.evaluate``: what the collapse guard and the reports look at

A stage imports no other stage, no Ray and no tracker, and runs on a bare machine:

    for epoch in simclr.train(config, data, {}, LocalSession(seed=0)): print(epoch.metrics)

Axes: N images, B batch, C channels or clusters, H height, W width, D feature width, K neighbors.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .label_metrics import without_unknown
from .settings import Plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .nets import precision

State = Mapping[str, Any]
"""Tensors, numbers, text, lists and dicts of these: what ``torch.load(weights_only=True)`` opens."""

Metric = Literal["inner_product", "l2"]


EVERY_SET = "every data set"
"""Stands for the name of a data set in a stage's PRESETS."""

WINDOWS_PX: Mapping[int, int] = {256: 224}
"""Side of the kept images: side of the window through which networks see them, as ImageNet's recipes have it.

Views are cut out of the whole kept image, evaluation sees its middle. Images of any other size are seen whole.
"""


class Images(Protocol):
    """The images of a split: a Tensor, or files that are decoded when their rows are asked for (``data.files``).

    ``images[rows]``, rows an int64 tensor or a slice, is a Tensor on ``device``; ``images[:]`` is all of them.
    """

    @property
    def shape(self) -> torch.Size: ...

    @property
    def ndim(self) -> int: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def device(self) -> torch.device: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Tensor: ...

    def to(self, device: torch.device, /) -> "Images": ...


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    images_NCHW: uint8; a matrix of features is float32 of shape (N, D, 1, 1). labels_N: int64, -1 where unknown.
    names: what each image is known by to people, in the order of the rows: the path of its file below
        ``ImageData.root``, or its part and row in a published set ("train/17"). ``data.datasets.load`` gives every
        image one; empty where nobody did. A file name that is no UTF-8 holds surrogates, as Python's file names do.
    """

    images_NCHW: Images
    labels_N: Tensor
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images_NCHW)

    def to(self, device: torch.device) -> "Split":
        return replace(self, images_NCHW=self.images_NCHW.to(device), labels_N=self.labels_N.to(device))


@dataclass(frozen=True)
class Batch:
    """One rank's part of a global batch.

    rows_B: int64 indices into the data set, on the generator's device.
    start, total: these rows are start .. start + B of the ``total`` rows in the global batch.
    """

    rows_B: Tensor
    start: int
    total: int


@dataclass(frozen=True)
class DataShape:
    """What can be known of a data set without its pixels; enough to judge a study file.

    num_classes: 0 where no label is known. image_size_px: as networks see the images (see WINDOWS_PX).
    is_features: rows of num_channels features instead of images, which no network for images takes.
    num_train_unlabeled, num_eval_unlabeled: how many of the images have no label, where some have one.
    class_sizes: training images with the label of each class; empty where nobody counted, and then each has as many.
    """

    num_train: int
    num_eval: int
    num_classes: int
    num_channels: int
    image_size_px: int
    is_features: bool = False
    num_train_unlabeled: int = 0
    num_eval_unlabeled: int = 0
    class_sizes: tuple[int, ...] = ()

    @property
    def num_train_labeled(self) -> int:
        """Training images whose label is known."""
        return self.num_train - self.num_train_unlabeled if self.num_classes else 0

    @property
    def num_eval_labeled(self) -> int:
        """Evaluation images whose label is known."""
        return self.num_eval - self.num_eval_unlabeled if self.num_classes else 0


@dataclass(frozen=True)
class ImageData:
    """A data set as a stage meets it: uint8 images on the device, labels for evaluation only.

    mean, std: per channel, of pixels scaled to [0, 1]; empty for features, which are used as they are.
    fingerprint: of pixels, labels and their order; of large sets that lie in files, see ``data.sets``.
    unlabeled: further images without labels, which only pretexts train on (STL-10 has 100,000 of them).
    class_groups: the super-class of each class, in the order of class_names, -1 for none; empty where there are none.
    root: the folder whose files ``train.names`` and ``eval.names`` are; empty where they are no files.
    left_out: a sentence for each kind of file that lies beside the images and is not among them; see ``remarks``.
    """

    name: str
    train: Split
    eval: Split
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    unlabeled: Split | None = None
    class_groups: tuple[int, ...] = ()
    root: str = ""
    left_out: tuple[str, ...] = ()

    @cached_property
    def pretext(self) -> Split:
        """What a pretext trains on: the training images first, then the unlabeled ones if the set has any.

        No copy where the two lie one after the other in memory, as ``to`` and the loader lay them.
        """
        if self.unlabeled is None:
            return self.train
        first, second = self.train, self.unlabeled
        return Split(
            adjoined(first.images_NCHW[:], second.images_NCHW[:]),
            torch.cat([first.labels_N, second.labels_N]),
            first.names + second.names,
        )

    @cached_property
    def shape(self) -> DataShape:
        _, channels, height, _ = self.train.images_NCHW.shape
        is_features = self.train.images_NCHW.dtype != torch.uint8
        size_px = WINDOWS_PX.get(height, height)
        num_classes = len(self.class_names)
        labels_L = self.train.labels_N[self.train.labels_N >= 0]
        return DataShape(
            num_train=len(self.train),
            num_eval=len(self.eval),
            num_classes=num_classes,
            num_channels=channels,
            image_size_px=size_px,
            is_features=is_features,
            num_train_unlabeled=len(self.train) - len(labels_L) if num_classes else 0,
            num_eval_unlabeled=int((self.eval.labels_N < 0).sum()) if num_classes else 0,
            class_sizes=tuple(labels_L.bincount(minlength=num_classes).tolist()) if num_classes else (),
        )

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a plan and a report have to say of the images, in sentences: labels that lack, files left out."""
        shape = self.shape
        if not shape.num_train_labeled + shape.num_eval_labeled:
            return ("No image has a label, so there is no metric that needs labels.", *self.left_out)
        if not shape.num_train_unlabeled + shape.num_eval_unlabeled:
            return self.left_out
        parts = [f"{shape.num_eval_labeled:,} of {shape.num_eval:,} evaluation images"]
        if not self.is_union:
            parts.insert(0, f"{shape.num_train_labeled:,} of {shape.num_train:,} training images")
        return (f"{' and '.join(parts)} have a label; metrics that need labels are over these.", *self.left_out)

    def to(self, device: torch.device) -> "ImageData":
        if self.unlabeled is None:
            train, unlabeled = self.train.to(device), None
        else:
            whole, num = self.pretext.to(device), len(self.train)
            train, unlabeled = (
                Split(whole.images_NCHW[part], whole.labels_N[part], whole.names[part])
                for part in (slice(num), slice(num, None))
            )
        return replace(self, train=train, eval=train if self.is_union else self.eval.to(device), unlabeled=unlabeled)

    @property
    def is_union(self) -> bool:
        """Whether the images that are judged are those that are trained on (protocol: union or train)."""
        return self.eval is self.train


def adjoined(first: Tensor, second: Tensor) -> Tensor:
    """``second`` after ``first`` along the first axis, as a view of both where they already lie so in memory."""
    after = (
        first.is_contiguous()
        and second.is_contiguous()
        and (first.dtype, first.shape[1:]) == (second.dtype, second.shape[1:])
        and first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
        and first.storage_offset() + first.numel() == second.storage_offset()
    )
    if not after:
        return torch.cat([first, second])
    return first.as_strided((len(first) + len(second), *first.shape[1:]), first.stride())


@dataclass(frozen=True)
class Epoch:
    """One finished epoch. ``state`` gives what ``train`` needs to go on from here; it is called only to be saved.

    metrics: a label metric that is NaN, for want of labels, is left out.
    """

    number: int
    total: int
    metrics: Mapping[str, float]
    state: Callable[[], State]

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", without_unknown(self.metrics))


@dataclass(frozen=True)
class Result:
    """What a stage leaves behind, in memory or read back from the store.

    weights: state dicts by part ("backbone", "head", ...). arrays: NumPy arrays by name, read-only when read back.
    facts: plain values that later stages or reports need (network name, chosen head, warnings counted).
    metrics: the stage's final numbers, a subset of METRICS; a label metric that is NaN, for want of labels, is left
        out.
    """

    weights: Mapping[str, State] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", without_unknown(self.metrics))


@dataclass(frozen=True)
class Clustering:
    """A clustering. centroids_CD float32; labels_N int64; distances_N float32, squared L2 to the own centroid."""

    centroids_CD: NDArray[np.float32]
    labels_N: NDArray[np.int64]
    distances_N: NDArray[np.float32]
    inertia: float
    num_empty: int


@dataclass(frozen=True)
class Whitening:
    """PCA to E dimensions of variance 1: ``points_ND @ matrix_DE + offset_E``, float32.

    num_flat: of the E directions, how many have no spread to speak of; they are zero instead of noise made large.
    """

    matrix_DE: NDArray[np.float32]
    offset_E: NDArray[np.float32]
    num_flat: int

    def apply(self, points_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        points_NE: NDArray[np.float32] = points_ND @ self.matrix_DE + self.offset_E
        return points_NE


class EndsTrial(RuntimeError):
    """A stage has nothing to go on with, and would have nothing at another attempt either.

    The trial ends there, with the reason and with the numbers of the stages before.
    """


class Search(Protocol):
    """Neighbor search, clustering and PCA, in this process or in an actor that all trials share."""

    def knn(  # noqa: PLR0913 - what decides a search
        self,
        base_ND: NDArray[np.float32],
        queries_MD: NDArray[np.float32] | None,
        k: int,
        metric: Metric,
        half: bool = False,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k nearest rows of ``base_ND`` for each query, nearest first; ties by index.

        ``queries_MD`` None means: the base itself, with each row's own index always in column 0. ``half``: the base is
        kept in float16, which takes half of the memory; what is nearly equal may change places.
        Returns (M, k) similarities (inner product) or squared distances (l2), and (M, k) indices; never -1.
        """
        ...

    def kmeans(
        self, points_ND: NDArray[np.float32], k: int, seed: int, iterations: int, restarts: int
    ) -> Clustering: ...

    def assign(
        self, points_ND: NDArray[np.float32], centroids_CD: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Nearest centroid (L2) of each point: (N,) labels and (N,) squared distances."""
        ...

    def pic(self, points_ND: NDArray[np.float32], neighbors: int, sigma: float, damping: float) -> Clustering:
        """Power iteration clustering on the graph of nearest neighbors, which finds the number of clusters itself."""
        ...

    def whiten(self, points_ND: NDArray[np.float32], dim: int) -> Whitening:
        """PCA to ``dim`` dimensions of variance 1, fitted on all points."""
        ...


class Runtime(Protocol):
    """Where a stage runs: one process, or one rank of a worker group. Collective calls are made by every rank."""

    @property
    def device(self) -> torch.device: ...

    @property
    def rank(self) -> int: ...

    @property
    def world_size(self) -> int: ...

    @property
    def seed(self) -> int: ...

    @property
    def search(self) -> Search: ...

    def generator(self, purpose: str, epoch: int = 0) -> torch.Generator:
        """A fresh generator on the device, fixed by (seed, stage, purpose, epoch) alone: the same on every rank."""
        ...

    def batches(
        self, rows: int | Split, size: int, epoch: int, *, purpose: str = "order", drop_last: bool = True
    ) -> Iterator[Batch]:
        """This rank's part of each batch of one pass over ``rows`` in random order.

        Args:
            rows: how many there are, or a Split, which then decodes ahead those of its images that lie in files.
            size: rows in a batch, over all ranks.
            epoch, purpose: what the order is drawn for; see ``generator``.
            drop_last: leave out what is left over at the end.

        Raises:
            ValueError: size is not a multiple of the ranks, or drop_last leaves no batch at all.
        """
        ...

    def gather(self, rows: Tensor) -> Tensor:
        """Rows of all ranks in rank order, with gradients. Every rank brings as many rows."""
        ...

    def prepare(self, model: nn.Module, how: "precision.ComputeConfig | None" = None) -> nn.Module:
        """The model on the device, wrapped for gradient averaging where there are several ranks.

        how: precision and compilation of its forward pass, plain float32 if None; outputs are float32 in any case.
        """
        ...

    def resume(self) -> State | None:
        """The state of the last saved epoch of this very stage, or None to start at the beginning."""
        ...


@dataclass(frozen=True)
class CaptionedFigure:
    """A figure of a stage's result. caption: what it shows, without a full stop. draw: makes it."""

    caption: str
    draw: Callable[[], "Figure"]


@dataclass(frozen=True)
class NetworkSize:
    """How large the networks of a stage are, for the estimate of memory.

    Attributes:
        name: of the network.
        parameters: values that are trained.
        outputs: values that all layers put out for one image.
        images: of the largest step, every view counted.
    """

    name: str
    parameters: int
    outputs: int
    images: int


class Stage(Protocol):
    """The names every module in ``trainables/stages`` has; the optional ones are above."""

    NAMESPACE: str
    INPUTS: tuple[str, ...]
    VERSION: int
    METRICS: tuple[str, ...]
    CRITERION: tuple[str, Literal["min", "max"]] | None
    TRAINS_ON_LABELS: bool
    WEIGHTS: tuple[str, ...]
    ARRAYS: tuple[str, ...]
    FACTS: tuple[str, ...]
    TINY: Mapping[str, Plain]
    Config: type[Any]

    @staticmethod
    def limits(config: Any, shape: DataShape) -> Iterator[tuple[str, str]]:
        """(setting, sentence) for each setting that this data set cannot carry."""
        ...

    @staticmethod
    def train(
        config: Any, data: ImageData, inputs: Mapping[str, Result], runtime: Runtime
    ) -> Generator[Epoch, None, Result]: ...
