"""The random numbers of one batch, a row for each image, the same however the batch is spread over ranks.

Axes: B own images of this rank.
"""

import torch
from torch import Tensor

from .constants import constant


class BatchRandom:
    """Per-image random numbers of one global batch.

    Every rank draws for all images of the batch and keeps its own rows, so two ranks together see exactly the numbers
    that one rank would have seen. Numbers lie on the generator's device. Each method takes a ``shape`` of values per
    image and returns a tensor of shape (B, *shape); for several batches at once, B counts the own images of all.
    """

    def __init__(  # noqa: PLR0913 - which rows of which batches, how often
        self,
        generator: torch.Generator,
        total: int,
        start: int = 0,
        count: int | None = None,
        *,
        num_batches: int = 1,
        num_views: int = 1,
    ) -> None:
        """Own the rows start .. start + count of a batch of ``total`` images.

        Args:
            generator: advanced by every draw; on the device where the numbers are wanted.
            total: images in the batch over all ranks, at least 1.
            start: this rank's first image.
            count: this rank's images of a batch; None for all from ``start`` on.
            num_batches: consecutive batches of ``total`` images to draw for; rows start .. start + count of each are
                kept.
            num_views: views of each image, of which each has all images of all batches. With more than one,
                ``uniforms`` alone may be called, and once.

        Raises:
            ValueError: the rows are not inside the batch, or there is no batch.
        """
        count = total - start if count is None else count
        if total < 1 or start < 0 or count < 1 or start + count > total:
            raise ValueError(
                f"Draws must be for at least one row inside the batch, but rows {start} to {start + count} of a batch"
                f" of {total} images were asked for. total counts the images of all ranks, start and count this rank's."
            )
        if num_batches < 1:
            raise ValueError(f"Draws must be for at least one batch, but are for {num_batches}.")
        self.generator = generator
        self.total = total
        self.num_batches = num_batches
        self.num_views = num_views
        self.count = count * num_batches * num_views
        self._rows = slice(start, start + count)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Draw float32 numbers, uniform in [low, high)."""
        return self._unit(shape).mul_(high - low).add_(low)

    def uniforms(self, *ranges: tuple[float, float, int]) -> tuple[Tensor, ...]:
        """Draw several kinds of numbers in few operations: those that ``uniform`` gives for one after the other.

        Args:
            ranges: for each kind low, high and how many numbers an image has.

        Returns:
            For each kind float32 of shape (B, numbers), uniform in [low, high).
        """
        sizes = [size for *_, size in ranges]
        shape, device = (self.num_views, self._drawn * sum(sizes)), self.generator.device
        drawn_VX = torch.rand(shape, generator=self.generator, device=device)
        columns = [
            part.view(self.num_views, self.num_batches, self.total, size)[:, :, self._rows]
            for part, size in zip(drawn_VX.split([self._drawn * size for size in sizes], dim=1), sizes, strict=True)
        ]
        unit_BX = torch.cat(columns, dim=3).flatten(0, 2)
        reach, low = (
            tuple(each for value, size in zip(values, sizes, strict=True) for each in [value] * size)
            for values in ([high - low for low, high, _ in ranges], [low for low, *_ in ranges])
        )
        kinds: tuple[Tensor, ...] = (
            unit_BX.mul_(constant(reach, device)).add_(constant(low, device)).split(sizes, dim=1)
        )
        return kinds

    def bernoulli(self, p: float, *shape: int) -> Tensor:
        """Draw booleans, True with probability ``p``."""
        return self._unit(shape) < p

    def normal(self, *shape: int) -> Tensor:
        """Draw float32 numbers from a standard normal distribution."""
        return self._own(torch.randn(self._drawn, *shape, generator=self.generator, device=self.generator.device))

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Draw int64 numbers, uniform over low .. high - 1."""
        size, device = (self._drawn, *shape), self.generator.device
        return self._own(torch.randint(low, high, size, generator=self.generator, device=device))

    def permutation(self, n: int) -> Tensor:
        """Draw an order of 0 .. n - 1 for each image, int64 of shape (B, n); every order is equally likely."""
        return self._unit((n,)).argsort(dim=1, stable=True)

    def _unit(self, shape: tuple[int, ...]) -> Tensor:
        return self._own(torch.rand(self._drawn, *shape, generator=self.generator, device=self.generator.device))

    @property
    def _drawn(self) -> int:
        return self.total * self.num_batches

    def _own(self, values: Tensor) -> Tensor:
        assert self.num_views == 1, "numbers of several views are drawn at once"
        return values.view(self.num_batches, self.total, *values.shape[1:])[:, self._rows].flatten(0, 1)
