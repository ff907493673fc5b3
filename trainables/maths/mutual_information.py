"""Triplet mutual information: deep and shallow features belong together where their images do.

Source: DCCM section 3.4, with the Jensen-Shannon estimator of Deep InfoMax.

Axes: B images of a batch, P partners of an image (two positive, two negative), H height, W width.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

NUM_POSITIVE = 2
_LAST_RESORT = -0.5
"""The key of an image as its own partner: below every key that is drawn, and above that of what may not be chosen."""


@dataclass(frozen=True)
class Triplets:
    """partner_PB: int64 (4, B): the image itself, an image linked to it, and two that are not. usable_B: bool."""

    partner_PB: Tensor
    usable_B: Tensor


def draw_triplets(linked_BB: Tensor, keys_BB: Tensor) -> Triplets:
    """Partners drawn evenly: the largest key among the images that may be chosen wins.

    Without a linked image an image is its own partner; with one unlinked image that one is taken twice, and without
    any the image is not usable.

    Args:
        linked_BB: bool, the diagonal set.
        keys_BB: independent and uniform in [0, 1).
    """
    positive_keys_BB = torch.where(linked_BB, keys_BB, -1).fill_diagonal_(_LAST_RESORT)
    return _triplets(positive_keys_BB.argmax(dim=1), torch.where(linked_BB, -1, keys_BB))


def reference_triplets(linked_BB: Tensor) -> Triplets:
    """Partners as DCCM's code takes them, kept for comparison.

    The positive is the first linked one in the row without the image itself, at its place in that shorter row: one
    too low for all after the image, and 0 where there is none. Negatives are the first two unlinked ones. Differs:
    too few negatives are handled as in ``draw_triplets`` instead of ending the run.
    """
    itself_B = torch.arange(len(linked_BB), device=linked_BB.device)
    place_B = (linked_BB & (itself_B[:, None] != itself_B)).int().argmax(dim=1)
    first_keys_BB = torch.where(linked_BB, -1, len(linked_BB) - itself_B)
    return _triplets(torch.where(place_B > itself_B, place_B - 1, place_B), first_keys_BB)


def _triplets(positive_B: Tensor, negative_keys_BB: Tensor) -> Triplets:
    """negative_keys_BB: at least 0 among the unlinked images, -1 elsewhere."""
    key_B2, negative_B2 = negative_keys_BB.topk(2, dim=1)
    first_B, second_B = negative_B2.unbind(1)
    has_first_B, has_second_B = (key_B2 >= 0).unbind(1)
    itself_B = torch.arange(len(positive_B), device=positive_B.device)
    partner_PB = torch.stack([itself_B, positive_B, first_B, torch.where(has_second_B, second_B, first_B)])
    return Triplets(partner_PB, has_first_B)


def jsd_loss(scores_PBHW: Tensor, usable_B: Tensor) -> Tensor:
    """E softplus(-T) over the positive pairs plus E softplus(T) over the negative ones; in nats, 0 if none is usable.

    Args:
        scores_PBHW: the discriminator's T, in the order of ``Triplets.partner_PB``.
        usable_B: bool; the other images do not count.
    """
    loss: Tensor = _JensenShannon.apply(scores_PBHW, usable_B)
    return loss


class _JensenShannon(torch.autograd.Function):
    """See ``jsd_loss``; written with its gradient, as the losses of ``correlation`` are."""

    @staticmethod
    def forward(ctx: Any, scores_PBHW: Tensor, usable_B: Tensor) -> Tensor:
        signed_PBHW = scores_PBHW.clone()
        signed_PBHW[:NUM_POSITIVE].neg_()
        counts_B = usable_B.to(scores_PBHW.dtype)
        weight_B = counts_B / (counts_B.sum().clamp_(min=1) * (NUM_POSITIVE * scores_PBHW[0, 0].numel()))
        ctx.save_for_backward(signed_PBHW, weight_B)
        return functional.softplus(signed_PBHW).sum(dim=(0, 2, 3)) @ weight_B

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        signed_PBHW, weight_B = ctx.saved_tensors
        slope_PBHW = signed_PBHW.sigmoid()
        slope_PBHW[:NUM_POSITIVE].neg_()
        return slope_PBHW.mul_((weight_B * gradient)[:, None, None]), None
