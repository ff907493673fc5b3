"""Where the time of a sweep goes: training, starting processes, and everything else.

Run: python -m benchmarks.where                                   (a whole sweep of search_spaces/spc.yaml: minutes)
     python -m benchmarks.where --study spc --storage runs        (a study that has run, from its ledger: a second)

Every trial has a lane, one of the places where trials run side by side; seconds are those of all lanes together,
divided by their number, so that they add up to the sweep's wall time. What lies before a launch begins and after it has
ended (imports, reading the data; reports, the tracker) is known only where the sweep is started from here.

    start     imports of the driver, reading and checking the data; until the ledger has the launch
    Ray       until the first trial starts: Ray, the search service, the first processes with their imports
    process   of trials: what lies between their start and end beyond their own walk, mostly reports
    <slot>    the stages' own time, as far as it was computed and not found in the store
    walk      of trials: finding and reading what is there already, loading the data
    lost      of trials: attempts that ended with their process
    idle      lanes without a trial, in between and while others are still busy
    close     from the end of the last trial to that of the launch: Ray's end. Of a study that was continued later, the
              time in between stands here
    end       reports, figures, the tracker's last words

The claim is that nothing but training and starting processes takes more than 5 %.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from platform.ledger.ledger import LEDGER, Ledger
from platform.ledger.rows import Launch, Trial
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
STUDY = "search_spaces/spc.yaml"
LARGEST_SHARE = 0.05
STARTING = ("start", "Ray")
"""Beside training, what starting processes is made of."""


def parts(launch: Launch, trials: Sequence[Trial], lanes: int) -> dict[str, float]:
    """Seconds of a launch by what they went into; they add up to its wall time.

    Raises:
        ValueError: the launch is not finished, or no trial of it ran.
    """
    ran = [trial for trial in trials if trial.started and trial.ended and trial.seconds]
    if launch.ended is None or not ran:
        raise ValueError(f"launch {launch.number} of {launch.study} is not finished, or no trial of it ran")
    first, last = min(trial.started or 0.0 for trial in ran), max(trial.ended or 0.0 for trial in ran)
    found = {"Ray": first - launch.started, "process": 0.0, "walk": 0.0, "lost": 0.0}
    busy = 0.0
    for trial in ran:
        held, walked = (trial.ended or 0.0) - (trial.started or 0.0), trial.seconds or 0.0
        computed = {stage.slot: stage.seconds for stage in trial.stages if not stage.cached}
        for slot, seconds in computed.items():
            found[slot] = found.get(slot, 0.0) + seconds / lanes
        found["process" if trial.attempts < 2 else "lost"] += (held - walked) / lanes
        found["walk"] += (walked - sum(computed.values())) / lanes
        busy += held
    return found | {"idle": (last - first) - busy / lanes, "close": launch.ended - last}


def slots_of(trials: Sequence[Trial]) -> set[str]:
    """The stages that a trial computed."""
    return {stage.slot for trial in trials for stage in trial.stages}


def most_at_once(trials: Sequence[Trial]) -> int:
    """Lanes: the largest number of trials that ran side by side."""
    ends = [(trial.started, 1) for trial in trials if trial.started and trial.ended]
    ends += [(trial.ended, -1) for trial in trials if trial.started and trial.ended]
    running = most = 0
    for _, change in sorted(ends):
        running += change
        most = max(most, running)
    return most


def read(storage: Path, study: str) -> tuple[Launch, list[Trial]]:
    """The newest launch of a study, and its trials.

    Raises:
        ValueError: no such study in this storage.
    """
    ledger = Ledger(storage / LEDGER)
    try:
        launches = ledger.launches(study)
        if not launches:
            raise ValueError(f"{storage / LEDGER} has no study called {study!r}")
        return launches[-1], ledger.trials(launches[-1].id)
    finally:
        ledger.close()


def table(found: Mapping[str, float], trained: set[str]) -> list[str]:
    """Every part with its seconds and share, and what it counts as."""
    whole = sum(found.values())
    lines = []
    for name, seconds in found.items():
        kind = "training" if name in trained else "starting processes" if name in STARTING else ""
        lines.append(f"{name:<12} {seconds:8.1f} s {seconds / whole:6.1%}  {kind}".rstrip())
    return lines


def record(found: Mapping[str, float], trained: set[str], study: str) -> dict[str, Any]:
    whole = sum(found.values())
    others = {name: seconds / whole for name, seconds in found.items() if name not in {*trained, *STARTING}}
    largest = max(others, key=lambda name: others[name])
    return {
        "claim": f"nothing but training and starting processes takes more than {LARGEST_SHARE:.0%} of {study}"
        f" ({largest}, the largest)",
        "ratio": round(LARGEST_SHARE / max(others[largest], 1e-4), 2),
        "ours": round(100 * others[largest], 2),
        "baseline": 100 * LARGEST_SHARE,
        "unit": "% of the sweep",
        "shares": {name: round(seconds / whole, 4) for name, seconds in found.items()},
        "machine": f"{os.cpu_count() or 1} cores, {os.uname().machine}, load {os.getloadavg()[0]:.1f}",
    }


def sweep(file: str, storage: Path) -> tuple[float, float]:
    """Run a sweep of its own; when its process began and ended, in Unix seconds."""
    began = time.time()
    command = [sys.executable, "-m", "platform.sweep", file, "--storage", str(storage)]
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return began, time.time()


def main() -> None:
    parse = argparse.ArgumentParser(description="Where the time of a sweep goes.")
    parse.add_argument("--study", help="a study that has run in --storage; without it a sweep is run")
    parse.add_argument("--storage", type=Path, default=Path("runs"), help="where the study is kept")
    parse.add_argument("--file", default=STUDY, help="the study file to run")
    asked = parse.parse_args()
    if asked.study:
        launch, trials = read(asked.storage, asked.study)
        found = parts(launch, trials, most_at_once(trials))
    else:
        with tempfile.TemporaryDirectory(prefix="where-") as folder:
            began, ended = sweep(asked.file, Path(folder))
            launch, trials = read(Path(folder), Path(asked.file).stem)
        inside = parts(launch, trials, most_at_once(trials))
        found = {"start": launch.started - began, **inside, "end": ended - (launch.ended or ended)}
    print("\n".join(table(found, slots_of(trials))))
    print(json.dumps(record(found, slots_of(trials), launch.study)))


if __name__ == "__main__":
    main()
