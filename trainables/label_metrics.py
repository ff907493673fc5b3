"""Which metrics looked at labels: said here, once, and readable without loading anything heavy."""

from collections.abc import Mapping

LABEL_METRICS: frozenset[str] = frozenset(
    {
        "acc",
        "acc_majority",
        "nmi_majority",
        "ari_majority",
        "acc_old",
        "acc_new",
        "nmi",
        "ari",
        "top5",
        "purity",
        "knn_acc",
        "bcubed_precision",
        "bcubed_recall",
        "bcubed_f",
        "an_unsure_acc_before",
        "an_unsure_acc_after",
        "an_acc_before",
        "an_acc_after",
    }
)
"""Metrics that looked at labels. None may steer a study that does not call itself an oracle."""

# A name that holds one of these words is taken for a label metric, so that a new one cannot slip through unlisted ...
_LABEL_WORDS = frozenset({"acc", "accuracy", "nmi", "ari", "top5", "purity", "bcubed"})
# ... except for these: agreement between two clusterings of the method's own.
_LABEL_FREE = frozenset({"assignment_nmi"})

PROBE_SUFFIX = "_probe"
"""The slot of every stage that trains a classifier on labels to judge features ends so."""


def without_unknown(metrics: Mapping[str, float]) -> dict[str, float]:
    """Leave out the label metrics that are NaN, which is what their functions give where no label is known.

    Every epoch and every result passes here (see ``interfaces``), so that no stage has to ask whether there are labels.
    A NaN of any other metric stays: it means that the method has diverged.
    """
    return {name: value for name, value in metrics.items() if value == value or not looks_at_labels(name)}


def looks_at_labels(metric_name: str) -> bool:
    """Whether a metric needed labels; a trailing number ("purity_20") and a prefix ("spc/acc") change nothing.

    But for a probe's prefix ("linear_probe/loss"): it trains on labels, so every number of it knows them.
    """
    slot, _, name = metric_name.rpartition("/")
    if slot.endswith(PROBE_SUFFIX):
        return True
    if name in _LABEL_FREE:
        return False
    return name in LABEL_METRICS or not _LABEL_WORDS.isdisjoint(name.split("_"))
