"""What a study will take on this machine: a few steps of every stage are run, and multiplied.

A sweep's settings are forecast by the first of them, an ablation's by each of its rows. Shared stages count once per
seed. What is not known is left out and said: trials that a scheduler stops early, other machines of a cluster, workers'
exchange of gradients, and what several processes on one machine take from each other.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from trainables import pipeline, registry, settings
from trainables.data.synthetic import Shown
from trainables.runner import profiling
from trainables.runner.runtime import SingleProcess
from trainables.seeds import of_slot
from trainables.vector_search.faiss_search import FaissSearch

from . import placement
from .memory import data_bytes, size
from .plan import shared_slots
from .study import Study, configs

CONTEXT_BYTES = 512 * 2**20
"""What CUDA takes for each process."""


@dataclass(frozen=True)
class Stage:
    """One stage of one pipeline.

    Attributes:
        runs: how often it is computed in the whole study.
        seconds: duration of one run.
        share_of_peak: measured FLOP/s as a share of the device's, in [0, 1].
    """

    measured: profiling.Measured
    runs: int
    seconds: float
    share_of_peak: float


@dataclass(frozen=True)
class Forecast:
    """What a study will take.

    Attributes:
        device: its name.
        is_generated: whether generated images stood in for the data set's.
        stages: the stages that were measured.
        failed: stages that could not be measured.
        peak_flops_per_s: of a matrix product on the device.
        peak_bytes: memory of one trial on the device.
        fit: number of trials that fit into one device's memory.
        at_once: number of trials that run side by side.
        prepare_s: duration of the shared stages.
        trials_s: duration of the trials.
        load: processes that waited for each CPU when the measurement began.
        cost: of the whole study; None without a price.
    """

    device: str
    is_generated: bool
    stages: list[Stage]
    failed: list[profiling.Failed]
    peak_flops_per_s: float
    peak_bytes: int
    fit: int
    at_once: int
    prepare_s: float
    trials_s: float
    load: float
    cost: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON; ``total_s`` is the duration of everything."""
        return {**asdict(self), "total_s": self.prepare_s + self.trials_s}


def forecast(study: Study, shown: Shown, price_per_hour: float | None = None) -> Forecast:
    """Run a few steps of the study's stages on this machine, and add up what the whole study takes.

    Args:
        shown: the study's images, or generated ones of their shape.
        price_per_hour: of this machine, in any currency.
    """
    threads, process_group, load = (
        max(1, int(study.resources.trial.cpu)),
        SingleProcess(),
        os.getloadavg()[0] / (os.cpu_count() or 1),
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        peak, search = profiling.peak_flops_per_s(process_group.device), FaissSearch(threads)
        stages: list[Stage] = []
        failed: list[profiling.Failed] = []
        for part, changes, runs in _runs(study):
            by_slot, elsewhere = configs(part, changes), _probes_elsewhere(part)
            failed += elsewhere
            left_out = {each.slot for each in elsewhere}
            wanted = {slot: stage for slot, stage in part.stages.items() if slot not in left_out}
            data = profiling.some(shown.images, by_slot).to(process_group.device)
            for each in profiling.measure(wanted, by_slot, data, process_group, search):
                if isinstance(each, profiling.Failed):
                    failed.append(each)
                elif runs[each.slot]:
                    seconds = each.seconds(_num_images(shown, each.slot), getattr(by_slot[each.slot], "epochs", 0))
                    stages.append(Stage(each, runs[each.slot], seconds, each.flops_per_s / peak))
    finally:
        torch.set_num_threads(before)
    return _added_up(
        study, shown, process_group.device, price_per_hour, (stages, list(dict.fromkeys(failed)), peak, load)
    )


def _probes_elsewhere(study: Study) -> list[profiling.Failed]:
    """Probes that learn from other images, which are not measured."""
    if not study.probe_dataset:
        return []
    names = {slot: pipeline.name_of(stage) for slot, stage in study.stages.items()}
    reason = "it learns from a data set of its own"
    return [profiling.Failed(slot, name, reason) for slot, name in names.items() if name in registry.probes()]


def _num_images(shown: Shown, slot: str) -> int:
    return shown.num_pretext if slot == "pretext" else shown.shape.num_train


def _runs(study: Study) -> Iterator[tuple[Study, Mapping[str, Any], dict[str, int]]]:
    """(part, changes, slot -> number of runs) for each setting that stands for others; equal stages count once."""
    done: set[str] = set()
    for part in study.parts:
        shared = shared_slots(part)
        rows = [row.changes for row in part.ablate] or list(part.extremes[:1])
        for changes in rows:
            by_slot, chain, runs = configs(part, changes), "", {}
            for slot, stage in part.stages.items():
                chain += json.dumps([pipeline.name_of(stage), settings.effective(by_slot[slot])], sort_keys=True)
                alike = 1 if part.ablate or slot in shared else part.num_settings
                seeds = {tuple(of_slot(seed, each) for each in _up_to(part, slot)) for seed in part.seeds}
                fresh = {f"{chain}{seed}" for seed in seeds} - done
                done |= fresh
                runs[slot] = alike * len(fresh)
            if any(runs.values()):
                yield part, changes, runs


def _up_to(part: Study, slot: str) -> list[str]:
    slots = list(part.stages)
    return slots[: slots.index(slot) + 1]


def _added_up(
    study: Study,
    shown: Shown,
    device: torch.device,
    price_per_hour: float | None,
    measurement: tuple[list[Stage], list[profiling.Failed], float, float],
) -> Forecast:
    stages, failed, peak, load = measurement
    share, is_gpu = study.resources.trial, device.type == "cuda"
    # The stages saw some of the images: on a GPU those alone lay there, in this process all that could be read.
    missing = shown.whole_bytes - (0 if is_gpu else data_bytes(shown.images))
    memory = max((each.measured.peak_bytes for each in stages), default=0) + max(0, missing)
    memory += CONTEXT_BYTES if is_gpu else 0
    fit = profiling.device_bytes(device) // memory if memory else 0
    machine = placement.Node(float(os.cpu_count() or 1), float(torch.cuda.device_count()))
    at_once = max(1, machine.fits(share) // max(1, share.workers))
    # Trials that share a GPU share its speed: side by side they fill the gaps, and are counted as no gain.
    lanes = min(at_once, max(1, torch.cuda.device_count())) if is_gpu else at_once
    num_seeds = len(study.seeds)
    slots = set() if len(study.parts) > 1 or not (study.swept or study.ablate) else set(shared_slots(study))
    prepare_s = sum(each.seconds * each.runs for each in stages if each.measured.slot in slots)
    trials_s = sum(each.seconds * each.runs for each in stages if each.measured.slot not in slots)
    group = study.resources.prepare.workers
    prepare_s /= group or min(lanes, num_seeds)
    trials_s /= min(lanes, study.num_settings * num_seeds) * max(1, share.workers)
    hours = (prepare_s + trials_s) / 3600
    return Forecast(
        torch.cuda.get_device_name() if is_gpu else "cpu", shown.is_generated, stages, failed, peak, memory, fit,
        at_once, prepare_s, trials_s, load, None if price_per_hour is None else hours * price_per_hour,
    )  # fmt: skip


def rows(total: Forecast) -> list[str]:
    """The forecast as lines of plain text."""
    images = "generated images of the data set's shape" if total.is_generated else "the data set's own images"
    lines = [f"{'profile':<10} on {total.device}, {images}; a matrix product reaches "
             f"{total.peak_flops_per_s / 1e9:,.0f} GFLOP/s"]  # fmt: skip
    if total.load > 1:
        lines.append(f"{'busy':<10} {total.load:.1f} processes waited for each CPU: all that follows is too slow")
    for each in total.stages:
        one = each.measured
        lines.append(
            f"{'stage':<10} {one.slot} ({one.stage}): {one.images_per_s:,.0f} images/s, "
            f"{each.share_of_peak:.0%} of the peak, {size(one.peak_bytes)} at most; {_time(each.seconds)} a run x "
            f"{each.runs:,}"
        )
    lines += [f"{'stage':<10} {each.slot} ({each.stage}): NOT MEASURED, {each.reason}" for each in total.failed]
    whole = total.prepare_s + total.trials_s
    cost = "" if total.cost is None else f", {total.cost:,.2f} at this machine's price"
    return [
        *lines,
        f"{'memory':<10} {size(total.peak_bytes)} a trial: {total.fit:,} fit on one device, {total.at_once:,} at once "
        "by the file's resources",
        f"{'time':<10} about {_time(whole)} on this machine: {_time(total.prepare_s)} shared stages, "
        f"{_time(total.trials_s)} trials{cost}" + (" (without what was not measured)" if total.failed else ""),
    ]


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:,.1f} s"
    return f"{seconds / 60:,.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
