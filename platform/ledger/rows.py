"""The rows of the ledger, as the rest of the driver meets them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PENDING, RUNNING, DONE, FAILED = "PENDING", "RUNNING", "DONE", "FAILED"
PRUNED, COLLAPSED = "PRUNED", "COLLAPSED"
ENDED = (DONE, FAILED, PRUNED, COLLAPSED)
"""States in which nothing more happens to a trial, until the command is given again and takes up the failed ones."""


@dataclass(frozen=True)
class Launch:
    """One row of ``launches``. number counts from 1 within the study; lookahead: see settings.py."""

    id: int
    study: str
    number: int
    resolved: Mapping[str, Any]
    lookahead: int
    status: str
    started: float
    ended: float | None
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Configuration:
    """One parameter setting (variant "") or named ablation row of a launch."""

    number: int
    variant: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """One row of ``trials``.

    key: content address of all its stages. kind: "trial", or "prepare" (setting None). metrics: final numbers, prefixed
    by slot, label metrics of the last stage also bare. stages: slot, name, address, cached, seconds. started, ended:
    Unix seconds. worker: host, device, versions. sequence: order in which trials ended.
    """

    key: str
    kind: str
    configuration: int | None
    seed: int
    state: str
    trial_spec: Mapping[str, Any]
    attempts: int
    worker: Mapping[str, Any]
    metrics: Mapping[str, float]
    stages: Sequence[Mapping[str, Any]]
    error: str
    started: float | None
    ended: float | None
    seconds: float | None
    sequence: int | None


@dataclass(frozen=True)
class EpochRow:
    """One epoch of one trial; ids grow in the order of arrival."""

    id: int
    key: str
    slot: str
    epoch: int
    total: int
    metrics: Mapping[str, float]
    time: float


def launch_of(row: Mapping[str, Any]) -> Launch:
    return Launch(
        row["id"],
        row["study"],
        row["number"],
        json.loads(row["resolved"]),
        row["lookahead"],
        row["status"],
        row["started"],
        row["ended"],
        json.loads(row["facts"]),
    )


def setting_of(row: Mapping[str, Any]) -> Configuration:
    return Configuration(row["number"], row["variant"], json.loads(row["params"]))


def trial_of(row: Mapping[str, Any]) -> Trial:
    return Trial(
        row["key"],
        row["kind"],
        row["setting"],
        row["seed"],
        row["state"],
        json.loads(row["cell"]),
        row["attempts"],
        json.loads(row["worker"]),
        json.loads(row["metrics"]),
        json.loads(row["stages"]),
        row["error"],
        row["started"],
        row["ended"],
        row["seconds"],
        row["sequence"],
    )
