"""From images to the points that DeepCluster and UAD cluster: features, fused or not, PCA-whitened, of length 1.

Every rank extracts its share of each batch and all ranks gather it, so that they cluster the same matrix although
their batch norms may have seen different images.

Axes: N images, B batch, D width of a feature, E width of a point.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..data import augment, batches
from ..interfaces import ImageData, Runtime, Split, Whitening
from ..maths import fusion, streaming_pca
from ..nets import feature_maps
from ..nets.backbones import Backbone

SMALLEST_NORM = 1e-12


@dataclass(frozen=True)
class Fusion:
    """How low-level features join the high-level one; the values are those of UAD's settings of the same names."""

    low_level_channels: int
    channel_selection_scope: str
    low_level_source: str
    high_level_source: str
    operation: fusion.Operation
    block_norm: str
    for_classifier: bool = False
    """Whether the classifier sees the kept channels too; only with channels that last for an epoch at least."""


@dataclass(frozen=True)
class Points:
    """What is clustered.

    Attributes:
        train_NE: of the training images, rows of length 1.
        of: gives those of another split in the same way.
        whitening: the PCA; None without one.
        high_level_share: of the PCA's directions (see ``fusion.high_level_share``); None where no blocks stand side by
            side.
    """

    train_NE: NDArray[np.float32]
    of: Callable[[Split], NDArray[np.float32]]
    whitening: Whitening | None = None
    high_level_share: float | None = None


@dataclass(frozen=True)
class Extractor:
    """What turns a split into points. fusion: None clusters the high-level feature alone.

    pca_dim: E, 0 for none. incremental: fit the PCA on a stream of batches, for a second forward pass.
    """

    backbone: Backbone
    data: ImageData
    runtime: Runtime
    batch_size: int
    fusion: Fusion | None
    pca_dim: int
    incremental: bool

    def points(self, epoch: int) -> Points:
        """Points of the training images, and what does the same to another split.

        Raises:
            FloatingPointError: features are not finite.
            ValueError: all features are the same.
        """
        if self.pca_dim == 0:
            return Points(self._mapped(self.data.train, None, epoch), lambda split: self._mapped(split, None, epoch))
        if self.incremental:
            sums: streaming_pca.Moments | None = None
            for rows_BD in self._batches(self.data.train, epoch):
                sums = sums or streaming_pca.Moments(rows_BD.shape[1], rows_BD.device)
                sums.add(rows_BD)
            assert sums is not None
            blocks = self._blocks(sums.width)
            fitted, scale_D = sums.whitening(self.pca_dim, blocks), sums.scale(blocks).float().cpu().numpy()
            train_NE = self._mapped(self.data.train, fitted, epoch)
        else:
            rows_ND = self._matrix(self.data.train, epoch)
            fitted, scale_D = self._fitted(rows_ND)
            train_NE = _unit(fitted.apply(rows_ND))
        return Points(
            train_NE,
            lambda split: self._mapped(split, fitted, epoch),
            fitted,
            self._high_level_share(fitted.matrix_DE / scale_D[:, None]),
        )

    def _fitted(self, rows_ND: NDArray[np.float32]) -> tuple[Whitening, NDArray[np.float32]]:
        """The PCA, and the factor by which each column was scaled before it."""
        blocks = self._blocks(rows_ND.shape[1])
        if not blocks:
            return self.runtime.search.whiten(rows_ND, self.pca_dim), np.ones(rows_ND.shape[1], np.float32)
        variance_D = torch.from_numpy(rows_ND.var(axis=0, dtype=np.float64))
        scale_D = streaming_pca.column_scale(variance_D, blocks).float().numpy()
        fitted = self.runtime.search.whiten(rows_ND * scale_D, self.pca_dim)
        return Whitening(scale_D[:, None] * fitted.matrix_DE, fitted.offset_E, fitted.num_flat), scale_D

    def _high_level_share(self, directions_DE: NDArray[np.float32]) -> float | None:
        if self.fusion is None or not fusion.has_blocks(self.fusion.operation):
            return None
        low_width = len(directions_DE) - self._high_width
        return fusion.high_level_share(torch.from_numpy(directions_DE), low_width)

    @property
    def _high_width(self) -> int:
        assert self.fusion is not None
        return int(np.prod(self._shapes[self.fusion.high_level_source]))

    def _blocks(self, width: int) -> tuple[int, ...]:
        """Widths of the blocks that are standardized each; none where nothing is."""
        if self.fusion is None or self.fusion.block_norm != "zscore_each":
            return ()
        if not fusion.has_blocks(self.fusion.operation):
            return (width,)
        return (width - self._high_width, self._high_width)

    @property
    def _shapes(self) -> feature_maps.Shapes:
        return feature_maps.shapes(self.backbone.name, self.data.shape, self.backbone.sobel)

    def _mapped(self, split: Split, fitted: Whitening | None, epoch: int) -> NDArray[np.float32]:
        parts = []
        for rows_BD in self._batches(split, epoch):
            host_BD = rows_BD.cpu().numpy()
            parts.append(host_BD if fitted is None else fitted.apply(host_BD))
        return _unit(np.concatenate(parts))

    def _matrix(self, split: Split, epoch: int) -> NDArray[np.float32]:
        """All features in one matrix, filled in place: two copies of it would not fit where one does."""
        rows_ND, first = np.empty((0, 0), np.float32), 0
        for rows_BD in self._batches(split, epoch):
            if first == 0:
                rows_ND = np.empty((len(split), rows_BD.shape[1]), np.float32)
            rows_ND[first : first + len(rows_BD)] = rows_BD.cpu().numpy()
            first += len(rows_BD)
        return rows_ND

    @torch.no_grad()
    def _batches(self, split: Split, epoch: int) -> Iterator[Tensor]:
        """Features of consecutive images, in eval mode, the same rows on every rank."""
        runtime, device = self.runtime, self.runtime.device
        norm = augment.Norm(self.data.mean, self.data.std)
        channels_of, noise = self._channels(epoch), runtime.generator("fusion_noise", epoch)
        was_training = self.backbone.training
        self.backbone.eval()
        try:
            own = [self._own_rows(first, len(split)) for first in range(0, len(split), self.batch_size)]
            batches.announce(split, torch.cat(own))
            for first, own_B in zip(range(0, len(split), self.batch_size), own, strict=True):
                images_BCHW = split.images_NCHW[own_B.to(split.images_NCHW.device)].to(device)
                rows_BD = self._features(augment.judged(images_BCHW, norm), channels_of)
                if self.fusion is not None and self.fusion.operation == "gaussian_noise":
                    rows_BD = self._noisy(rows_BD, noise)
                yield _finite(runtime.gather(rows_BD)[: len(split) - first])
        finally:
            self.backbone.train(was_training)

    def _noisy(self, rows_BD: Tensor, generator: torch.Generator) -> Tensor:
        """Noise for the images of all ranks is drawn by each, so that it does not depend on their number."""
        own, ranks = len(rows_BD), self.runtime.world_size
        shape = (own * ranks, rows_BD.shape[1])
        noise_BD = torch.randn(shape, generator=generator, device=generator.device)
        rank = self.runtime.rank
        return fusion.noisy(rows_BD, noise_BD[rank * own : (rank + 1) * own].to(rows_BD))

    def _own_rows(self, first: int, end: int) -> Tensor:
        """This rank's rows of the batch that begins at ``first``.

        Every rank brings as many; the last row of a short batch is repeated, at the end, where it is cut off again.
        """
        count = min(self.batch_size, end - first)
        share = -(-count // self.runtime.world_size)
        rank = self.runtime.rank
        return first + torch.arange(rank * share, (rank + 1) * share).clamp(max=count - 1)

    def _channels(self, epoch: int) -> Callable[[], Tensor]:
        """What gives the kept channels of the next batch; the same in every pass over the images of an epoch."""
        if self.fusion is None:
            return lambda: torch.empty(0)
        if self.fusion.channel_selection_scope != "per_batch":
            kept_C = kept_channels(self.fusion, self._shapes, self.runtime, epoch)
            return lambda: kept_C
        every, count = self._shapes[self.fusion.low_level_source][0], self.fusion.low_level_channels
        generator = self.runtime.generator("channels", epoch)
        return lambda: fusion.draw_channels(every, count, generator)

    def _features(self, images_BCHW: Tensor, channels_of: Callable[[], Tensor]) -> Tensor:
        if self.fusion is None:
            return feature_maps.collect(self.backbone, images_BCHW, ("top",))["top"].float()
        settings = self.fusion
        maps = feature_maps.collect(self.backbone, images_BCHW, (settings.low_level_source, settings.high_level_source))
        return fusion.fuse(
            maps[settings.low_level_source][:, channels_of()].float(),
            maps[settings.high_level_source].flatten(1).float(),
            operation=settings.operation,
            unit_blocks=settings.block_norm == "l2_each",
            seed=self.runtime.seed,
        )


def kept_channels(settings: Fusion, shapes: feature_maps.Shapes, runtime: Runtime, epoch: int) -> Tensor:
    """The low-level channels of an epoch, of the run where the settings say so."""
    generator = runtime.generator("channels", 0 if settings.channel_selection_scope == "per_run" else epoch)
    return fusion.draw_channels(shapes[settings.low_level_source][0], settings.low_level_channels, generator)


def _finite(rows_BD: Tensor) -> Tensor:
    if not bool(rows_BD.isfinite().all()):
        raise FloatingPointError("features are not finite numbers")
    return rows_BD


def _unit(points_NE: NDArray[np.float32]) -> NDArray[np.float32]:
    return functional.normalize(torch.from_numpy(points_NE), dim=1, eps=SMALLEST_NORM).numpy()
