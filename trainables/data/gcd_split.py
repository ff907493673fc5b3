"""Known and new categories: which labels generalized category discovery may see, and batches that hold both kinds.

Axes: N images, S batches of an epoch, B images in a batch.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def labeled_part(labels_N: Tensor, *, known: Sequence[int], share: float, seed: int) -> Tensor:
    """Which images have a label that may be seen: of those of the known classes, ``share`` by chance.

    Args:
        labels_N: int64, -1 where unknown. They decide nothing but which images belong to a known class.
        known: the classes that are known.
        share: of their images, rounded down to whole images.
        seed: of NumPy's first generator, whose draws never change. 0 and CIFAR's own order give the published images.

    Returns:
        bool (N,), on the labels' device.

    Raises:
        ValueError: no image gets a label, or all do.

    Source: Vaze et al. 2022 (generalized category discovery), and the public code of SimGCD.
    """
    known_K = torch.isin(labels_N, labels_N.new_tensor(known)).nonzero().squeeze(1).cpu()
    drawn = np.random.RandomState(seed).choice(len(known_K), int(share * len(known_K)), replace=False)
    labeled_N = torch.zeros(len(labels_N), dtype=torch.bool)
    labeled_N[known_K[torch.from_numpy(drawn)]] = True
    num_labeled = int(labeled_N.sum())
    if not 0 < num_labeled < len(labels_N):
        raise ValueError(
            f"some images must have a label and some none, but {num_labeled} of {len(labels_N)} have one: "
            f"{share:g} of the {len(known_K)} images of {len(known)} known classes. "
            f"{'Lower' if num_labeled else 'Raise'} the labeled share."
        )
    return labeled_N.to(labels_N.device)


def balanced_batches(labeled_N: Tensor, batch_size: int, generator: torch.Generator) -> tuple[Tensor, list[int]]:
    """Draw the batches of one epoch so that labeled and unlabeled images are equally frequent.

    Each row is drawn with replacement: labeled or unlabeled with equal chances, then any row of that part with equal
    chances.

    Args:
        labeled_N: bool, True where the image is labeled.
        batch_size: B.
        generator: advanced by the draws.

    Returns:
        int64 rows of shape (S, B), S = N // B, and the number of unlabeled rows in each batch. The unlabeled rows of a
        batch come first, so that both parts are slices.

    Source: the sampler in the public code of SimGCD, after Vaze et al. 2022.
    """
    parts = [rows.squeeze(1) for rows in ((~labeled_N).nonzero(), labeled_N.nonzero())]
    num_batches = len(labeled_N) // batch_size
    shape, device = (num_batches, batch_size), generator.device
    is_labeled_SB = (torch.rand(shape, generator=generator, device=device) < 0.5).sort(dim=1).values
    unit_SB = torch.rand(shape, generator=generator, device=device, dtype=torch.float64)
    places = [(unit_SB * len(rows)).long().clamp_max(len(rows) - 1) for rows in parts]
    unlabeled_SB, labeled_SB = (rows[place_SB] for rows, place_SB in zip(parts, places, strict=True))
    return torch.where(is_labeled_SB, labeled_SB, unlabeled_SB), (~is_labeled_SB).sum(1).tolist()
