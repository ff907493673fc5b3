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
NOTES = ("dataset", "protocol", "backbone", "epochs", "std", "statistic", "source", "doubt", "not_run")
"""Keys under ``published`` that are no metric. Those of the study hold for every row that does not say otherwise.

epochs: a mapping of slots to epochs, or a number for the last stage. std: the deviation printed beside a value, a
number where there is one value, or else a mapping of metrics to numbers. statistic: "mean", "best" or "one run", with
" of 3" where the number of runs is known; with "best" the best of our own runs stands beside the value. doubt: a text
on all values, or a mapping of metrics to texts; a footnote in the report. not_run: rows of the published table that
this study has no row for: name -> its values, and under ``why`` the reason.
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


def num_runs(statistic: str) -> int | None:
    """Of how many runs a checked statistic is; None where nothing is said of it."""
    match = _STATISTIC.fullmatch(statistic)
    return int(match[2]) if match and match[2] else None


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
    if name == "not_run":
        return _not_run_error(value, metrics)
    if name == "std" or (name == "doubt" and isinstance(value, dict)):
        return _by_metric_error(name, value if isinstance(value, dict) else {"": value}, metrics)
    if not _is_text(value):
        return f"{name} must be text, but is {value!r}. Write it in words."
    if name == "protocol" and value not in PROTOCOLS:
        return (
            f"protocol must be one of {', '.join(PROTOCOLS)}, but is {value!r}. {did_you_mean(value, list(PROTOCOLS))}"
        )
    if name == "statistic" and not _STATISTIC.fullmatch(value):
        return f"statistic must be mean, best or one run, but is {value!r}. Write for example best of 3."
    return None


def _by_metric_error(name: str, entries: Mapping[str, Any], metrics: Sequence[str]) -> str | None:
    """Of "doubt" or "std", where metrics are named; one number for all of them stands under the empty name."""
    for metric, value in entries.items():
        if metric and metric not in metrics:
            return f"{name} speaks of {metric!r}, which is no metric of this pipeline. {did_you_mean(metric, metrics)}"
        if name == "std":
            error = _std_error(metric, value)
        else:
            is_right = _is_text(value)
            error = "" if is_right else f"doubt.{metric} must be text, but is {value!r}. Write what speaks against it."
        if error:
            return error
    return None


def _not_run_error(value: Any, metrics: Sequence[str]) -> str | None:
    example = "Write not_run: {NAME: {acc: 89.5, why: it needs two networks}}."
    if not isinstance(value, dict) or not all(isinstance(row, dict) for row in value.values()):
        return f"not_run must be a mapping of names of rows to their values, but is {value!r}. {example}"
    for label, row in value.items():
        if not _is_text(row.get("why")):
            return f"not_run.{label} must say under why it is not run, but has {row.get('why')!r}. {example}"
        for metric, number in row.items():
            if metric == "why":
                continue
            if metric not in metrics:
                return f"not_run.{label} speaks of {metric!r}, which is no metric of this pipeline. " + did_you_mean(
                    str(metric), metrics
                )
            if error := value_error(metric, number):
                return f"not_run.{label}: {error}"
    return None


def stds_error(published: Mapping[str, Any]) -> str | None:
    """Say why one number under ``std`` cannot be given to the values beside it; None if it can."""
    values = values_of(published)
    if "std" not in published or isinstance(published["std"], Mapping) or len(values) == 1:
        return None
    some = next(iter(values), "acc")
    return (
        f"std is one number, but {len(values)} values stand beside it. "
        f"Write the metric it belongs to: {{{some}: {published['std']}}}."
    )


def std_of(notes: Mapping[str, Any], metric: str) -> float | None:
    """The deviation printed beside a metric's value, as printed; None if there is none."""
    std = notes.get("std")
    value = std.get(metric) if isinstance(std, Mapping) else std
    return None if value is None else float(value)


def _std_error(metric: str, value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        name = f"std.{metric}" if metric else "std"
        return f'{name} must be a number of at least 0, as printed behind "±", but is {value!r}. Write std: 0.4.'
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
