"""Ten thousand trials through one driver, and what 64 GPUs ask of driver, ledger, search service and store.

Run: python -m benchmarks.scale [--trials 10000]          (twelve minutes on two cores)

The sweep is that of ``trial_overhead.py``: real trials that find their stages in the store, so that nothing but
administration is left. Its figures are the time per trial in each tenth, the driver's memory and work, and the seconds
of ``platform.report`` on all of it and of the same command given once more. The ratio is the second tenth over the
last, so 1 means that the ten thousandth trial costs what the second thousand did; nothing here is compared with other
software. The first tenth is quicker: the tracker's thread is still importing MLflow, and takes its share afterwards.

The model: GPUS x PACKED trials at once. Each part that all trials share is measured here alone, per unit of work:

    driver       CPU seconds for a trial (from the sweep) and a report of epochs (a function that only reports)
    ledger       seconds to write a trial (from setting to DONE) and a report of epochs, synced to the disk
    search       seconds inside the actor for an answer that it has, as most are: its process is shared by all trials
                 of a node without GPUs, else each GPU has its own
    store        seconds to publish and to read once a result of RESULT_MB, digests included, on the disk of this
                 machine; as if one disk and one process served all, so a bound: each trial digests its own

A part that is busy c seconds for each trial is full when GPUS x PACKED trials of c x GPUS x PACKED seconds run at once:
that is the shortest mean trial it carries, and the largest of them names the first bottleneck. Parcels come on top:
each trial sends one every ``trials.report_every_s``, and the driver's share of time spent on them is printed.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from platform.ledger.ledger import Ledger
from platform.ledger.rows import Configuration
from platform.run.tune import report_every_s
from platform.study.study import load_study
from typing import Any

# Tune prints nothing then; read when it is imported.
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"

import numpy as np
import ray
import torch
from ray import tune

from trainables.interfaces import Result
from trainables.runner import tune_entry
from trainables.runner.messages import EpochRecord, Report
from trainables.store.artifacts import Store
from trainables.vector_search import service

from . import trial_overhead as overhead

GPUS, PACKED = 64, 4
RESULT_MB = 150
"""ResNet-18's weights and the features of 50,000 images, 512 wide."""
NUM_REPORTS, NUM_ROWS, NUM_ASKED, NUM_RESULTS = 500, 300, 200, 5


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def command_s(*words: str) -> float:
    """Seconds of a command of the platform, which must end well."""
    command = [sys.executable, "-m", *words]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=overhead.ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return time.perf_counter() - began


# The parts, each alone


def reporting(config: dict[str, Any]) -> None:
    epoch = EpochRecord("scan", 1, 100, {"loss": 0.5, "entropy": 2.0, "confident": 10.0})
    for _ in range(NUM_REPORTS):
        tune_entry.send_to_tune(Report([epoch]))


def report_cpu_s() -> float:
    """The driver's CPU seconds for one report through Tune, without the ledger."""
    with overhead.stock_ray(), tempfile.TemporaryDirectory() as scratch:
        run = tune.RunConfig(storage_path=scratch, verbose=0)
        tuner = tune.Tuner(reporting, run_config=run)
        began = time.process_time()
        tuner.fit()
        return (time.process_time() - began) / NUM_REPORTS


def ledger_s(folder: Path) -> tuple[float, float]:
    """Seconds for all rows of a trial, and for a report of its epochs."""
    page = folder / "rows.yaml"
    page.write_text(overhead.STUDY.format(trials=NUM_ROWS))
    study = load_study(page)
    ledger = Ledger(folder / "ledger.db")
    launch = ledger.open_launch(study.name, {}, {}, lookahead=GPUS * PACKED)
    metrics = {"kmeans/inertia": 1.0, "kmeans/acc": 0.5}

    def whole(number: int) -> None:
        key = f"{number:05}-s0"
        ledger.add_configuration(launch.id, Configuration(number, "", {"kmeans.restarts": number}))
        ledger.add_trials(launch.id, [(key, {"kind": "trial", "seed": 0})], configuration=number)
        ledger.start(launch.id, key)
        ledger.finish(launch.id, key, metrics, [], 1.0)

    def add_report(number: int) -> None:
        ledger.add_epochs(launch.id, "00000-s0", [EpochRecord("scan", number, 1, metrics)])

    trial_s = timed(lambda: [whole(number) for number in range(NUM_ROWS)]) / NUM_ROWS
    epoch_s = timed(lambda: [add_report(number) for number in range(NUM_ROWS)]) / NUM_ROWS
    ledger.close()
    return trial_s, epoch_s


def search_s() -> float:
    """Seconds for an answer that the actor has: neighbors of 10,000 rows."""
    rows_ND = np.random.default_rng(0).normal(size=(10_000, 128)).astype(np.float32)
    with overhead.stock_ray():
        running, search = service.start(0), service.SharedSearch(1)
        search.knn(rows_ND, None, 20, "l2")
        found = timed(lambda: [search.knn(rows_ND, None, 20, "l2") for _ in range(NUM_ASKED)]) / NUM_ASKED
        del running
    return found


def store_s(folder: Path) -> tuple[float, float]:
    """Seconds to publish a result, and to read it in a process that has not seen it."""
    weights = {f"layer{number}": torch.randn(2**20) for number in range(RESULT_MB * 2**20 // 4 // 2**20)}
    result = Result(weights={"backbone": weights})
    store = Store(folder)

    def publish(number: int) -> None:
        with store.flight(f"pretext-{number:016x}"):
            store.put(f"pretext-{number:016x}", result, {}, [])

    put_s = timed(lambda: [publish(number) for number in range(NUM_RESULTS)]) / NUM_RESULTS
    fresh = Store(folder)
    get_s = timed(lambda: [fresh.get(f"pretext-{number:016x}") for number in range(NUM_RESULTS)]) / NUM_RESULTS
    return put_s, get_s


# The sweep


def tenths_ms(ended: list[float]) -> list[float]:
    """Milliseconds per trial in each tenth of the run after the warm-up."""
    measured = ended[overhead.WARM_UP - 1 :]
    edges = [round(i * (len(measured) - 1) / 10) for i in range(11)]
    return [1e3 * (measured[b] - measured[a]) / (b - a) for a, b in zip(edges, edges[1:], strict=False)]


def swept(num_trials: int) -> dict[str, Any]:
    """The sweep, its report and the same command again."""
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        file, storage = Path(folder) / "scale.yaml", Path(folder) / "runs"
        file.write_text(overhead.STUDY.format(trials=num_trials))
        overhead.fill(load_study(file), storage)
        run = overhead.sweep(file, storage)
        overhead.print_ours(run)
        within = [look for look in run.looks if overhead.WARM_UP <= look.num_done < num_trials]
        first, middle, last = within[0], within[len(within) // 2], within[-1]
        return {
            "tenths_ms": [round(each, 1) for each in tenths_ms(run.ended)],
            "driver_mib": {look.num_done: look.memory_mib for look in (first, middle, last)},
            "driver_cpu_ms": round(1e3 * (last.cpu_s - middle.cpu_s) / (last.num_done - middle.num_done), 2),
            "after_last_s": round(run.over - run.ended[-1], 1),
            "report_s": round(command_s("platform.report", "scale", "--storage", str(storage)), 1),
            "again_s": round(command_s("platform.sweep", str(file), "--storage", str(storage)), 1),
        }


def model(driver_trial_s: float) -> dict[str, Any]:
    """The shortest mean trial, in seconds, that each part carries with GPUS x PACKED at once, and what reports take."""
    at_once = GPUS * PACKED
    with tempfile.TemporaryDirectory() as folder:
        ledger_trial_s, ledger_report_s = ledger_s(Path(folder))
        put_s, get_s = store_s(Path(folder) / "runs")
    report_s = report_cpu_s() + ledger_report_s
    per_trial_s = {
        "driver": driver_trial_s,
        "ledger": ledger_trial_s,
        "search": search_s(),
        "store": put_s + get_s,
    }
    shortest_s = {part: round(at_once * busy_s, 1) for part, busy_s in per_trial_s.items()}
    return {
        "at_once": at_once,
        "busy_ms_per_trial": {part: round(1e3 * busy_s, 2) for part, busy_s in per_trial_s.items()},
        "shortest_trial_s": shortest_s,
        "first_bottleneck": max(shortest_s, key=lambda part: shortest_s[part]),
        "report_ms": round(1e3 * report_s, 2),
        "driver_share_of_reports": round(at_once * report_s / report_every_s(at_once), 3),
    }


def main() -> None:
    parse = argparse.ArgumentParser(description="Ten thousand trials, and a model of 64 GPUs.")
    parse.add_argument("--trials", type=int, default=10_000, help="of the sweep, at least 100 (default: 10000)")
    given = parse.parse_args()
    if given.trials < 100:
        parse.error(f"--trials must be at least 100, but is {given.trials}")
    found = swept(given.trials)
    modelled = model(found["driver_cpu_ms"] / 1e3)
    early, last = found["tenths_ms"][1], found["tenths_ms"][-1]
    for name, value in (found | modelled).items():
        print(f"{name:24} {value}")
    record = {
        "claim": f"of {given.trials:,} trials that train nothing, the last tenth costs what the second did",
        "ratio": round(early / last, 2),
        "ours": last,
        "baseline": early,
        "unit": "ms per trial",
        **found,
        **modelled,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Ray {ray.__version__}, torch {torch.__version__}",
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
