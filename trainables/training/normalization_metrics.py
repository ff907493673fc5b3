"""What alternating normalization (AN) did in a run, in numbers and, where it could not act, in words.

Apart from the code that normalizes, so that reports read it without loading anything heavy.
"""

from collections.abc import Mapping

OF_A_RUN = ("an_rows", "an_unsure_rows", "an_reference_rows", "an_changed_rows", "an_run_missing_clusters")
"""Over all epochs: rows that came by; those that were unsure; the unsure ones whose batch had a sure row to be held
against; rows that were moved to another cluster; and clusters that no sure row preferred, in a batch on average."""

LABELED = "an_labeled_fraction"
"""Of self-labeling: of the rows that AN corrected in an epoch, those that became a label."""

_NEARLY_ALL = 0.9
"""An unsure share above it leaves hardly any row to be held against."""


def idle(metrics: Mapping[str, float]) -> list[str]:
    """Why AN did nothing, or next to nothing, as phrases: "no row was unsure"; empty where it acted.

    Args:
        metrics: of a stage, without its slot; nothing is said of one without the names of OF_A_RUN.
    """
    if not metrics.get("an_rows"):
        return []
    rows, unsure, corrected, changed, missing = (metrics[name] for name in OF_A_RUN)
    if not unsure:
        return ["no row was unsure"]
    phrases = []
    if unsure / rows > _NEARLY_ALL:
        phrases.append(f"{unsure / rows:.0%} of the rows were unsure")
    if not corrected:
        phrases.append("no unsure row had a sure one to be held against")
    elif corrected < unsure:
        phrases.append(f"{1 - corrected / unsure:.0%} of the unsure rows had no sure one to be held against")
    if missing >= 1:
        phrases.append(f"{missing:.1f} clusters of a batch had no sure row")
    if "an_acc_after" in metrics and not changed:
        phrases.append("no row changed its cluster")
    if metrics.get(LABELED) == 0:
        phrases.append("no corrected row was above the threshold of self-labeling")
    return phrases
