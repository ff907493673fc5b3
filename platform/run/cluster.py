"""The Ray cluster a sweep runs on: joined or started here, quiet, and checked before anything is placed on it."""

import logging
import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from trainables import cuda_errors
from trainables.vector_search.service import NAMESPACE

from ..study.file_schema import Share
from ..study.placement import Node, unplaceable
from ..study.study import Study
from . import daemons, environment, ray_auth, tune_internals

# Read by Ray when it is imported or started. Its loggers write per trial and result what the ledger holds already, and
# its experiment snapshots, which we never restore, would be rewritten every ten seconds.
_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_THRESHOLD_S": "10",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}


_DAEMONS = ("gcs_server", "raylet")
"""Ray's processes without which no trial can end."""


class Infeasible(ValueError):
    """The cluster can never place what the study asks for."""


@dataclass(frozen=True)
class Size:
    """The resources of a whole cluster. nodes: its machines; empty where they are not known."""

    cpus: float
    gpus: float
    nodes: tuple[Node, ...] = ()

    def slots(self, share: Share) -> int:
        """How many processes (or groups of workers) of this share fit at once."""
        per = max(1, share.workers)
        fits = [math.floor(self.cpus / (share.cpu * per))] if share.cpu else []
        fits += [math.floor(self.gpus / (share.gpu * per))] if share.gpu else []
        return min(fits) if fits else int(self.cpus)


def local_size() -> Size:
    """The size of this machine, before Ray runs."""
    import torch

    cpus, gpus = float(os.cpu_count() or 1), float(torch.cuda.device_count())
    return Size(cpus, gpus, (Node(cpus, gpus),))


def size(address: str, grows: Sequence[Node] = ()) -> Size:
    """The size of the cluster at ``address``, or of this machine where it is "". grows: as in ``running``.

    Raises:
        environment.Unusable: the machine cannot run Ray, or no cluster answers at ``address``.
    """
    if not address:
        environment.prepare(os.environ, address)
        return local_size()
    with running(address, grows) as joined:
        return joined


@contextmanager
def running(address: str, grows: Sequence[Node] = ()) -> Iterator[Size]:
    """Ray, started here or joined at ``address``; stopped again, with every process it started here, on the way out.

    grows: machines that the joined cluster's autoscaler may add; they count as if they were there.

    Raises:
        ValueError: the token that a cluster started here would ask for cannot be used.
        environment.Unusable: the machine cannot run Ray, or no cluster answers at ``address``.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    environment.prepare(os.environ, address)
    import ray

    options: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        options["address"] = address
    else:
        options |= {"include_dashboard": False, "num_cpus": os.cpu_count()}
        tune_internals.hand_on_no_credentials()
    logging.getLogger("ray").setLevel(logging.ERROR)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(**options)
    except Exception as error:
        ray.shutdown()
        words = " ".join(str(error).split())[:300] or type(error).__name__
        raise environment.Unusable(f"Ray cannot be started or joined ({words})") from error
    if address and ray_auth.is_open(os.environ):
        print(ray_auth.OPEN_CLUSTER, file=sys.stderr)
    # Ray puts its own in their place, which ends the process at SIGTERM with code 15.
    for number, handler in handlers.items():
        signal.signal(number, handler)
    watch = _watch(address)
    watch.start()
    try:
        each = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        nodes = (*(Node(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in each), *grows)
        yield Size(sum(node.cpus for node in nodes), sum(node.gpus for node in nodes), nodes)
    except BaseException as error:
        if watch.died:  # whatever Ray made of it
            raise daemons.ClusterDied(watch.died) from error
        raise
    finally:
        watch.stop()
        if watch.died:
            watch.end_all()
            daemons.forget_ray()
        else:
            ray.shutdown()


def _watch(address: str) -> daemons.Watch:
    """Looks after the Ray that has just been started or joined."""
    import ray
    from ray._private import worker

    if address.startswith("ray://") or not ray.is_initialized():  # a client notices by itself
        return daemons.Watch(lambda: "")
    if address:
        return daemons.Watch(daemons.silence_of(ray.get_runtime_context().gcs_address, time.monotonic))
    node = worker._global_node
    started = {} if node is None else {kind: [each.process for each in node.all_processes[kind]] for kind in _DAEMONS}
    roots = [each.process.pid for every in node.all_processes.values() for each in every] if node is not None else []
    return daemons.Watch(partial(daemons.why_dead_here, started), roots)


def refuse_unusable_gpus(study: Study) -> None:
    """Refuse a study that asks for GPUs where this machine has some that torch cannot use.

    Ray counts them by the driver's own list, and their trials would compute on the CPU.

    Raises:
        Infeasible: with the driver, the wheel and the way out.
    """
    import torch

    asks = study.resources.trial.gpu > 0 or (study.resources.prepare.workers > 0 and study.resources.prepare.gpu > 0)
    if asks and torch.cuda.device_count() > 0 and not torch.cuda.is_available():
        raise Infeasible(f"resources asks for GPUs, and this machine has some, but {cuda_errors.why_no_gpu()}")


def refuse_infeasible(study: Study, size: Size) -> None:
    """Refuse what can never be placed: Ray would wait for it without a message.

    Raises:
        Infeasible: a trial, or the prepare group, asks for more than the cluster or any of its machines has.
    """
    for name, share in (("trial", study.resources.trial), ("prepare", study.resources.prepare)):
        if name == "prepare" and share.workers == 0:
            continue
        if size.slots(share) < 1:
            workers = max(1, share.workers)
            raise Infeasible(
                f"resources.{name} asks for {workers * share.cpu:g} CPUs and {workers * share.gpu:g} GPUs at once "
                f"({workers} x {share.cpu:g} CPU, {share.gpu:g} GPU), but the cluster has {size.cpus:g} CPUs and "
                f"{size.gpus:g} GPUs; lower resources.{name} or join a larger cluster with --address"
            )
    if size.nodes and (sentences := unplaceable(study.resources, size.nodes)):
        raise Infeasible(" ".join(sentences))
