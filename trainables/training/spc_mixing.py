"""One step of SPC's training: a strong and a weak batch are drawn and mixed, as the text says or as the code does.

Source: SPC Eq. 11-16 (``hierarchical``), and its printed code (``within_batch``).

Axes: N images, B batch, T the batch of all ranks, C clusters, S strong.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ..data import augment
from ..data.batch_random import BatchRandom
from ..interfaces import Batch, ImageData, Runtime
from ..maths import spc_labels


class Settings(Protocol):
    """What mixing reads of the stage's settings; see there."""

    @property
    def strong_augmentation(self) -> str: ...
    @property
    def weak_augmentation(self) -> str: ...
    @property
    def strong_affine_scale(self) -> float: ...
    @property
    def weak_affine_scale(self) -> float: ...
    @property
    def mixup_beta(self) -> float: ...
    @property
    def mixed_loss_weight(self) -> float: ...
    @property
    def lambda_scope(self) -> str: ...


def strong_batches(strong_S: Tensor, count: int, generator: torch.Generator, runtime: Runtime) -> Iterator[Batch]:
    """This rank's parts of batches of ``count`` strong images, without end.

    The images come in shuffled passes, one after another, so that each is met once before any is met again. A batch
    may begin in one pass and end in the next. Source: SPC, the printed code of section 4.3.3.
    """
    total = max(count - count % runtime.world_size, runtime.world_size)
    share, waiting = total // runtime.world_size, strong_S[:0]
    while True:
        while len(waiting) < total:
            order_S = torch.randperm(len(strong_S), generator=generator, device=strong_S.device)
            waiting = torch.cat((waiting, strong_S[order_S]))
        rows_T, waiting = waiting[:total], waiting[total:]
        yield Batch(rows_T[runtime.rank * share :][:share], runtime.rank * share, total)


@dataclass(frozen=True)
class Mixer:
    """The two ways of mixing, each giving (loss, its part of strong images, its part of mixed ones).

    trained: images (B, C, H, W) to logits, first of what it returns; wrapped for several ranks.
    Both take targets (N, C), and generators for "views" and "mix".
    """

    config: Settings
    data: ImageData
    trained: nn.Module
    runtime: Runtime

    def hierarchical(
        self, targets_NC: Tensor, strong: Batch, weak: Batch, draws: Mapping[str, torch.Generator]
    ) -> Tensor:
        """Eq. 11-16: (loss, L_S, L_M); mixtures in which the strong image has the larger share."""
        config, runtime = self.config, self.runtime
        strong_images, weak_images = self._views(strong, weak, draws["views"])
        num_shares = 1 if config.lambda_scope == "batch" else weak.total
        ratio_T = spc_labels.beta_draws(num_shares, config.mixup_beta, draws["mix"])
        ratio_B = ratio_T.expand(weak.total)[weak.start : weak.start + len(weak_images)]
        strong_goals, weak_goals = targets_NC[strong.rows_B], targets_NC[weak.rows_B]
        mixed_images, mixed_goals = spc_labels.hierarchical_mix(
            strong_images, strong_goals, weak_images, weak_goals, ratio_B
        )
        # One pass for both halves: each rank's rows are [strong, mixed], so the gathered ones are taken apart by rank.
        logits = runtime.gather(self.trained(torch.cat((strong_images, mixed_images)))[0])
        goals = runtime.gather(torch.cat((strong_goals, mixed_goals)))
        strong_rows, mixed_rows = (
            [torch.cat(part) for part in zip(*(rank.chunk(2) for rank in rows.chunk(runtime.world_size)), strict=True)]
            for rows in (logits, goals)
        )
        (strong_logits, mixed_logits), (strong_goals, mixed_goals) = strong_rows, mixed_rows
        loss_strong = spc_labels.soft_cross_entropy(strong_logits, strong_goals)
        loss_mixed = spc_labels.soft_cross_entropy(mixed_logits, mixed_goals)
        return torch.stack((loss_strong + config.mixed_loss_weight * loss_mixed, loss_strong, loss_mixed))

    def within_batch(
        self, targets_NC: Tensor, strong: Batch, weak: Batch, draws: Mapping[str, torch.Generator]
    ) -> Tensor:
        """The printed code: one share per batch, each image mixed with another one of its rank's; (loss, 0, loss)."""
        images = torch.cat(self._views(strong, weak, draws["views"]))
        goals_BC = targets_NC[torch.cat((strong.rows_B, weak.rows_B))]
        ratio = spc_labels.beta_draws(1, self.config.mixup_beta, draws["mix"])
        partner_B = torch.randperm(len(images), generator=draws["mix"], device=images.device)
        mixed, mixed_goals = spc_labels.batch_mix(images, goals_BC, partner_B, ratio)
        loss = spc_labels.soft_cross_entropy(
            self.runtime.gather(self.trained(mixed)[0]), self.runtime.gather(mixed_goals)
        )
        return torch.stack((loss, torch.zeros_like(loss), loss))

    def _views(self, strong: Batch, weak: Batch, views: torch.Generator) -> tuple[Tensor, Tensor]:
        config, data = self.config, self.data
        norm, drawn = augment.Norm(data.mean, data.std), []
        for batch, kind, scale in (
            (strong, config.strong_augmentation, config.strong_affine_scale),
            (weak, config.weak_augmentation, config.weak_affine_scale),
        ):
            draws = BatchRandom(views, batch.total, batch.start, len(batch.rows_B))
            images = data.train.images_NCHW[batch.rows_B]
            drawn.append(augment.AUGMENTATIONS[kind](images, draws, norm, augment.Strength(affine=scale)))
        return drawn[0], drawn[1]
