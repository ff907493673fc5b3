"""SPC's strong and weak images: who is sure, what the unsure are told, and how the two are mixed.

Axes: N images of the data set, B images of a batch, C classes.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

FractionBasis = Literal["dataset", "class_expected"]
WeakLabel = Literal["lp_hard", "lp_soft", "model_soft"]

_THRESHOLD_STEP = 0.05


@dataclass(frozen=True)
class Strong:
    """The sure images. mask_N: bool. labels_N: int64, the most probable class of every image, sure or not.

    threshold: the one that was used, lower than the one asked for where no image reached that.
    fell_back: the propagation agreed with no sure image, so all of them were kept.
    """

    mask_N: Tensor
    labels_N: Tensor
    threshold: float
    fell_back: bool = False


def strong_set(probabilities_NC: Tensor, threshold: float) -> Strong:
    """The images whose largest probability is above the threshold (strictly).

    With none above it, it is lowered in steps of 0.05 until every class that is some image's most probable one has
    at least one; the result says which threshold that was.

    Raises:
        ValueError: a probability is not finite.

    Source: SPC, section 4.2.1; the lowering is ours.
    """
    if not bool(torch.isfinite(probabilities_NC).all()):
        raise ValueError("probabilities_NC must be finite, but holds a NaN or an infinity; the model has diverged.")
    confidence_N, labels_N = probabilities_NC.max(dim=1)
    if not bool((confidence_N > threshold).any()):
        best_C = confidence_N.new_zeros(probabilities_NC.shape[1])
        best_C.scatter_reduce_(0, labels_N, confidence_N, "amax")
        weakest, asked, steps = float(best_C[best_C > 0].min()), threshold, 0
        while threshold >= weakest:
            steps += 1
            threshold = round(asked - steps * _THRESHOLD_STEP, 12)
    return Strong(confidence_N > threshold, labels_N, threshold)


def top_fraction(propagated_NC: Tensor, fraction: float, basis: FractionBasis) -> Tensor:
    """The images that the propagation is surest of, class by class.

    Args:
        propagated_NC: from ``propagation.propagate``.
        fraction: share of N ("dataset") or of N / C ("class_expected") taken from each class; above 0, at most 1.

    Returns:
        bool of shape (N, C): the floor(fraction * N) or floor(fraction * N / C) largest entries of each column, ties
        by index. Zeros are never taken, so a class without labels contributes none; one image may serve two classes.

    Raises:
        ValueError: the fraction is less than one image.

    Source: SPC, section 4.2.2; "dataset" is what its code does.
    """
    num_images, num_classes = propagated_NC.shape
    share = fraction if basis == "dataset" else fraction / num_classes
    # 0.29 * 100 is 28.999999999999996 in floating point, and means 29.
    count = int(share * num_images + 1e-9)
    if count < 1:
        of = "images" if basis == "dataset" else f"images over {num_classes} classes"
        raise ValueError(
            f"fraction must take at least one image per class, but {fraction!r} of {num_images} {of} is "
            f"{share * num_images:.3g}; raise it to {fraction / (share * num_images):.3g} or more."
        )
    last_1C = propagated_NC.topk(count, dim=0).values[-1:]
    above_NC = propagated_NC > last_1C
    tied_NC = propagated_NC == last_1C
    room_1C = count - above_NC.sum(dim=0, keepdim=True)
    return (above_NC | (tied_NC & (tied_NC.cumsum(dim=0) <= room_1C))) & (propagated_NC > 0)


def intersect(strong: Strong, chosen_NC: Tensor, *, require_label_agreement: bool) -> Strong:
    """The sure images that the propagation chose too.

    Args:
        chosen_NC: from ``top_fraction``.
        require_label_agreement: chosen for the image's own label; otherwise for any.

    Returns:
        The smaller set; the same one, with fell_back, where nothing is left.

    Source: SPC, Eq. 9 read literally (agreement) or as its code has it (any).
    """
    if require_label_agreement:
        chosen_N = chosen_NC.gather(1, strong.labels_N[:, None]).squeeze(1)
    else:
        chosen_N = chosen_NC.any(dim=1)
    mask_N = strong.mask_N & chosen_N
    if not bool(mask_N.any()):
        return Strong(strong.mask_N, strong.labels_N, strong.threshold, fell_back=True)
    return Strong(mask_N, strong.labels_N, strong.threshold)


def seed_labels(strong: Strong, num_classes: int) -> Tensor:
    """One-hot float64 rows for the sure images, zero rows for the rest: what the propagation starts from."""
    one_hot_NC = functional.one_hot(strong.labels_N, num_classes).double()
    return one_hot_NC * strong.mask_N[:, None]


def hard_labels(propagated_NC: Tensor, probabilities_NC: Tensor, strong: Strong) -> Tensor:
    """A label for every image, int64 of shape (N,): its own if it is sure, else the one that reached it most.

    Where no label reached an image (a zero row) the model's most probable class stands in.

    Source: SPC, Eq. 10.
    """
    reached_N = (propagated_NC > 0).any(dim=1)
    labels_N = torch.where(reached_N, propagated_NC.argmax(dim=1), probabilities_NC.argmax(dim=1))
    return torch.where(strong.mask_N, strong.labels_N, labels_N)


def targets(propagated_NC: Tensor, probabilities_NC: Tensor, strong: Strong, weak_label: WeakLabel) -> Tensor:
    """A target distribution for every image, in the dtype of the probabilities; sure images keep their own one-hot.

    Args:
        weak_label: for the others, the propagation's label ("lp_hard"), its distribution ("lp_soft"), or the model's
            distribution ("model_soft"). Where no label reached an image, the first two take the model's most probable
            class.
    """
    num_classes = probabilities_NC.shape[1]
    hard_NC = functional.one_hot(hard_labels(propagated_NC, probabilities_NC, strong), num_classes).to(probabilities_NC)
    if weak_label == "lp_hard":
        return hard_NC
    if weak_label == "model_soft":
        return torch.where(strong.mask_N[:, None], hard_NC, probabilities_NC)
    soft_N = (propagated_NC > 0).any(dim=1) & ~strong.mask_N
    return torch.where(soft_N[:, None], propagated_NC.to(probabilities_NC), hard_NC)


def beta_draws(num_draws: int, concentration: float, generator: torch.Generator) -> Tensor:
    """Draws from Beta(a, a) with a = concentration: float64 in [0, 1], shape (num_draws,), on the generator's device.

    Two gamma draws G, G' give G / (G + G'); torch's own Beta takes no generator.
    """
    shape_2B = torch.full((2, num_draws), concentration, dtype=torch.float64, device=generator.device)
    gamma_2B = torch._standard_gamma(shape_2B, generator=generator)
    return gamma_2B[0] / gamma_2B.sum(dim=0)


def hierarchical_mix(
    strong_BCHW: Tensor, strong_targets_BC: Tensor, weak_BCHW: Tensor, weak_targets_BC: Tensor, ratio_B: Tensor
) -> tuple[Tensor, Tensor]:
    """Blend each sure image with an unsure one, the sure one always at least half.

    Args:
        strong_BCHW, weak_BCHW: floating point images, as many of each.
        strong_targets_BC, weak_targets_BC: their target distributions.
        ratio_B: in [0, 1], one per pair or a single one for the batch; max(ratio, 1 - ratio) is the sure image's share.

    Returns:
        (images_BCHW, targets_BC), in the dtypes of the strong ones.

    Raises:
        ValueError: the two halves differ in shape.

    Source: SPC, Eq. 11-13.
    """
    if strong_BCHW.shape != weak_BCHW.shape:
        raise ValueError(
            f"strong and weak images must have one shape, but are {tuple(strong_BCHW.shape)} and "
            f"{tuple(weak_BCHW.shape)}; each sure image is mixed with one unsure image."
        )
    return _blend(strong_BCHW, strong_targets_BC, weak_BCHW, weak_targets_BC, torch.maximum(ratio_B, 1 - ratio_B))


def batch_mix(images_BCHW: Tensor, targets_BC: Tensor, partner_B: Tensor, ratio_B: Tensor) -> tuple[Tensor, Tensor]:
    """Blend each image with another one of its batch: ratio of its own, 1 - ratio of its partner's.

    Args:
        partner_B: a permutation of the batch.
        ratio_B: in [0, 1], one per image or a single one for the batch.

    Source: LaplaceNet, as SPC's code mixes. Cross entropy is linear in its target, so one target stands for two labels.
    """
    return _blend(images_BCHW, targets_BC, images_BCHW[partner_B], targets_BC[partner_B], ratio_B)


def soft_cross_entropy(logits_BC: Tensor, targets_BC: Tensor) -> Tensor:
    """Mean over the batch of -sum of target times log softmax; a scalar in nats. Source: SPC, Eq. 16."""
    dtype = torch.promote_types(logits_BC.dtype, torch.float32)
    return -(targets_BC.to(dtype) * torch.log_softmax(logits_BC, dim=1, dtype=dtype)).sum(dim=1).mean()


def _blend(
    first_BCHW: Tensor, first_targets_BC: Tensor, second_BCHW: Tensor, second_targets_BC: Tensor, share_B: Tensor
) -> tuple[Tensor, Tensor]:
    image_share = share_B.to(first_BCHW).view(-1, 1, 1, 1)
    target_share = share_B.to(first_targets_BC).view(-1, 1)
    images_BCHW = second_BCHW + image_share * (first_BCHW - second_BCHW)
    return images_BCHW, second_targets_BC + target_share * (first_targets_BC - second_targets_BC)
