"""What a study file says of published values besides the numbers: how they came about, and what speaks against them."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import did_you_mean

PROTOCOLS = {
    "split": "trained on the training images, judged on the test images",
    "union": "trained and judged on all images",
    "train": "trained and judged on the training images",
    "test": "trained and judged on the test images",
}
NOTES = ("dataset", "protocol", "backbone", "epochs", "statistic", "source", "doubt")
"""Keys under ``published`` that are no metric. Those of the study hold for every row that does not say otherwise.

epochs: a mapping of slots to epochs, or a number for the last stage. statistic: "mean", "best" or "one run", with
" of 3" where the number of runs is known. doubt: a text on all values, or a mapping of metrics to texts; a footnote in
the report.
"""

_STATISTIC = re.compile(r"(mean|best|one run)(?: of ([1-9][0-9]*))?")


def values_of(published: Mapping[str, Any]) -> dict[str, float]:
    """The numbers alone: metric -> value as printed."""
    return {name: value for name, value in published.items() if name not in NOTES}


def notes_of(published: Mapping[str, Any]) -> dict[str, Any]:
    """The notes alone: key of NOTES -> what the file says."""
    return {name: published[name] for name in NOTES if name in published}


def kind_of_statistic(statistic: str) -> str:
    """The kind of a statistic that was checked before: "mean", "best" or "one run"."""
    match = _STATISTIC.fullmatch(statistic)
    assert match is not None, f"{statistic!r} was not checked when the file was read"
    return match[1]


def value_error(metric: str, value: Any) -> str | None:
    """Say why ``value`` cannot be a published value of ``metric``; None if it can."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return f"{metric} must be a finite number, as published, but is {value!r}. Write it as printed."
    return None


def note_error(name: str, value: Any, slots: Sequence[str], metrics: Sequence[str]) -> str | None:
    """Say why ``value`` cannot stand under the key ``name`` of NOTES.

    Args:
        name: one of NOTES.
        slots: of the pipeline.
        metrics: of the pipeline, with and without their slot.

    Returns:
        A sentence; None if the value is allowed.
    """
    if name == "epochs":
        return _epochs_error(value, slots)
    if name == "doubt" and isinstance(value, dict):
        for metric, text in value.items():
            if metric not in metrics:
                way_out = did_you_mean(str(metric), metrics)
                return f"doubt speaks of {metric!r}, which is no metric of this pipeline. {way_out}"
            if not _is_text(text):
                return f"doubt.{metric} must be text, but is {text!r}. Write what speaks against the value."
        return None
    if not _is_text(value):
        return f"{name} must be text, but is {value!r}. Write it in words."
    if name == "protocol" and value not in PROTOCOLS:
        return (
            f"protocol must be one of {', '.join(PROTOCOLS)}, but is {value!r}. {did_you_mean(value, list(PROTOCOLS))}"
        )
    if name == "statistic" and not _STATISTIC.fullmatch(value):
        return f"statistic must be mean, best or one run, but is {value!r}. Write for example best of 3."
    return None


def _epochs_error(value: Any, slots: Sequence[str]) -> str | None:
    for slot, number in (value if isinstance(value, dict) else {"": value}).items():
        if slot and slot not in slots:
            return f"epochs speaks of {slot!r}, which is no stage of this pipeline. {did_you_mean(str(slot), slots)}"
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            return f"epochs must be a whole number above 0, or one for each stage, but is {value!r}. Write epochs: 50."
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
