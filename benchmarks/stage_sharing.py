"""What sharing stages between trials saves, and how near the sweep comes to the best that sharing can do.

Run: python -m benchmarks.stage_sharing          (from the repository's root; about five minutes on two cores)

Six settings of SPC's refinement with two seeds each, on digits, a third of the epochs of search_spaces/ladder.yaml.
Both sides run the same command with the same warm processes, from an empty storage:

    ours       SimCLR, neighbors and SCAN are computed once per seed, then twelve refinements
    baseline   every setting also has its own learning rate of SimCLR, different in the seventh digit: the same work
               under twelve addresses, so every trial computes its whole pipeline
    ideal      the stage seconds measured in ours, on as many slots, with nothing in between: the larger of their sum
               divided by the slots, and the longest prefix with a refinement after it

Time runs from the start of the first trial to the end of the last; starting Ray is not counted on either side.
"""

import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

ROOT = Path(__file__).resolve().parent.parent
SEEDS = (0, 1)
DELTAS, FRACTIONS = (0.90, 0.95, 0.98), (0.02, 0.04)
FIXED = {
    "pretext.augmentation": "affine",
    "pretext.temperature": 0.2,
    "pretext.batch_size": 256,
    "pretext.epochs": 20,
    "scan.augmentation": "affine",
    "scan.optimizer.lr": 0.001,
    "scan.epochs": 14,
    "spc.strong_augmentation": "affine",
    "spc.weak_augmentation": "affine",
    "spc.batch_size": 128,
    "spc.epochs": 5,
    "spc.cg_max_iterations": 100,
}


@dataclass(frozen=True)
class TrialRow:
    """One row of the ledger. started, ended: the driver's, Unix seconds. walked_s: the worker's. stages_s: computed."""

    kind: str
    seed: int
    started: float
    ended: float
    walked_s: float
    stages_s: float


def study(*, shared: bool) -> dict[str, Any]:
    """The study as a file's content: the six settings as rows, so that both sides run them in the same order."""
    rows: dict[str, dict[str, float]] = {}
    for delta in DELTAS:
        for fraction in FRACTIONS:
            row = {"spc.strong_threshold": delta, "spc.top_fraction_per_class": fraction}
            rows[f"delta {delta}, r {fraction}"] = row | (
                {} if shared else {"pretext.optimizer.lr": 0.4 + len(rows) * 1e-7}
            )
    data = {"name": "digits", "protocol": "union"}
    return {"method": "spc", "dataset": data, "seeds": list(SEEDS), "fixed": FIXED, "ablate": rows}


def sweep(content: dict[str, Any]) -> list[TrialRow]:
    """Run a study from an empty storage."""
    with tempfile.TemporaryDirectory(prefix="stage-sharing-") as folder:
        file, storage = Path(folder) / "sharing.yaml", Path(folder) / "runs"
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        command = [sys.executable, "-m", "platform.sweep", str(file), "--storage", str(storage)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}")
        connection = sqlite3.connect(storage / "ledger.db")
        try:
            rows = connection.execute("SELECT kind, seed, started, ended, seconds, stages FROM trials").fetchall()
        finally:
            connection.close()
    return [
        TrialRow(kind, seed, started, ended, walked_s, sum(s["seconds"] for s in json.loads(stages) if not s["cached"]))
        for kind, seed, started, ended, walked_s, stages in rows
    ]


def wall_s(cells: list[TrialRow]) -> float:
    return max(trial.ended for trial in cells) - min(trial.started for trial in cells)


def ideal_s(cells: list[TrialRow], slots: int) -> float:
    """The least time that these stages can take."""
    prefix_s = {trial.seed: trial.stages_s for trial in cells if trial.kind == "prepare"}
    chains_s = [prefix_s[trial.seed] + trial.stages_s for trial in cells if trial.kind == "trial"]
    return max(sum(trial.stages_s for trial in cells) / slots, *chains_s)


def unshared_s(cells: list[TrialRow], slots: int) -> float:
    """What the baseline would take at the speed that the machine had during ours, with nothing in between."""
    prefix_s = {trial.seed: trial.stages_s for trial in cells if trial.kind == "prepare"}
    return sum(prefix_s[trial.seed] + trial.stages_s for trial in cells if trial.kind == "trial") / slots


def print_rest(cells: list[TrialRow], slots: int) -> None:
    """Where the time beyond the ideal goes, as seconds of wall-clock (slot-seconds divided by the slots)."""
    on_their_way_s = sum(trial.ended - trial.started - trial.walked_s for trial in cells) / slots
    beside_s = [trial.walked_s - trial.stages_s for trial in sorted(cells, key=lambda trial: trial.started)]
    warming_s, reading_s = sum(beside_s[:slots]) / slots, sum(beside_s[slots:]) / slots
    idle_s = wall_s(cells) - sum(trial.ended - trial.started for trial in cells) / slots
    print(f"  {on_their_way_s:5.1f} s to start the processes and to hand trials over and results back")
    print(f"  {warming_s:5.1f} s once per process, however long the sweep is: imports, the data set")
    print(f"  {reading_s:5.1f} s in the workers beside their stages: reading stored results")
    print(f"  {idle_s:5.1f} s of empty slots: between two trials, and while the last ones end")


def main() -> None:
    slots = os.cpu_count() or 1
    ours = sweep(study(shared=True))
    baseline = sweep(study(shared=False))
    mine, theirs, ideal = wall_s(ours), wall_s(baseline), ideal_s(ours, slots)
    num_trials = len(DELTAS) * len(FRACTIONS) * len(SEEDS)
    print(f"whole pipeline in each trial  {theirs:6.1f} s for {num_trials} trials on {slots} slots")
    print(f"  at the speed of ours        {unshared_s(ours, slots):6.1f} s, should the machine be shared with others")
    print(f"shared stages                 {mine:6.1f} s, {theirs / mine:.2f} x faster")
    print(f"ideal                         {ideal:6.1f} s; ours takes {100 * (mine / ideal - 1):.1f} % more:")
    print_rest(ours, slots)
    record = {
        "claim": "a sweep with shared stages against every trial computing its whole pipeline (SPC, 12 trials)",
        "ratio": round(theirs / mine, 2),
        "ours": round(mine, 1),
        "baseline": round(theirs, 1),
        "unit": "s",
        "machine": f"{slots} cores, {platform.machine()}, torch {torch.__version__}",
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
