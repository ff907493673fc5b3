"""How a trial ended, for all that count or show it; read off the ledger's row alone."""

from typing import Literal

from trainables.label_metrics import PROBE_SUFFIX
from trainables.runner.messages import StageRecord

from .rows import COLLAPSED, DONE, FAILED, PRUNED, Trial

COLLAPSED_SHARE = 0.99
"""A clustering whose largest cluster holds this share of the images has collapsed."""

Status = Literal["ok", "collapsed", "pruned", "failed", "oom", "interrupted"]

_DISK_FULL = ("No space left on device", "Disk quota exceeded")
_OUT_OF_MEMORY = ("OutOfMemoryError", "CUDA out of memory", "MemoryError", "can't allocate memory")


def status(trial: Trial) -> Status:
    """How a trial ended, or "interrupted" if it has not.

    "collapsed" if a guard stopped it, or if it is done and its largest cluster holds ``COLLAPSED_SHARE`` of the images.
    """
    if trial.state == FAILED:
        return "oom" if any(word in trial.error for word in _OUT_OF_MEMORY) else "failed"
    if trial.state == PRUNED:
        return "pruned"
    if trial.state == COLLAPSED:
        return "collapsed"
    if trial.state != DONE:
        return "interrupted"
    shares = [trial.metrics.get(f"{stage.slot}/cluster_share_max", 0.0) for stage in closing_stages(trial)[:1]]
    return "collapsed" if any(share >= COLLAPSED_SHARE for share in shares) else "ok"


def is_disk_full(error: str) -> bool:
    """Whether a trial failed because a disk is full, as every later one would."""
    return any(words in error for words in _DISK_FULL)


def counts_as_result(trial: Trial) -> bool:
    """Whether a trial may be ranked and learned from: it is done and its clustering has not collapsed."""
    return status(trial) == "ok"


def closing_stages(trial: Trial) -> list[StageRecord]:
    """The last stage of a trial's method, and the probes after it; empty where no stage was run."""
    probes = [stage for stage in trial.stages if stage.slot.endswith(PROBE_SUFFIX)]
    return [*[stage for stage in trial.stages if stage not in probes][-1:], *probes]
