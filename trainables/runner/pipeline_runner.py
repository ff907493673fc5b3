"""One trial: run the stages of its pipeline, and compute what no trial has computed before.

What the driver ships to a worker is a ``TrialSpec``; what comes back is a ``Done``. See ``messages``.
"""

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .. import event_log, pipeline, registry, seeds, settings
from ..data import datasets
from ..figures import clusters
from ..inference import model_input
from ..interfaces import CaptionedFigure, EndsTrial, Epoch, ImageData, Result, Search, Stage
from ..maths import metrics
from ..store import artifacts
from ..store.progress import ProgressFile
from ..vector_search.checks import NoDirection
from .guards import Collapsed, Guards, TimeLimit
from .messages import Done, StageRecord, TrialSpec, result_name
from .runtime import ProcessGroup, StageRuntime

OnEpoch = Callable[[str, Epoch], None]


class Diverged(RuntimeError):
    """A stage's loss is not a finite number."""


class DataChanged(RuntimeError):
    """A worker reads other data than the driver checked."""


class Unranked(RuntimeError):
    """A stage did not report what the study ranks by."""


def addresses(trial_spec: TrialSpec) -> dict[str, tuple[str, str]]:
    """Slot -> (stage name, content address) of every stage that the trial runs, in their order."""
    probes = trial_spec.get("probes", ())
    by_slot = pipeline.stages(trial_spec["method"], trial_spec["pretext"], probes)
    by_config = pipeline.configs(trial_spec["method"], trial_spec["pretext"], trial_spec["changes"], probes)
    found: dict[str, tuple[str, str]] = {}
    for slot, stage in by_slot.items():
        name = pipeline.name_of(stage)
        inputs = {name: found[other][1] for name, other in pipeline.inputs(by_slot, slot).items()}
        config = settings.effective(by_config[slot])
        found[slot] = (
            name,
            artifacts.address(
                name,
                stage.VERSION,
                config,
                inputs,
                fingerprint_of(trial_spec, name),
                seeds.of_slot(trial_spec["seed"], slot),
            ),
        )
        if slot == trial_spec["until"]:
            break
    return found


def trial_key(trial_spec: TrialSpec) -> str:
    """A trial's content address, of all its stages: configurations that differ in nothing that counts share it."""
    names = [result_name(*stage) for stage in addresses(trial_spec).values()]
    text = trial_spec["kind"] + "/" + "/".join(names)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint_of(trial_spec: TrialSpec, stage: str) -> str:
    """Fingerprint of the data set that a stage of the trial reads."""
    return trial_spec["probe_fingerprint"] if _has_own_data(trial_spec, stage) else trial_spec["fingerprint"]


def _dataset(trial_spec: TrialSpec, stage: str) -> Mapping[str, Any]:
    """The fields of the data set that a stage of the trial reads."""
    return trial_spec["probe_dataset"] if _has_own_data(trial_spec, stage) else trial_spec["dataset"]


def _has_own_data(trial_spec: TrialSpec, stage: str) -> bool:
    return stage in registry.probes() and bool(trial_spec.get("probe_dataset"))


class PipelineRunner:
    """Runs trials one after another in one process; data and stage results stay warm in between."""

    def __init__(
        self, storage: str, process_group: ProcessGroup, search: Search, leases: artifacts.Leases | None = None
    ) -> None:
        self.store = artifacts.Store(storage, leases)
        self._process_group = process_group
        self._search = search
        self._data: dict[str, ImageData] = {}

    def walk(self, trial_spec: TrialSpec, on_epoch: OnEpoch) -> Done:
        """Run one trial; ``on_epoch(slot, epoch)`` is called for every epoch computed here.

        Raises:
            Diverged: a loss became infinite or NaN. DataChanged: see there. TimeLimit: the trial's guard.
            Collapsed: the trial's guard, or a stage that has nothing to go on with; it carries the numbers of the
            stages before. Whatever else a stage raises.
        """
        started = time.perf_counter()
        if self._process_group.rank == 0 and event_log.is_kept():
            event_log.note(event_log.START, trial_key(trial_spec))
        guards = Guards.of(trial_spec)
        probes = trial_spec.get("probes", ())
        wanted = {fingerprint_of(trial_spec, name) for name in ("", *probes)}
        self._data = {known: data for known, data in self._data.items() if known in wanted}
        configs = pipeline.configs(trial_spec["method"], trial_spec["pretext"], trial_spec["changes"], probes)
        stages = pipeline.stages(trial_spec["method"], trial_spec["pretext"], probes)
        results: dict[str, Result] = {}
        records: list[StageRecord] = []
        for slot, (name, address) in addresses(trial_spec).items():
            began = time.perf_counter()
            stage, data = stages[slot], self._load(trial_spec, name)
            inputs = {name: results[other] for name, other in pipeline.inputs(stages, slot).items()}
            job = _Job(
                stage,
                slot,
                result_name(name, address),
                configs[slot],
                inputs,
                seeds.of_slot(trial_spec["seed"], slot),
                trial_spec["threads"],
                guards,
                _ranked(trial_spec, slot),
                _dataset(trial_spec, name),
            )
            try:
                results[slot], cached = self._once(job, data, on_epoch)
            except Collapsed as collapsed:
                raise Collapsed(str(collapsed), {**_final_metrics(results), **collapsed.metrics}) from collapsed
            except EndsTrial as end:
                raise Collapsed(f"{slot}: {end}", _final_metrics(results)) from end
            _refuse_unranked(job, results[slot])
            records.append(StageRecord(slot, name, address, cached, time.perf_counter() - began, tuple(job.notes)))
        found = _final_metrics(results)
        last = [result.metrics for slot, result in results.items() if not slot.endswith(metrics.PROBE_SUFFIX)][-1]
        bare = set(trial_spec.get("objectives", ()))  # a name without a slot is the last stage's
        found |= {key: value for key, value in last.items() if key in bare or metrics.looks_at_labels(key)}
        return Done(found, records, time.perf_counter() - started)

    def _load(self, trial_spec: TrialSpec, stage: str) -> ImageData:
        fingerprint = fingerprint_of(trial_spec, stage)
        if fingerprint not in self._data:
            data = datasets.load(datasets.Spec(**_dataset(trial_spec, stage)), self._process_group.device)
            if data.fingerprint != fingerprint:
                raise DataChanged(
                    f"data set {data.name}: this worker reads fingerprint {data.fingerprint[:12]}, the sweep was "
                    f"started on {fingerprint[:12]}; give every node the same dataset.root"
                )
            self._data[fingerprint] = data.to(self._process_group.device)
        return self._data[fingerprint]

    def _once(self, job: "_Job", data: ImageData, on_epoch: OnEpoch) -> tuple[Result, bool]:
        """The result of one stage, and whether it was there already. Rank 0 decides and writes; the others follow."""
        if self._process_group.rank != 0:
            if self._process_group.share(None):
                return self._wait(job), True
            return self._compute(job, data, on_epoch), False
        result = self._found(job)
        if result is None:
            with self.store.flight(job.name):
                self.store.forget(job.name)  # another process may have computed it again
                result = self._found(job)
                if result is None:
                    self._process_group.share(False)
                    self.store.discard(job.name)
                    return self._compute(job, data, on_epoch), False
        self._process_group.share(True)
        job.notes.extend(other_code(self.store, job.name, job.stage))
        return result, True

    def _found(self, job: "_Job") -> Result | None:
        """The stored result; None as well if it is of other code and lacks a metric that trials are ranked by."""
        result = self.store.get(job.name)
        if result is None or job.ranked <= set(result.metrics):
            return result
        same_code = self.store.meta(job.name).get("code") == registry.code_hash(job.stage)
        return result if same_code else None

    def _wait(self, job: "_Job") -> Result:
        result = self.store.get(job.name)
        if result is None:
            raise RuntimeError(
                f"rank 0 found stage result {job.name}, rank {self._process_group.rank} does not: "
                "is the storage shared?"
            )
        return result

    def _compute(self, job: "_Job", data: ImageData, on_epoch: OnEpoch) -> Result:
        progress = ProgressFile(self.store, job.name)
        saved = self._process_group.share(progress.load() if self._process_group.rank == 0 else None)
        history = [dict(epoch) for epoch in saved.epochs] if saved else []
        runtime = StageRuntime(self._process_group, job.slot, job.seed, self._search, saved.state if saved else None)
        began, seconds = time.perf_counter(), 0.0
        steps = job.stage.train(job.config, data, job.inputs, runtime)
        while True:
            try:
                epoch = next(steps)
            except StopIteration as end:
                result: Result = end.value
                break
            except FloatingPointError as error:
                raise _diverged(job, str(error), len(history) + 1) from error
            except NoDirection as error:
                raise _without_direction(job, error) from error
            _refuse_unlisted(job, epoch.metrics)
            _refuse_non_finite(job, epoch.number, epoch.metrics)
            history.append({"epoch": epoch.number, **epoch.metrics})
            if self._process_group.rank == 0:
                progress.save(epoch.state, history)
                on_epoch(job.slot, epoch)
            self._guard(job, epoch, history)
        _refuse_unlisted(job, result.metrics)
        _refuse_without_criterion(job, result)
        _refuse_non_finite(job, len(history), result.metrics)
        seconds = time.perf_counter() - began
        if self._process_group.rank == 0:
            self.store.put(job.name, result, job.meta(data, seconds), history, _painter(job, result, data, history))
            event_log.note(event_log.STAGE, job.name)
        return result

    def _guard(self, job: "_Job", epoch: Epoch, history: list[dict[str, float]]) -> None:
        """Stop here if a guard says so; after its last epoch a stage is finished in any case, except for a collapse."""
        if not job.guards.any:
            return
        what, sentence = self._process_group.share(
            job.guards.verdict(history) if self._process_group.rank == 0 else None
        )
        where = f"{job.slot}: {sentence}, after epoch {epoch.number} of {epoch.total}"
        if what == "collapse":
            raise Collapsed(where, {f"{job.slot}/{name}": value for name, value in epoch.metrics.items()})
        if what == "time" and epoch.number < epoch.total:
            raise TimeLimit(where)


def _final_metrics(results: Mapping[str, Result]) -> dict[str, float]:
    """Full name -> value of everything that the finished stages report."""
    return {f"{slot}/{key}": value for slot, result in results.items() for key, value in result.metrics.items()}


@dataclass(frozen=True)
class _Job:
    """One stage to compute.

    ranked: its metrics that the study ranks by. dataset: the fields of its data set. notes: as a StageRecord has them.
    """

    stage: Stage
    slot: str
    name: str
    config: Any
    inputs: Mapping[str, Result]
    seed: int
    threads: int
    guards: Guards
    ranked: frozenset[str] = frozenset()
    dataset: Mapping[str, settings.Plain] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def meta(self, data: ImageData, seconds: float) -> dict[str, Any]:
        return {
            "input": model_input.of_data(data, self.dataset).as_dict(),
            "stage": pipeline.name_of(self.stage),
            "version": self.stage.VERSION,
            "code": registry.code_hash(self.stage),
            "reports": list(self.stage.METRICS),
            "config": settings.effective(self.config),
            "seed": self.seed,
            "dataset": data.name,
            "fingerprint": data.fingerprint,
            "seconds": seconds,
            "threads": self.threads,
            "torch": torch.__version__,
        }


def _ranked(trial_spec: TrialSpec, slot: str) -> frozenset[str]:
    """The metrics of a slot that trials are ranked by."""
    parts = (name.partition("/") for name in trial_spec.get("objectives", ()))
    return frozenset(metric for owner, _, metric in parts if owner == slot)


def other_code(store: artifacts.Store, name: str, stage: Stage) -> list[str]:
    """A sentence where a stored result was computed by another text of its stage's file with the same VERSION."""
    known = store.meta(name).get("code")
    if known is None or known == registry.code_hash(stage):
        return []
    return [
        f"{name} was computed by other text of {registry.place_of(pipeline.name_of(stage))} with the same VERSION "
        f"{stage.VERSION}; raise VERSION if its numbers changed"
    ]


def _refuse_unlisted(job: _Job, reported: Mapping[str, float]) -> None:
    unlisted = sorted(set(reported) - set(job.stage.METRICS))
    if unlisted:
        place = registry.place_of(pipeline.name_of(job.stage))
        raise registry.BrokenStage(f"{place} reports {', '.join(unlisted)}, not in its METRICS; add it there")


def _refuse_without_criterion(job: _Job, result: Result) -> None:
    if job.stage.CRITERION is not None and job.stage.CRITERION[0] not in result.metrics:
        place = registry.place_of(pipeline.name_of(job.stage))
        raise registry.BrokenStage(
            f"{place}: its result lacks {job.stage.CRITERION[0]!r}, its CRITERION; put it among the result's metrics"
        )


def _refuse_unranked(job: _Job, result: Result) -> None:
    missing = sorted(job.ranked - set(result.metrics))
    if missing:
        raise Unranked(
            f"{job.slot} did not report {', '.join(missing)} with these settings, and the study ranks by it; "
            "take another objective, or settings with which it is reported"
        )


def _refuse_non_finite(job: _Job, epoch: int, metrics_of_epoch: Mapping[str, float]) -> None:
    for key, value in metrics_of_epoch.items():
        if not math.isfinite(value):
            raise _diverged(job, f"{key} is {value}", epoch)


def _diverged(job: _Job, what: str, epoch: int) -> Diverged:
    """The error of a stage whose numbers are no longer finite; it names the stage's learning rates, if it has any."""
    known = settings.rules(type(job.config))
    rates = " and ".join(f"{job.slot}.{name}" for name in known if name.rpartition(".")[2] == "lr")
    way_out = f"lower {rates} or look at the data" if rates else "look at the data"
    return Diverged(f"{job.slot}: {what} in epoch {epoch}; {way_out}")


def _without_direction(job: _Job, error: NoDirection) -> Diverged:
    """The error of a stage that is to compare features whose network gives zeros: its own, or that of an input."""
    trains = any(name.rpartition(".")[2] == "lr" for name in settings.rules(type(job.config)))
    whose = " or ".join([*job.inputs, *([job.slot] if trains else [])])
    return Diverged(
        f"{job.slot}: the features of {error.count} images are all zeros, so the network of {whose} has collapsed; "
        "lower its learning rate, or look at the data"
    )


def _painter(job: _Job, result: Result, data: ImageData, history: list[dict[str, float]]) -> artifacts.Draw | None:
    """Draws what the stage has figures for."""
    figures = getattr(job.stage, "figures", None)
    return None if figures is None else partial(_paint, job=job, drawn=partial(figures, result, data, history))


def _paint(folder: Path, job: _Job, drawn: Callable[[], Mapping[str, CaptionedFigure]]) -> dict[str, Any]:
    """Write the figures of a stage; one that cannot be drawn costs itself alone, and is noted.

    Returns:
        captions: of the figures that were written, by name.
    """
    captions: dict[str, str] = {}
    try:
        for name, figure in drawn().items():
            try:
                clusters.save({name: figure.draw()}, folder)
                captions[name] = figure.caption
            except Exception as error:  # it must not cost the hours behind it
                (folder / f"{name}.png").unlink(missing_ok=True)
                job.notes.append(f"{job.name}: the figure {name} was not drawn: {error!r}")
    except Exception as error:
        job.notes.append(f"{job.name}: no figure was drawn: {error!r}")
    return {"captions": captions}
