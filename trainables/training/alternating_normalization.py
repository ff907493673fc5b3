"""Alternating normalization (AN) as any clustering stage switches it on: settings, lasting state, report.

A stage's Config has a group ``an``, so that study files say ``dec.an.mode: both``; where it has a batch of assignments
that serve as targets, it calls a ``Normalizer``. Sites: DEC normalizes q at each target update, SCAN the neighbor's
prediction, self-labeling the prediction on the weak view, SwAV the codes, SimGCD the sharpened predictions of unlabeled
images, and SPC the propagated labels.

Source: see ``maths.alternating_normalization``. Its published text names none of top_k, threshold, power and
iterations: the defaults are ours.

Axes: B rows of the global batch, C clusters, Y classes.
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

METRICS = ("an_unsure_fraction", "an_changed_fraction", "an_missing_clusters", "an_acc_before", "an_acc_after")
"""What ``Normalizer.report`` may say; the two with "acc" look at labels."""

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
        0.75, "an assignment of this entropy or more is unsure; in [0, 1] if renormalized, else in nats",
        above=0, symbol="τ", when=_ON,
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
            threshold=self.entropy_threshold,
            tie_is_unsure=self.tie_is_unsure,
            power=self.power,
            iterations=self.iterations,
            each_time=self.power_schedule == "every_iteration",
            frozen=self.reference_mode == "frozen",
            empty=self.empty_reference,
            min_reference=self.min_reference,
        )


class Normalizer:
    """Normalizes batch after batch with one stage's settings, and counts what it did.

    Give it the rows of the whole batch on every rank: then all ranks hold the same prior and queue.
    """

    def __init__(
        self, config: AnConfig, num_clusters: int, num_classes: int, batch_size: int, device: torch.device
    ) -> None:
        """batch_size: rows normalized together where a whole split is, as ``in_batches`` and ``arrays`` do."""
        self._config = config
        self._batch_size = batch_size
        self._options = config.options()
        self._prior_C = torch.full((num_clusters,), 1 / num_clusters, dtype=torch.float64, device=device)
        self._queue_QC = torch.empty(0, num_clusters, dtype=torch.float64, device=device)
        self._num_classes = num_classes
        self._device = device
        self._reported: dict[str, float] = {}
        self._reset()

    def _reset(self) -> None:
        # Images by (all, unsure before, unsure after), cluster and class.
        num_clusters, num_classes = len(self._prior_C), max(1, self._num_classes)
        self._counts_3CY = torch.zeros(3, num_clusters, num_classes, dtype=torch.float64, device=self._device)
        self._sums = torch.zeros(5, dtype=torch.float64, device=self._device)

    def is_active(self, epoch: int) -> bool:
        return self._config.mode != "none" and epoch >= self._config.start_epoch

    def corrects(self, epoch: int) -> bool:
        return self.is_active(epoch) and self._config.mode != "reweight"

    def weighs(self, epoch: int) -> bool:
        return self.is_active(epoch) and self._config.mode != "correction"

    def __call__(self, rows_BC: Tensor, labels_B: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Targets (B, C) instead of ``rows_BC``, without gradients, and entropies (B,) of the rows as they came.

        labels_B: -1 where unknown; for the report alone.
        """
        normalized = alternating_normalization.refine_assignments(rows_BC, self._options, self._prior_C, self._queue_QC)
        targets_BC = normalized.targets_BC if self.corrects(epoch) else rows_BC.detach()
        self._count(rows_BC, targets_BC, normalized, labels_B)
        if self.corrects(epoch) and self._config.class_prior == "running":
            self._prior_C = alternating_normalization.next_prior(self._prior_C, targets_BC, self._config.prior_decay)
        if self._config.empty_reference == "queue":
            self._queue_QC = alternating_normalization.next_queue(self._queue_QC, rows_BC, ~normalized.unsure_B)
        return targets_BC, normalized.entropy_B

    def in_batches(self, rows_NC: Tensor, labels_N: Tensor, epoch: int, order_N: Tensor) -> tuple[Tensor, Tensor]:
        """Targets (N, C) and entropies (N,), float64, of a whole split, in batches as ``order_N`` deals its rows."""
        refined_NC, entropy_N = torch.empty_like(rows_NC), torch.empty_like(rows_NC[:, 0], dtype=torch.float64)
        for rows_B in order_N.split(self._batch_size):
            refined_NC[rows_B], entropy_N[rows_B] = self(rows_NC[rows_B], labels_N[rows_B], epoch)
        return refined_NC, entropy_N

    def weights(self, entropy_B: Tensor) -> Tensor:
        """(B,) float32 weights of mean 1 over the batch, larger where a row is less sure."""
        return (
            alternating_normalization.importance(entropy_B, self._config.reweight_temperature) * len(entropy_B)
        ).float()

    def of_logits(self, logits_BC: Tensor, labels_B: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """What a loss over logits takes instead of ``logits_BC``, and the weights (B,) of its terms.

        Logits as they came and ones while AN is off; corrected ones carry no gradient.
        """
        ones_B = torch.ones_like(logits_BC[:, 0], dtype=torch.float32)
        if not self.is_active(epoch):
            return logits_BC, ones_B
        targets_BC, entropy_B = self(logits_BC.float().softmax(1), labels_B, epoch)
        weights_B = self.weights(entropy_B) if self.weighs(epoch) else ones_B
        return targets_BC.clamp_min(1e-12).log() if self.corrects(epoch) else logits_BC, weights_B

    def _count(
        self, rows_BC: Tensor, targets_BC: Tensor, normalized: alternating_normalization.Refined, labels_B: Tensor
    ) -> None:
        before_B, after_B, unsure_B = rows_BC.argmax(1), targets_BC.argmax(1), normalized.unsure_B.double()
        known_B = (labels_B >= 0).double()
        parts = ((before_B, known_B), (before_B, known_B * unsure_B), (after_B, known_B * unsure_B))
        for counts_CY, (cluster_B, weight_B) in zip(self._counts_3CY, parts, strict=True):
            place_B = cluster_B * counts_CY.shape[1] + labels_B.clamp_min(0)
            counts_CY.view(-1).index_add_(0, place_B, weight_B)
        changed = (before_B != after_B).double().sum()
        one = torch.ones_like(changed)
        self._sums += torch.stack((unsure_B.sum(), changed, normalized.num_missing.double(), one * len(rows_BC), one))

    def report(self) -> dict[str, float]:
        """What happened since the last report; where nothing did, that one again.

        an_missing_clusters: per batch, clusters that no sure row prefers. an_acc_before, an_acc_after: of unsure
        assignments alone, with the clusters' classes matched on all; missing where no unsure one has a label.
        """
        unsure, changed, missing, rows, batches = self._sums.tolist()
        if not batches:
            return self._reported
        self._reported = {
            "an_unsure_fraction": unsure / rows,
            "an_changed_fraction": changed / rows,
            "an_missing_clusters": missing / batches,
        }
        all_CY, before_CY, after_CY = self._counts_3CY.cpu().numpy().astype(np.int64)
        if before_CY.any():
            class_C = metrics.hungarian_map(all_CY)
            self._reported["an_acc_before"] = _right(before_CY, class_C)
            self._reported["an_acc_after"] = _right(after_CY, class_C)
        self._reset()
        return self._reported

    def arrays(self, rows_NC: Tensor) -> dict[str, NDArray[np.float32]]:
        """refined_eval (N, C): what correction makes of these rows, in about equal batches; for figures alone.

        Empty where nothing is corrected. Prior and queue are those of now and stay so.
        """
        if self._config.mode in ("none", "reweight"):
            return {}
        parts = [
            alternating_normalization.refine_assignments(
                part_BC, self._options, self._prior_C, self._queue_QC
            ).targets_BC
            for part_BC in rows_NC.to(self._device).tensor_split(max(1, len(rows_NC) // self._batch_size))
        ]
        return {"refined_eval": torch.cat(parts).float().cpu().numpy()}

    def state_dict(self) -> dict[str, Any]:
        return {"prior": self._prior_C, "queue": self._queue_QC, "reported": self._reported}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._prior_C = state["prior"].to(self._device)
        self._queue_QC = state["queue"].to(self._device)
        self._reported = dict(state["reported"])


def _right(counts_CY: metrics.Counts, class_C: Any) -> float:
    """Share of the counted images that lie in a cluster of their class."""
    matched_C = class_C >= 0
    return float(counts_CY[matched_C, class_C[matched_C]].sum() / counts_CY.sum())
