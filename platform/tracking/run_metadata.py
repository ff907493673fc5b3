"""What a tracker gets of a launch and its trials, as plain text and numbers. Read from the ledger, sent nowhere.

Tags carry one prefix, ``clustersweep.``, so that they stand together and hide nobody else's.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables import pipeline, seeds, settings
from trainables.data import datasets
from trainables.runner import pipeline_runner
from trainables.runner.messages import TrialSpec, result_name
from trainables.store import artifacts

from ..ledger.aggregate import study_objectives
from ..ledger.formatting import configuration_label
from ..ledger.outcomes import closing_stages, status
from ..ledger.rows import COLLAPSED, DONE, ENDED, FAILED, PRUNED, Configuration, EpochRow, Launch, Trial
from ..study.errors import redacted
from ..study.resolved_types import selection_split

PREFIX = "clustersweep."
KEY, LAUNCH_ID, KIND = f"{PREFIX}key", f"{PREFIX}launch_id", f"{PREFIX}kind"
STATUS, REASON = f"{PREFIX}status", f"{PREFIX}reason"

_LONGEST_REASON = 1_000


@dataclass(frozen=True)
class Point:
    """One value of one metric ("<slot>/<name>", or a bare label metric). step: an epoch. time_ms: Unix."""

    key: str
    value: float
    step: int
    time_ms: int


def launch_id(launch: Launch) -> str:
    """Names a launch wherever its runs are kept together with those of other ledgers."""
    text = f"{launch.study}/{launch.number}/{launch.started!r}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def launch_tags(launch: Launch) -> dict[str, str]:
    """Tags of everything that belongs to a launch."""
    facts = launch.facts
    tags = {
        LAUNCH_ID: launch_id(launch),
        "launch": str(launch.number),
        "method": launch.resolved["method"],
        "objective": ", ".join(f"{each.metric} {each.mode}" for each in study_objectives(launch.resolved)),
        "selection_split": selection_split(launch.resolved),
        "oracle": _text(bool(launch.resolved.get("oracle"))),
        "smoke": _text(bool(facts.get("smoke"))),
        "commit": facts.get("commit", ""),
        "dirty": _text(bool(facts.get("dirty"))),
        "host": facts.get("host", ""),
        "versions": _versions(facts.get("versions") or {}),
    }
    return _prefixed(tags)


def launch_name(launch: Launch) -> str:
    return f"{launch.study} #{launch.number}"


def parameters(trial_spec: TrialSpec) -> dict[str, str]:
    """Every setting that counts, flat, by full name ("spc.strong_threshold"); the data set's as "dataset.<field>".

    Where the data lie is left out: it changes from machine to machine, and no result with it.

    Raises:
        SettingsError: the trial's changes break a rule.
    """
    slots = pipeline_runner.addresses(trial_spec)
    configs = pipeline.configs(
        trial_spec["method"], trial_spec["pretext"], trial_spec["changes"], trial_spec.get("probes", ())
    )
    pretext, method = seeds.parts(trial_spec["seed"])
    values: dict[str, settings.Plain] = {"method": trial_spec["method"], "seed": method}
    if seeds.is_crossed(trial_spec["seed"]):
        values["pretext_seed"] = pretext
    if "pretext" in slots:
        values["pretext"] = slots["pretext"][0]
    for section, fields in (("dataset", trial_spec["dataset"]), ("probe_dataset", trial_spec.get("probe_dataset"))):
        values |= {f"{section}.{name}": value for name, value in datasets.meaning(fields).items()} if fields else {}
    values |= {f"{slot}.{name}": value for slot in slots for name, value in settings.effective(configs[slot]).items()}
    return {name: _text(value) for name, value in values.items()}


def config_id(trial_spec: TrialSpec) -> str:
    """The same for trials that differ in nothing but the seed."""
    meaning = {name: value for name, value in parameters(trial_spec).items() if name not in ("seed", "pretext_seed")}
    return hashlib.sha256(json.dumps([meaning, *_fingerprints(trial_spec)], sort_keys=True).encode()).hexdigest()[:12]


def _fingerprints(trial_spec: TrialSpec) -> list[str]:
    return [trial_spec["fingerprint"], *([trial_spec["probe_fingerprint"]] if trial_spec.get("probe_dataset") else [])]


def trial_name(trial: Trial, configuration: Configuration | None) -> str:
    """What a run is called: "δ=0.95 k2=20 · seed 1"."""
    trial_spec = trial.trial_spec
    label = "prepare"
    if configuration is not None:
        label = (
            configuration_label(
                trial_spec["method"], trial_spec["pretext"], configuration.params, configuration.variant
            )
            or trial_spec["method"]
        )
    return f"{label} · seed {seeds.label(trial.seed)}"


def trial_tags(launch: Launch, trial: Trial, configuration: Configuration | None, baseline: str) -> dict[str, str]:
    """Tags known when a trial starts. ``baseline``: the ablation row that others are measured against, or empty."""
    trial_spec = trial.trial_spec
    tags = {
        KEY: trial.key,
        KIND: trial.kind,
        STATUS: "running",
        "config_id": config_id(trial_spec),
        "seed": seeds.label(trial.seed),
        "fingerprint": trial_spec["fingerprint"],
        **{f"stage.{slot}": result_name(*stage) for slot, stage in pipeline_runner.addresses(trial_spec).items()},
    }
    if configuration is not None:
        tags |= {"setting": str(configuration.number), "variant": configuration.variant, "baseline": baseline}
    return launch_tags(launch) | _prefixed(tags)


def end_tags(trial: Trial) -> dict[str, str]:
    """Tags known when a trial has ended: status, reason, which stages were there already, and where it ran."""
    tags: dict[str, str] = {STATUS: status(trial)}
    tags |= {name: str(value) for name, value in trial.worker.items() if name in ("host", "device", "torch")}
    if trial.state in (FAILED, PRUNED, COLLAPSED):
        tags[REASON] = redacted(trial.error)[:_LONGEST_REASON] or "no reason given"
    if trial.state == DONE:
        tags["cached"] = ", ".join(stage.slot for stage in trial.stages if stage.cached) or "none"
    return _prefixed(tags)


def baseline(configurations: Sequence[Configuration]) -> str:
    """The ablation row that changes nothing, or else the first one; empty where there are no rows."""
    rows = [configuration for configuration in configurations if configuration.variant]
    return next((row.variant for row in rows if not row.params), rows[0].variant if rows else "")


def epoch_points(row: EpochRow) -> list[Point]:
    """One epoch's metrics as "<slot>/<name>", without values that are not finite, because no tracker takes them."""
    return [
        Point(f"{row.slot}/{name}", float(value), row.epoch, round(row.time * 1000))
        for name, value in row.metrics.items()
        if math.isfinite(value)
    ]


def final_points(trial: Trial, rows: Iterable[EpochRow]) -> list[Point]:
    """A trial's final metrics, each as the newest point of its curve, so that tables of runs show it.

    One step after the metric's last epoch; none where that epoch has the same value; step 0 where there are no epochs.
    """
    last = {point.key: point for row in rows for point in epoch_points(row)}
    time_ms = round((trial.ended or 0.0) * 1000)
    points = []
    for key, value in trial.metrics.items():
        before = last.get(key)
        if math.isfinite(value) and (before is None or before.value != value):
            points.append(Point(key, float(value), before.step + 1 if before else 0, time_ms))
    return points


def figures(trial: Trial) -> list[Path]:
    """The figures of a trial's closing stages, as far as they were drawn."""
    names = [stage.result_name for stage in closing_stages(trial)]
    return [path for name in names for path in artifacts.figures(trial.trial_spec["storage"], name)]


def counts(trials: Iterable[Trial]) -> dict[str, int]:
    """How many trials are in each state, without those of shared stages and those that never started."""
    numbers = {"done": 0, "failed": 0, "pruned": 0, "collapsed": 0, "unfinished": 0}
    for trial in trials:
        if trial.kind == "trial" and (trial.attempts or trial.state in ENDED):
            numbers[trial.state.lower() if trial.state in ENDED else "unfinished"] += 1
    stopped = {name: numbers.pop(name) for name in ("pruned", "collapsed")}
    return numbers | {name: count for name, count in stopped.items() if count}


def _prefixed(tags: Mapping[str, str]) -> dict[str, str]:
    return {name if name.startswith(PREFIX) else PREFIX + name: value for name, value in tags.items() if value}


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))


def _text(value: settings.Plain) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
