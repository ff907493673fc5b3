"""What stops a trial from inside, at the end of an epoch: a collapsed clustering, or time that has run out.

Neither looks at labels. All ranks of a worker group follow rank 0.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .messages import CollapseLimits, TrialSpec


class Collapsed(RuntimeError):
    """A clustering has given up most of its clusters. ``metrics``: of its last epoch, prefixed by slot."""

    def __init__(self, sentence: str, metrics: Mapping[str, float]) -> None:
        super().__init__(sentence)
        self.metrics = dict(metrics)


class TimeLimit(RuntimeError):
    """A trial took longer than it may."""


@dataclass(frozen=True)
class Guards:
    """What a trial is to be guarded against. time_limit_s: of one attempt. began_s: on the monotonic clock."""

    collapse: CollapseLimits | None
    time_limit_s: float | None
    began_s: float

    @classmethod
    def of(cls, trial_spec: TrialSpec) -> "Guards":
        return cls(trial_spec.get("collapse"), trial_spec.get("time_limit_s"), time.monotonic())

    @property
    def any(self) -> bool:
        return self.collapse is not None or self.time_limit_s is not None

    def verdict(self, history: Sequence[Mapping[str, float]]) -> tuple[str, str]:
        """("collapse" or "time", sentence) after the last epoch of ``history``; two empty texts if all is well."""
        sentence = collapse(history, **self.collapse) if self.collapse is not None else ""
        if sentence:
            return "collapse", sentence
        spent_s = time.monotonic() - self.began_s
        if self.time_limit_s is not None and spent_s > self.time_limit_s:
            return "time", f"time limit: {spent_s:.0f} s spent of {self.time_limit_s:g} s"
        return "", ""


def collapse(
    history: Sequence[Mapping[str, float]],
    *,
    min_entropy_share: float,
    max_empty_clusters: int | None,
    patience_epochs: int,
) -> str:
    """Why a clustering has collapsed; empty if it has not.

    Args:
        history: metrics of every epoch so far. cluster_entropy: of the cluster sizes, over log C, in [0, 1].
        min_entropy_share: an epoch below it is bad.
        max_empty_clusters: an epoch above it is bad; None does not look.
        patience_epochs: so many bad epochs in a row, the last ones, are a collapse; at least 1.
    """
    last = history[-patience_epochs:]
    sparse = all(epoch.get("cluster_entropy", 1.0) < min_entropy_share for epoch in last)
    hollow = max_empty_clusters is not None and all(
        epoch.get("num_empty_clusters", 0.0) > max_empty_clusters for epoch in last
    )
    if len(last) < patience_epochs or not (sparse or hollow):
        return ""
    reason = (
        f"cluster_entropy {last[-1]['cluster_entropy']:.3g} is below {min_entropy_share:g}"
        if sparse
        else f"{last[-1]['num_empty_clusters']:.0f} clusters are empty, more than {max_empty_clusters}"
    )
    return f"{reason} for {patience_epochs} epochs"
