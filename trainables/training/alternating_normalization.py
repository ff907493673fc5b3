"""Alternating normalization (AN) as any clustering stage switches it on: settings, lasting state, report.

A stage's Config has a group ``an``, so that study files say ``dec.an.mode: both``; where it has a batch of assignments
that serve as targets, it calls a ``Normalizer``. Sites: DEC normalizes q at each target update, SCAN the neighbor's
prediction, self-labeling the prediction on the weak view, SwAV the codes, SimGCD the sharpened predictions of unlabeled
images, and SPC the propagated labels. Rows that are not corrected stay what they are without AN, gradients included.

Source: see ``maths.alternating_normalization``. Its published text names none of top_k, threshold, power and
iterations: the defaults are ours. The threshold follows a rule: ``unsure_share`` of the rows at the start lie above it.
LITERAL has what the text does say.

Axes: H heads side by side, B rows of the global batch, C clusters, Y classes, Q rows of a queue.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import settings
from ..maths import alternating_normalization, metrics
from . import normalization_metrics

METRICS = (
    "an_threshold",
    "an_unsure_fraction",
    "an_reference_fraction",
    "an_changed_fraction",
    "an_missing_clusters",
    "an_unsure_acc_before",
    "an_unsure_acc_after",
    *normalization_metrics.OF_A_RUN,
    "an_acc_before",
    "an_acc_after",
)
"""What ``Normalizer.report`` and ``Normalizer.at_the_end`` may say; those with "acc" look at labels."""

LITERAL: Mapping[str, settings.Plain] = {"an.mode": "both", "an.renormalize": False, "an.tie_is_unsure": False}
"""Eq. 7 as it is printed, without a division by the largest entropy, and the comparison of Algorithm 1: the text prints
"at least" beside it."""

_ON = {"mode": ("correction", "reweight", "both")}
_CORRECTS = {"mode": ("correction", "both")}


@dataclass(frozen=True, kw_only=True)
class AnConfig:
    """The settings of AN in a stage that can normalize its assignments: the group ``an`` of its Config."""

    mode: str = settings.setting(
        "none",
        "alternating normalization: correct unsure assignments, weigh images by how unsure they are, or both",
        choices=("none", "correction", "reweight", "both"),
    )
    top_k: int = settings.setting(
        3, "largest probabilities in the entropy of an assignment", low=2, symbol="k", when=_ON
    )
    entropy_threshold: float = settings.setting(
        0.0, "an assignment of this entropy or more is unsure; in [0, 1] if renormalized, else in nats;"
        " 0 takes it from unsure_share",
        low=0, symbol="τ", when=_ON,
    )  # fmt: skip
    unsure_share: float = settings.setting(
        0.25, "share of the rows that are unsure in the first epoch with AN, from which the threshold is taken",
        above=0, below=1, unit="as a share", when={**_ON, "entropy_threshold": (0.0,)},
    )  # fmt: skip
    renormalize: bool = settings.setting(
        True, "make the top probabilities sum to 1 and divide their entropy by log k", when=_ON
    )
    tie_is_unsure: bool = settings.setting(True, "an assignment right at the threshold is unsure", when=_ON)
    start_epoch: int = settings.setting(
        0, "epochs before it begins: early predictions are all unsure", low=0, unit="epochs", when=_ON
    )
    power: float = settings.setting(
        1.0, "exponent of every probability before normalization", above=0, high=20, symbol="λ", when=_CORRECTS
    )
    power_schedule: str = settings.setting(
        "once", "when the exponent is applied", choices=("once", "every_iteration"), when=_CORRECTS
    )
    iterations: int = settings.setting(
        3, "rounds of normalizing columns, then rows", low=1, high=20, symbol="T", when=_CORRECTS
    )
    reference_mode: str = settings.setting(
        "rescaled",
        "whether the sure rows keep their scales from round to round, or are reset",
        choices=("rescaled", "frozen"),
        when=_CORRECTS,
    )
    class_prior: str = settings.setting(
        "uniform", "shares the clusters shall have", choices=("uniform", "running"), symbol="π", when=_CORRECTS
    )
    prior_decay: float = settings.setting(
        0.99, "how slowly the running prior moves", low=0, below=1, when={**_CORRECTS, "class_prior": ("running",)}
    )
    empty_reference: alternating_normalization.EmptyReference = settings.setting(
        "skip",
        "a batch with too few sure rows: leave it, take unit vectors as reference, or recent sure rows",
        when=_CORRECTS,
    )
    min_reference: int = settings.setting(1, "sure rows that make a reference", low=1, unit="images", when=_CORRECTS)
    reweight_temperature: float = settings.setting(
        1.0, "divides the entropies in the weights", above=0, when={"mode": ("reweight", "both")}
    )

    def __post_init__(self) -> None:
        settings.check(self)

    def options(self) -> alternating_normalization.Options:
        return alternating_normalization.Options(
            top_k=self.top_k,
            renormalize=self.renormalize,
            tie_is_unsure=self.tie_is_unsure,
            power=self.power,
            iterations=self.iterations,
            each_time=self.power_schedule == "every_iteration",
            frozen=self.reference_mode == "frozen",
            empty=self.empty_reference,
            min_reference=self.min_reference,
        )


@dataclass(frozen=True)
class Sizes:
    """What a Normalizer meets.

    batch_size: rows normalized together where a whole split is, as ``in_batches`` and ``at_the_end`` do.
    num_heads: batches side by side, each with a threshold, a prior and a queue of its own.
    """

    num_clusters: int
    num_classes: int
    batch_size: int
    num_heads: int = 1


class Normalizer:
    """Normalizes batch after batch with one stage's settings, and counts what it did.

    Give it the rows of the whole batch on every rank: then all ranks hold the same threshold, prior and queue.
    """

    def __init__(self, config: AnConfig, sizes: Sizes, device: torch.device, *, prior_C: Tensor | None = None) -> None:
        """prior_C: shares that the clusters shall have, or that the running prior starts from; uniform if None."""
        self._config = config
        self._sizes = sizes
        self._device = device
        self._options = config.options()
        if prior_C is None:
            prior_C = torch.full((sizes.num_clusters,), 1 / sizes.num_clusters)
        self._prior_HC = prior_C.to(device, torch.float64).repeat(sizes.num_heads, 1)
        self._queue_HQC = torch.empty(sizes.num_heads, 0, sizes.num_clusters, dtype=torch.float64, device=device)
        if config.empty_reference == "queue":
            self._queue_HQC = alternating_normalization.empty_queue(sizes.num_clusters, sizes.num_heads).to(device)
        self._threshold = _Threshold(config, torch.zeros(sizes.num_heads, dtype=torch.float64, device=device))
        self._reported: list[dict[str, float]] = [{} for _ in range(sizes.num_heads)]
        self._batches_of_run = 0
        self._totals_H5 = torch.zeros(sizes.num_heads, 5, dtype=torch.float64, device=device)
        self._reset()

    def _reset(self) -> None:
        # Images by head, (all, unsure before, unsure after), cluster and class.
        sizes, num_classes = self._sizes, max(1, self._sizes.num_classes)
        self._counts_H3CY = torch.zeros(
            sizes.num_heads, 3, sizes.num_clusters, num_classes, dtype=torch.float64, device=self._device
        )
        self._sums_H4 = torch.zeros(sizes.num_heads, 4, dtype=torch.float64, device=self._device)
        self._rows = self._batches = 0

    def is_active(self, epoch: int) -> bool:
        return self._config.mode != "none" and epoch >= self._config.start_epoch

    def corrects(self, epoch: int) -> bool:
        return self.is_active(epoch) and self._config.mode != "reweight"

    def weighs(self, epoch: int) -> bool:
        return self.is_active(epoch) and self._config.mode != "correction"

    def __call__(self, rows_BC: Tensor, labels_B: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Targets instead of rows, without gradients, and the entropies of the rows as they came.

        Args:
            rows_BC: shape (B, C), or (H, B, C) with several heads. labels_B: -1 where unknown; for the report alone.

        Returns:
            Targets in the shape of the rows, and entropies without the last axis, float64.
        """
        refined, targets_BC = self._refined(rows_BC, labels_B, epoch)
        return targets_BC, refined.entropy_B

    def _refined(
        self, rows_BC: Tensor, labels_B: Tensor, epoch: int
    ) -> tuple[alternating_normalization.Refined, Tensor]:
        """What becomes of a batch, which is counted, and its targets: the rows themselves where none is corrected."""
        rows_BC, config = rows_BC.detach(), self._config
        of_heads = rows_BC.ndim == 3
        entropy_B = alternating_normalization.top_entropy(rows_BC, config.top_k, renormalize=config.renormalize)
        threshold = self._threshold.of_batch(entropy_B if of_heads else entropy_B[None], epoch)
        refined = self._split_and_corrected(rows_BC, entropy_B, threshold)
        targets_BC = refined.targets_BC if self.corrects(epoch) else rows_BC
        self._count(rows_BC, targets_BC, refined, labels_B)
        if self.corrects(epoch) and config.class_prior == "running":
            self._prior_HC = alternating_normalization.next_prior(self._prior_HC, targets_BC, config.prior_decay)
        if config.empty_reference == "queue":
            rows_HBC, sure_HB = (rows_BC, ~refined.unsure_B) if of_heads else (rows_BC[None], ~refined.unsure_B[None])
            self._queue_HQC = alternating_normalization.next_queue(self._queue_HQC, rows_HBC, sure_HB)
        return refined, targets_BC

    def _split_and_corrected(
        self, rows_BC: Tensor, entropy_B: Tensor, threshold_H: Tensor, head: int = 0
    ) -> alternating_normalization.Refined:
        """head: whose threshold, prior and queue rows without an axis of heads take."""
        state = (threshold_H, self._prior_HC, self._queue_HQC)
        threshold, prior, queue = state if rows_BC.ndim == 3 else (each[head] for each in state)
        unsure_B = alternating_normalization.is_unsure(entropy_B, threshold, tie_is_unsure=self._config.tie_is_unsure)
        return alternating_normalization.correct_unsure(rows_BC, entropy_B, unsure_B, self._options, prior, queue)

    def in_batches(self, rows_NC: Tensor, labels_N: Tensor, epoch: int, order_N: Tensor) -> tuple[Tensor, Tensor]:
        """Targets (N, C) and entropies (N,), float64, of a whole split, in batches as ``order_N`` deals its rows.

        A threshold that is not fixed yet is taken from all rows at once.
        """
        config = self._config
        self._threshold.of_split(
            alternating_normalization.top_entropy(rows_NC, config.top_k, renormalize=config.renormalize)[None], epoch
        )
        refined_NC, entropy_N = torch.empty_like(rows_NC), torch.empty_like(rows_NC[:, 0], dtype=torch.float64)
        for rows_B in order_N.split(self._sizes.batch_size):
            refined_NC[rows_B], entropy_N[rows_B] = self(rows_NC[rows_B], labels_N[rows_B], epoch)
        return refined_NC, entropy_N

    def weights(self, entropy_B: Tensor) -> Tensor:
        """(..., B) float32 weights of mean 1 over each batch, larger where a row is less sure."""
        share_B = alternating_normalization.importance(entropy_B, self._config.reweight_temperature)
        return (share_B * entropy_B.shape[-1]).float()

    def of_logits(self, logits_BC: Tensor, labels_B: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """What a loss over logits takes instead of ``logits_BC``, and the weights (..., B) of its terms.

        Logits as they came, with their gradient, but for the rows that are corrected: these have none. Ones as weights
        where none are asked for. Shapes as in a call.
        """
        ones_B = torch.ones_like(logits_BC[..., 0], dtype=torch.float32)
        if not self.is_active(epoch):
            return logits_BC, ones_B
        refined, targets_BC = self._refined(logits_BC.float().softmax(-1), labels_B, epoch)
        weights_B = self.weights(refined.entropy_B) if self.weighs(epoch) else ones_B
        if not self.corrects(epoch):
            return logits_BC, weights_B
        corrected_BC = targets_BC.clamp_min(1e-12).log().to(logits_BC.dtype)
        return torch.where(refined.corrected_B[..., None], corrected_BC, logits_BC), weights_B

    def _count(
        self, rows_BC: Tensor, targets_BC: Tensor, refined: alternating_normalization.Refined, labels_B: Tensor
    ) -> None:
        shape = (self._sizes.num_heads, rows_BC.shape[-2])
        before_HB, after_HB = rows_BC.argmax(-1).view(shape), targets_BC.argmax(-1).view(shape)
        unsure_HB, known_HB = refined.unsure_B.view(shape).double(), (labels_B >= 0).double().expand(shape)
        weight_H3B = torch.stack((known_HB, known_HB * unsure_HB, known_HB * unsure_HB), dim=1)
        num_classes = self._counts_H3CY.shape[-1]
        place_H3B = torch.stack((before_HB, before_HB, after_HB), dim=1) * num_classes + labels_B.clamp_min(0)
        self._counts_H3CY.view(*weight_H3B.shape[:2], -1).scatter_add_(-1, place_H3B, weight_H3B)
        corrected_H = refined.corrected_B.view(shape).double().sum(-1)
        changed_H = (before_HB != after_HB).double().sum(-1)
        missing_H = refined.num_missing.view(shape[0]).double()
        self._sums_H4 += torch.stack((unsure_HB.sum(-1), corrected_H, changed_H, missing_H), dim=-1)
        self._rows += shape[1]
        self._batches += 1

    def report(self, head: int = 0) -> dict[str, float]:
        """What happened to a head's rows since the last report of any; where nothing did, that one again.

        an_threshold: the entropy from which rows are unsure. an_unsure_fraction: of all rows. an_reference_fraction: of
        the unsure ones, those whose batch has sure rows to be held against. an_changed_fraction: of all rows, those
        with another largest cluster than before. an_missing_clusters: per batch, clusters that no sure row prefers.
        an_unsure_acc_before, an_unsure_acc_after: of unsure assignments alone, with the clusters' classes matched on
        all; missing where no unsure one has a label.
        """
        if self._batches:
            thresholds = self._threshold.value_H().tolist()
            sums, counts = self._sums_H4.tolist(), self._counts_H3CY.cpu().numpy().astype(np.int64)
            self._reported = [
                {"an_threshold": each, **self._shares(*own), **_accuracies(*own_counts)}
                for each, own, own_counts in zip(thresholds, sums, counts, strict=True)
            ]
            rows_H1 = torch.full_like(self._sums_H4[:, :1], self._rows)
            self._totals_H5 = self._totals_H5 + torch.cat((rows_H1, self._sums_H4), dim=1)
            self._batches_of_run += self._batches
            self._reset()
        return self._reported[head]

    def _shares(self, unsure: float, corrected: float, changed: float, missing: float) -> dict[str, float]:
        shares = {
            "an_unsure_fraction": unsure / self._rows,
            "an_changed_fraction": changed / self._rows,
            "an_missing_clusters": missing / self._batches,
        }
        return shares | ({"an_reference_fraction": corrected / unsure} if unsure else {})

    def at_the_end(
        self, rows_NC: Tensor, labels_N: Tensor, head: int = 0
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, float]]:
        """What happened in all epochs, and what correction makes of the predictions on a split at inference.

        Args:
            rows_NC: probabilities, corrected in about equal batches in their order. labels_N: -1 where unknown.

        Returns:
            Arrays: refined_eval (N, C), for figures. Metrics: ``normalization_metrics.OF_A_RUN``, and an_acc_before
            and an_acc_after, the accuracy of all rows as they are and corrected, missing without labels. Without arrays
            and accuracies where nothing is corrected, and empty where nothing was normalized. Threshold, prior and
            queue are those of now and stay so.
        """
        self.report()
        if not self._batches_of_run:
            return {}, {}
        rows, unsure, corrected, changed, missing = self._totals_H5[head].tolist()
        counts = (rows, unsure, corrected, changed, missing / self._batches_of_run)
        found = dict(zip(normalization_metrics.OF_A_RUN, counts, strict=True))
        if self._config.mode == "reweight":
            return {}, found
        config, parts, threshold_H = self._config, [], self._threshold.value_H()
        for rows_BC in rows_NC.to(self._device).tensor_split(max(1, len(rows_NC) // self._sizes.batch_size)):
            entropy_B = alternating_normalization.top_entropy(rows_BC, config.top_k, renormalize=config.renormalize)
            parts.append(self._split_and_corrected(rows_BC, entropy_B, threshold_H, head).targets_BC)
        refined_NC = torch.cat(parts).float().cpu()
        for when, each_NC in (("before", rows_NC), ("after", refined_NC)):
            clusters_N, sizes = each_NC.argmax(1).cpu().numpy(), self._sizes
            counts_CY = metrics.contingency(
                clusters_N, labels_N.cpu().numpy(), sizes.num_clusters, max(1, sizes.num_classes)
            )
            found |= {f"an_acc_{when}": metrics.accuracy(counts_CY)} if counts_CY.any() else {}
        return {"refined_eval": refined_NC.numpy()}, found

    def state_dict(self) -> dict[str, Any]:
        return {
            "prior": self._prior_HC,
            "queue": self._queue_HQC,
            "threshold": self._threshold.state_dict(),
            "reported": self._reported,
            "totals": self._totals_H5,
            "batches": self._batches_of_run,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._prior_HC = state["prior"].to(self._device)
        self._queue_HQC = state["queue"].to(self._device)
        self._threshold.load_state_dict(state["threshold"])
        self._reported = [dict(each) for each in state["reported"]]
        self._totals_H5 = state["totals"].to(self._device)
        self._batches_of_run = state["batches"]


class _Threshold:
    """The entropy from which a head's rows are unsure: a number of the settings, or taken from the first epoch.

    In the first epoch it is the mean of the quantiles of the batches so far; a whole split gives it at once. It stays
    as it is from then on.
    """

    def __init__(self, config: AnConfig, zeros_H: Tensor) -> None:
        self._fixed, self._share = config.entropy_threshold, config.unsure_share
        self._sum_H = zeros_H
        self._num, self._epoch, self._is_closed = 0, -1, False

    def value_H(self) -> Tensor:
        return torch.full_like(self._sum_H, self._fixed) if self._fixed else self._sum_H / max(self._num, 1)

    def of_batch(self, entropy_HB: Tensor, epoch: int) -> Tensor:
        """(H,) for this batch, which the rule may take in."""
        if not self._fixed and not self._is_closed and self._epoch in (-1, epoch):
            self._epoch = epoch
            self._sum_H = self._sum_H + alternating_normalization.threshold_of_share(entropy_HB, self._share)
            self._num += 1
        return self.value_H()

    def of_split(self, entropy_HN: Tensor, epoch: int) -> None:
        """Take the rule's number from a whole split, if there is none yet."""
        if not self._num:
            self.of_batch(entropy_HN, epoch)
            self._is_closed = True

    def state_dict(self) -> dict[str, Any]:
        return {"sum": self._sum_H, "num": self._num, "epoch": self._epoch, "is_closed": self._is_closed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._sum_H = state["sum"].to(self._sum_H.device)
        self._num, self._epoch, self._is_closed = state["num"], state["epoch"], state["is_closed"]


def _accuracies(all_CY: metrics.Counts, before_CY: metrics.Counts, after_CY: metrics.Counts) -> dict[str, float]:
    """Of unsure rows, with the clusters' classes matched on all rows; empty where no unsure row has a label."""
    if not before_CY.any():
        return {}
    class_C = metrics.hungarian_map(all_CY)
    return {"an_unsure_acc_before": _right(before_CY, class_C), "an_unsure_acc_after": _right(after_CY, class_C)}


def _right(counts_CY: metrics.Counts, class_C: NDArray[np.int64]) -> float:
    """Share of the counted images that lie in a cluster of their class."""
    matched_C = class_C >= 0
    return float(counts_CY[matched_C, class_C[matched_C]].sum() / counts_CY.sum())
