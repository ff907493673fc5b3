"""The rows of the ledger, as the rest of the driver reads them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trainables.runner.messages import StageRecord, TrialSpec, WorkerInfo
from trainables.settings import Plain

from ..study.resolved_types import Resolved

PENDING, RUNNING, DONE, FAILED = "PENDING", "RUNNING", "DONE", "FAILED"
PRUNED, COLLAPSED = "PRUNED", "COLLAPSED"
ENDED = (DONE, FAILED, PRUNED, COLLAPSED)
"""States in which nothing more happens to a trial, until the command is given again and takes up the failed ones."""


@dataclass(frozen=True)
class Launch:
    """One row of ``launches``.

    number: counts from 1 within the study. lookahead: see ``search.searcher``. facts: what ``end_of_sweep`` noted of
    its circumstances. started, ended: Unix seconds.
    """

    id: int
    study: str
    number: int
    resolved: Resolved
    lookahead: int
    status: str
    started: float
    ended: float | None
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Configuration:
    """One numbered configuration of a launch: of the search (variant ""), or a named ablation row.

    params: full setting name -> value.
    """

    number: int
    variant: str
    params: Mapping[str, Plain]


@dataclass(frozen=True)
class Trial:
    """One row of ``trials``: a configuration with a seed, or what the trials of a seed share.

    key: content address of all its stages. kind: "trial", or "prepare" (configuration None). metrics: final numbers,
    prefixed by slot, label metrics of the last stage also bare. started, ended: Unix seconds. seconds: of the attempt
    that ended. sequence: order in which trials ended.
    """

    key: str
    kind: Literal["trial", "prepare"]
    configuration: int | None
    seed: int
    state: str
    trial_spec: TrialSpec
    attempts: int
    worker: WorkerInfo
    metrics: Mapping[str, float]
    stages: Sequence[StageRecord]
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


def configuration_of(row: Mapping[str, Any]) -> Configuration:
    return Configuration(row["number"], row["variant"], json.loads(row["params"]))


def stage_of(kept: Mapping[str, Any]) -> StageRecord:
    """A stage as the ledger keeps it, in JSON, where a tuple is a list."""
    return StageRecord(**{**kept, "notes": tuple(kept.get("notes", ()))})


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
        [stage_of(stage) for stage in json.loads(row["stages"])],
        row["error"],
        row["started"],
        row["ended"],
        row["seconds"],
        row["sequence"],
    )
