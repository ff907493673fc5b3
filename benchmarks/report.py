"""How long the report of a large study takes, and how much memory: 1,000 settings with three seeds each.

Run: python -m benchmarks.report          (from the repository's root; well under a minute)

The ledger is filled with an SPC study of three swept thresholds, two final metrics a stage and twelve epochs a trial;
then the report command runs in a process of its own, imports included. The baseline is the bound it was built for,
15 seconds. Its memory is printed beside it.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from platform.ledger import stage_metadata
from platform.ledger.ledger import Ledger
from platform.ledger.rows import Configuration
from platform.study.resolved import meaning, resolved
from platform.study.study import load_study

import numpy as np

from trainables.runner.messages import EpochRecord, StageRecord

ROOT = Path(__file__).resolve().parent.parent
SEEDS, EPOCHS, BOUND_S, ROUNDS = (0, 1, 2), 12, 15.0, 3
STUDY = """\
method: spc
dataset: {{name: digits, protocol: union}}
seeds: [0, 1, 2]
search:
  spc.strong_threshold:       {{uniform: [0.9, 0.99]}}
  spc.graph_neighbors:        {{int: [5, 50]}}
  spc.top_fraction_per_class: {{uniform: [0.01, 0.05]}}
trials: {settings}
objective: {{metric: spc/selection_loss, mode: min}}
"""


def fill(storage: Path, settings: int) -> None:
    """A finished launch with made-up numbers."""
    storage.mkdir()
    file = storage / "large.yaml"
    file.write_text(STUDY.format(settings=settings))
    study, rng = load_study(file), np.random.default_rng(0)
    ledger = Ledger(storage / "ledger.db")
    facts = {stage_metadata.FACT: stage_metadata.record(study.method, "simclr", study.probes)}
    launch = ledger.open_launch(study.name, meaning(study), resolved(study), lookahead=2, facts=facts)
    for number in range(settings):
        params = {
            "spc.strong_threshold": float(rng.uniform(0.9, 0.99)),
            "spc.graph_neighbors": int(rng.integers(5, 51)),
            "spc.top_fraction_per_class": float(rng.uniform(0.01, 0.05)),
        }
        ledger.add_configuration(launch.id, Configuration(number, "", params))
        for seed in SEEDS:
            key = f"{number:08x}{seed:08x}"
            trial_spec = {"method": "spc", "pretext": "", "changes": params, "seed": seed, "kind": "trial"}
            ledger.add_trials(launch.id, [(key, trial_spec)], configuration=number)
            ledger.start(launch.id, key)
            acc, loss = float(rng.uniform(0.8, 0.97)), float(rng.uniform(-2.3, -2.0))
            metrics = {"spc/acc": acc, "spc/selection_loss": loss, "scan/selection_loss": loss + 0.1}
            epochs = [EpochRecord("spc", each, EPOCHS, metrics) for each in range(1, EPOCHS + 1)]
            ledger.add_epochs(launch.id, key, epochs)
            names = (("pretext", "simclr"), ("neighbors", "neighbors"), ("scan", "scan"), ("spc", "spc"))
            stages = [StageRecord(slot, name, key, cached=slot != "spc", seconds=1.0) for slot, name in names]
            ledger.finish(launch.id, key, metrics | {"acc": acc, "nmi": acc, "ari": acc}, stages, 1.0)
    ledger.close_launch(launch.id, "done")
    ledger.close()


def main() -> None:
    parse = argparse.ArgumentParser(description="What the report of a large study takes.")
    parse.add_argument("--settings", type=int, default=1000, help="with three seeds each (default: 1000)")
    given = parse.parse_args()
    with tempfile.TemporaryDirectory(prefix="report-") as folder:
        storage = Path(folder) / "runs"
        fill(storage, given.settings)
        command = [sys.executable, "-m", "platform.report", "large", "--storage", str(storage)]
        spent = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            spent.append(time.perf_counter() - began)
        size_mb = (storage / "large" / "report.html").stat().st_size / 1e6
    took = statistics.median(spent)
    peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    print(f"{given.settings:,} settings x {len(SEEDS)} seeds: {took:.1f} s, {peak_gb:.2f} GB, page {size_mb:.1f} MB")
    record = {
        "claim": f"the report of {given.settings} settings x {len(SEEDS)} seeds, against the bound of {BOUND_S:.0f} s",
        "ratio": round(BOUND_S / took, 2),
        "ours": round(took, 2),
        "baseline": BOUND_S,
        "unit": "s",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
