"""What the driver and its workers send each other: plain data, which loads neither torch nor Ray.

TrialSpec     driver to worker: one trial
Report        worker to driver: the epochs since the last report, and in the last one the outcome
Outcome       how a trial ended: Done, Failed, Collapsed or DeviceBroken. PRUNED is no outcome: the driver decides it
StageRecord   one stage of a finished trial; the ledger keeps it, the reports read it
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, TypedDict

from ..settings import Plain


class CollapseLimits(TypedDict):
    """The arguments of ``guards.collapse``."""

    min_entropy_share: float
    max_empty_clusters: int | None
    patience_epochs: int


class TrialSpec(TypedDict):
    """One trial as plain data, fit for JSON.

    kind: "trial", or "prepare" for the stages that all configurations of a seed share.
    changes: full setting name ("spc.strong_threshold") -> value, where it differs from the stages' defaults.
    dataset: the fields of ``data.datasets.Spec``. fingerprint: of the data set, as the driver read it.
    seed: a plain seed or a pair, see ``seeds``.
    until: the last slot to run; "" runs all.
    storage: a folder or a URI. threads: for torch and FAISS.
    probes: the stages that evaluate the last backbone with labels.
    probe_dataset, probe_fingerprint: the data set of the probes, where it is another one.
    objectives: names of the metrics by which trials are ranked; one without a slot is the method's last stage's.
    collapse, time_limit_s: what stops the trial from inside; the limit is of one attempt, in seconds.
    watched_slot: the slot of which each epoch is reported at once, because the driver may stop the trial there.
    report_every_s: seconds between two reports of all other epochs.
    """

    kind: Literal["trial", "prepare"]
    method: str
    pretext: str
    changes: Mapping[str, Plain]
    dataset: Mapping[str, Any]
    fingerprint: str
    seed: int
    until: str
    storage: str
    threads: int
    probes: NotRequired[Sequence[str]]
    probe_dataset: NotRequired[Mapping[str, Any]]
    probe_fingerprint: NotRequired[str]
    objectives: NotRequired[Sequence[str]]
    collapse: NotRequired[CollapseLimits]
    time_limit_s: NotRequired[float]
    watched_slot: NotRequired[str]
    report_every_s: NotRequired[float]


@dataclass(frozen=True)
class StageRecord:
    """One stage of one trial. cached: another trial has computed it. seconds: what this trial spent on it.

    notes: sentences for the user: figures that were not drawn, a result of other code.
    """

    slot: str
    name: str
    address: str
    cached: bool
    seconds: float
    notes: Sequence[str] = ()

    @property
    def result_name(self) -> str:
        """The name of its result in the store."""
        return result_name(self.name, self.address)


def result_name(stage: str, address: str) -> str:
    """The name in the store of the result of a stage at a content address."""
    return f"{stage}-{address}"


@dataclass(frozen=True)
class EpochRecord:
    """One finished epoch of ``total`` in a slot, with its metrics by their bare names."""

    slot: str
    epoch: int
    total: int
    metrics: Mapping[str, float]


class WorkerInfo(TypedDict, total=False):
    """Where a trial ran: host, process, name of the device, version of torch."""

    host: str
    pid: int
    device: str
    torch: str


@dataclass(frozen=True)
class Done:
    """A finished trial.

    metrics: the final ones, prefixed by slot; of the method's last stage the label metrics, and what trials are ranked
    by without a slot, also bare.
    seconds: of this attempt.
    """

    metrics: Mapping[str, float]
    stages: Sequence[StageRecord]
    seconds: float
    worker: WorkerInfo = field(default_factory=WorkerInfo)


@dataclass(frozen=True)
class Failed:
    """A stage raised an error, or the worker group did. error: its type and text."""

    error: str


@dataclass(frozen=True)
class Collapsed:
    """A guard stopped the trial because its clustering collapsed. metrics: of its last epoch, prefixed by slot."""

    reason: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class DeviceBroken:
    """The GPU of this process has failed, so that the trial could not run; the process keeps the GPU."""

    error: str


Outcome = Done | Failed | Collapsed | DeviceBroken


@dataclass(frozen=True)
class Report:
    """What a running trial sends: the epochs since its last report, and its outcome if this is the last one."""

    epochs: Sequence[EpochRecord] = ()
    outcome: Outcome | None = None
