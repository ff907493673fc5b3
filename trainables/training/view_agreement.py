"""How far a random view of an image stays in the image's own cluster: a criterion that needs no labels and means the
same at every temperature, weight and number of clusters.

Axes: N images, B batch, C channels, H height, W width.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..data import augment, batches
from ..data.batch_random import BatchRandom
from ..interfaces import ImageData, Runtime
from ..maths import metrics

View = Callable[[Tensor, BatchRandom, augment.Norm], Tensor]
_BATCH = 512


@torch.no_grad()
def of_views(
    model: nn.Module,
    data: ImageData,
    clusters_N: Tensor,
    view: View,
    clusters_of: Callable[[Tensor], Tensor],
    runtime: Runtime,
) -> float:
    """``above_chance`` of the clusters of the evaluation images and of a view of each.

    Args:
        model: what ``clusters_of`` asks; put into eval mode, in which it stays.
        clusters_N: int64, of the images as they are.
        view: draws views (B, C, H, W) of uint8 images; the same ones at every call with one runtime.
        clusters_of: the clusters (B,) of views (B, C, H, W).
    """
    norm, views, clusters = augment.Norm(data.mean, data.std), runtime.generator("agreement"), []
    model.eval()
    rows_N = torch.arange(len(data.eval), device=runtime.device)
    batches.announce(data.eval, rows_N)
    for rows_B in rows_N.split(_BATCH):
        clusters.append(clusters_of(view(data.eval.images_NCHW[rows_B], BatchRandom(views, len(rows_B)), norm)))
    return above_chance(clusters_N, torch.cat(clusters))


def above_chance(clusters_N: Tensor, others_N: Tensor) -> float:
    """NMI of two clusterings of the same images, scaled so that chance is 0; never below it.

    0 where they have nothing to do with each other or all images share one cluster, 1 where they are the same. Chance
    is what images put in another order have, which grows with the clusters.
    """
    others_N = others_N.cpu()
    order_N = torch.randperm(len(others_N), generator=torch.Generator().manual_seed(0))
    clusters = clusters_N.cpu().numpy()
    nmi, chance = (metrics.assignment_nmi(clusters, each.numpy()) for each in (others_N, others_N[order_N]))
    return max(0.0, (nmi - chance) / (1 - chance)) if chance < 1 else 0.0
