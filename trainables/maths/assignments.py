"""Cluster probabilities as an answer: the cluster of each image, the next one, and how far the two are apart.

Axes: N images, C clusters.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class TopTwo:
    """The two most probable clusters of each image.

    cluster_N, second_N: int64; second_N is -1 where there is one cluster alone. probability_N,
    second_probability_N: float32; the second one is then 0.
    """

    cluster_N: NDArray[np.int64]
    probability_N: NDArray[np.float32]
    second_N: NDArray[np.int64]
    second_probability_N: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.cluster_N)

    @property
    def margin_N(self) -> NDArray[np.float32]:
        """Float32: probability of the cluster minus that of the second one; 0 where an image lies between two."""
        margin_N: NDArray[np.float32] = self.probability_N - self.second_probability_N
        return margin_N


def top_two(probabilities_NC: NDArray[Any]) -> TopTwo:
    """The two most probable clusters of each image; of equally probable ones the lower number.

    Args:
        probabilities_NC: floating point, rows of finite numbers, C at least 1.

    Raises:
        ValueError: another shape, or a number that is not finite.
    """
    if probabilities_NC.ndim != 2 or probabilities_NC.shape[1] < 1:
        raise ValueError(f"probabilities must have shape (N, C), C at least 1, but have {probabilities_NC.shape}.")
    if not np.isfinite(probabilities_NC).all():
        raise ValueError("probabilities must be finite numbers, but some are not.")
    rows_N = np.arange(len(probabilities_NC))
    cluster_N = probabilities_NC.argmax(1).astype(np.int64)
    probability_N = probabilities_NC[rows_N, cluster_N].astype(np.float32)
    if probabilities_NC.shape[1] == 1:
        nothing_N = np.zeros(len(rows_N), dtype=np.float32)
        return TopTwo(cluster_N, probability_N, np.full(len(rows_N), -1, dtype=np.int64), nothing_N)
    others_NC = np.array(probabilities_NC, dtype=np.float32)
    others_NC[rows_N, cluster_N] = -np.inf
    second_N = others_NC.argmax(1).astype(np.int64)
    return TopTwo(cluster_N, probability_N, second_N, others_NC[rows_N, second_N])


def joined(first: TopTwo, second: TopTwo) -> TopTwo:
    """The rows of ``first``, then those of ``second``."""
    names = ("cluster_N", "probability_N", "second_N", "second_probability_N")
    return TopTwo(*(np.concatenate([getattr(first, name), getattr(second, name)]) for name in names))
