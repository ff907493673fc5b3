"""Triplet mutual information: deep and shallow features belong together where their images do.

Source: DCCM section 3.4, with the Jensen-Shannon estimator of Deep InfoMax.

Axes: B images of a batch, P partners of an image (two positive, two negative), H height, W width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

NUM_POSITIVE = 2


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
    itself_B = torch.arange(len(linked_BB), device=linked_BB.device)
    others_BB = linked_BB & (itself_B[:, None] != itself_B)
    positive_B = torch.where(others_BB.any(dim=1), keys_BB.masked_fill(~others_BB, -1).argmax(dim=1), itself_B)
    return _triplets(positive_B, keys_BB.masked_fill(linked_BB, -1), linked_BB)


def reference_triplets(linked_BB: Tensor) -> Triplets:
    """Partners as DCCM's code takes them, kept for comparison.

    The positive is the first linked one in the row without the image itself, at its place in that shorter row: one
    too low for all after the image, and 0 where there is none. Negatives are the first two unlinked ones. Differs:
    too few negatives are handled as in ``draw_triplets`` instead of ending the run.
    """
    itself_B = torch.arange(len(linked_BB), device=linked_BB.device)
    place_B = (linked_BB & (itself_B[:, None] != itself_B)).int().argmax(dim=1)
    first_keys_BB = (len(linked_BB) - itself_B).expand_as(linked_BB).masked_fill(linked_BB, -1)
    return _triplets(torch.where(place_B > itself_B, place_B - 1, place_B), first_keys_BB, linked_BB)


def _triplets(positive_B: Tensor, negative_keys_BB: Tensor, linked_BB: Tensor) -> Triplets:
    first_B = negative_keys_BB.argmax(dim=1)
    second_B = negative_keys_BB.scatter(1, first_B[:, None], -1).argmax(dim=1)
    num_negative_B = (~linked_BB).sum(dim=1)
    second_B = torch.where(num_negative_B >= 2, second_B, first_B)
    itself_B = torch.arange(len(linked_BB), device=linked_BB.device)
    return Triplets(torch.stack([itself_B, positive_B, first_B, second_B]), num_negative_B > 0)


def jsd_loss(scores_PBHW: Tensor, usable_B: Tensor) -> Tensor:
    """E softplus(-T) over the positive pairs plus E softplus(T) over the negative ones; in nats, 0 if none is usable.

    Args:
        scores_PBHW: the discriminator's T, in the order of ``Triplets.partner_PB``.
        usable_B: bool; the other images do not count.
    """
    positive_B = functional.softplus(-scores_PBHW[:NUM_POSITIVE]).mean(dim=(0, 2, 3))
    negative_B = functional.softplus(scores_PBHW[NUM_POSITIVE:]).mean(dim=(0, 2, 3))
    return torch.where(usable_B, positive_B + negative_B, 0).sum() / usable_B.sum().clamp(min=1)
