"""What a search of the number of clusters says without labels: how far its seeds agree, and what its criterion does.

For each number the configuration with the best objective counts, for a search may vary other settings too. Collapsed
trials take no part: two clusterings that put all images into one cluster agree for no good reason.
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.interfaces import Result
from trainables.label_metrics import looks_at_labels
from trainables.maths import num_clusters
from trainables.store.artifacts import Store

from ...ledger.aggregate import Spread
from ...ledger.outcomes import closing_stages, status
from ...ledger.rows import DONE
from ..summary import ClusterNumber, ConfigurationRow, Summary
from .words import parameter

_LEAST_NUMBERS = 2

Read = Callable[[str], Result | None]
"""A stage result by its name; None where it is not in the storage."""


def reader(storage: str | Path) -> Read:
    """Reads from a storage, a folder or a URI. A bucket that does not answer costs the evidence, and a warning."""
    store = Store(storage)

    def read(name: str) -> Result | None:
        try:
            return store.get(name)
        except OSError as error:
            warnings.warn(f"a clustering was not compared with those of other seeds: {error!r}", stacklevel=2)
            return None

    return read


def with_cluster_numbers(summary: Summary, read: Read) -> Summary:
    """The summary with a ``ClusterNumber`` for each number that has a result.

    A study that did not search its number of clusters, or has results for one alone, comes back unchanged.

    Args:
        read: reads the clusterings; each is asked for once.
    """
    rows = _best_rows(summary)
    if len(rows) < _LEAST_NUMBERS:
        return summary
    clusterings = {number: _probabilities(row, read) for number, row in rows.items()}
    merged = _merged(clusterings[max(rows)], list(rows))
    found = [
        ClusterNumber(
            number=number,
            agreements=num_clusters.agreements([each_NC.argmax(1) for each_NC in clusterings[number]]),
            merged_agreements=num_clusters.agreements(merged[number]),
            criterion=_criterion(summary, row),
            num_clusterings=len(clusterings[number]),
        )
        for number, row in rows.items()
    ]
    return replace(summary, cluster_numbers=tuple(found))


def _best_rows(summary: Summary) -> dict[int, ConfigurationRow]:
    """Number of clusters -> its configuration of the best objective, by number; 0, the labels' number, is left out."""
    name, metric, sign = parameter(summary), summary.objective.metric, summary.objective.sign
    rows: dict[int, ConfigurationRow] = {}
    for row in summary.comparable(metric):
        number = row.params.get(name, 0)
        if number and (
            number not in rows or sign * row.metrics[metric].mean < sign * rows[number].metrics[metric].mean
        ):
            rows[number] = row
    return dict(sorted(rows.items()))


def _probabilities(row: ConfigurationRow, read: Read) -> list[NDArray[Any]]:
    """The clustering (N, C) of each seed that ended well, as far as they can be read and are of the same images."""
    found: list[NDArray[Any]] = []
    for trial in row.trials:
        if trial.state != DONE or status(trial) != "ok" or not trial.stages:
            continue
        result = read(closing_stages(trial)[0].result_name)
        if result is not None and "probabilities_eval" in result.arrays:
            found.append(np.asarray(result.arrays["probabilities_eval"]))
    return [each_NC for each_NC in found if len(each_NC) == len(found[0])]


def _merged(largest: list[NDArray[Any]], numbers: list[int]) -> dict[int, list[NDArray[np.int64]]]:
    """Number -> each seed's clustering of the largest number, merged down to it."""
    by_seed = [num_clusters.merged(each_NC, numbers) for each_NC in largest]
    return {number: [each[number] for each in by_seed] for number in numbers}


def _criterion(summary: Summary, row: ConfigurationRow) -> Spread | None:
    """The study's objective, if it does not look at labels."""
    return None if looks_at_labels(summary.objective.metric) else row.objective
