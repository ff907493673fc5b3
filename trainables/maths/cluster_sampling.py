"""Which images an epoch meets, so that every cluster counts the same.

Source: DeepCluster section 3.3 (trivial parametrization): images are drawn uniformly over the pseudo-labels.

Axes: N images, C clusters, M non-empty clusters, S images drawn per cluster.
"""

import torch
from torch import Tensor


def uniform_over_clusters(labels_N: Tensor, num_clusters: int, count: int, generator: torch.Generator) -> Tensor:
    """``count`` image rows, equally many of each non-empty cluster but for the last few, in random order.

    S = count // M + 1 images are drawn of each cluster: with replacement where it has S or fewer, without where it has
    more. All of them are shuffled, and the surplus is cut off.

    Args:
        labels_N: int64, below num_clusters, on the generator's device.
        count: at least 1.
    """
    device = generator.device
    sizes_C = torch.bincount(labels_N, minlength=num_clusters)
    sizes_M1 = sizes_C[sizes_C > 0][:, None]
    # Images by cluster, in a random order within each.
    mixed_N = torch.randperm(len(labels_N), generator=generator, device=device)
    by_cluster_N = mixed_N[labels_N[mixed_N].argsort(stable=True)]
    starts_M1 = sizes_M1.cumsum(0) - sizes_M1
    per_cluster = count // len(sizes_M1) + 1
    in_order_1S = torch.arange(per_cluster, device=device)[None]
    unit_MS = torch.rand(len(sizes_M1), per_cluster, generator=generator, device=device, dtype=torch.float64)
    repeated_MS = torch.minimum((unit_MS * sizes_M1).long(), sizes_M1 - 1)
    place_MS = torch.where(sizes_M1 > per_cluster, in_order_1S, repeated_MS)
    drawn = by_cluster_N[(starts_M1 + place_MS).flatten()]
    return drawn[torch.randperm(len(drawn), generator=generator, device=device)[:count]]
