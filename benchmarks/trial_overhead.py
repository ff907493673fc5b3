"""What a trial costs beyond its own work, against a TorchTrainer started in every trial as Ray's guide shows it.

Run: python -m benchmarks.trial_overhead [--trials 1000]          (from the repository's root; about six minutes)

Ours is the command itself, ``python -m platform.sweep``, on a k-means study whose stages are all in the store already,
under the addresses of the settings that it will draw. So a trial is drawn, written to the ledger, handed to a warm
actor, looks up its two stages, reads the second from the disk and checks its digests, reports its metrics, and is
written to the ledger and to MLflow with its figures: everything that a real trial does except train.

    ours        the mean distance of two trials' ends in the ledger, from the 10th trial to the last
    (a)         a Tune function that runs a one-worker TorchTrainer whose workers report one number
    (b)         a Tune function that reports one number, in a fresh process per trial (Tune's default)
    the floor   a loop in this process that runs the same trials: what the store alone costs

All have the whole machine. The ends of the first trials, as many as run at once, are left out: starting Ray is not
counted on any side.
"""

import argparse
import json
import logging
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from platform.search.searcher import Searcher
from platform.study.study import Study, load_study
from typing import Any

# Tune prints nothing then; read when it is imported.
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"

import ray
import torch
from ray import train, tune
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from trainables.data import datasets
from trainables.runner import pipeline_runner, runtime
from trainables.runner.messages import TrialSpec, result_name

ROOT = Path(__file__).resolve().parent.parent
WARM_UP = 10
NUM_TRAINERS, NUM_PLAIN = 3, 8
POLL_S = 0.5
STUDY = """\
method: kmeans
dataset: {{name: digits, protocol: union}}
fixed: {{pretext.epochs: 1, pretext.augmentation: affine}}
search:
  kmeans.iterations: {{int: [1, 10000]}}
  kmeans.restarts:   {{int: [1, 1000]}}
sampler: {{name: random, seed: 0}}
trials: {trials}
"""


# Ours


def trial_spec(study: Study, params: Mapping[str, Any], storage: Path, fingerprint: str) -> TrialSpec:
    """The trial of one setting, as the sweep hands it to a worker."""
    return {
        "kind": "trial",
        "method": study.method,
        "pretext": study.pretext,
        "changes": {**study.fixed, **params},
        "dataset": dict(study.dataset),
        "fingerprint": fingerprint,
        "seed": study.seeds[0],
        "until": "",
        "storage": str(storage),
        "threads": 1,
    }


def fill(study: Study, storage: Path) -> list[TrialSpec]:
    """Compute the first setting's stages, and put a copy under the address of every other one.

    Random settings do not depend on results, so what the sweep will draw is known beforehand.
    """
    fingerprint = datasets.load(datasets.Spec(**study.dataset)).fingerprint
    searcher, drawn = Searcher(study), list[dict[str, Any]]()
    for number in range(searcher.total):
        drawn.append(searcher.draw(number, [], drawn)[1])
    trial_specs = [trial_spec(study, params, storage, fingerprint) for params in drawn]
    runner = pipeline_runner.PipelineRunner(str(storage), runtime.SingleProcess(), runtime.local().search)
    first = runner.walk(trial_specs[0], lambda slot, epoch: None)
    made = runner.store.folder(first.stages[-1].result_name)
    for each in trial_specs[1:]:
        copy = made.with_name(result_name(*pipeline_runner.addresses(each)["kmeans"]))
        shutil.copytree(made, copy, copy_function=os.link)
    return trial_specs


@dataclass(frozen=True)
class Look:
    """The driver at one moment. num_done: trials. memory_mib: resident. cpu_s: used so far, all threads."""

    num_done: int
    memory_mib: int
    cpu_s: float


@dataclass(frozen=True)
class Sweep:
    """One run of the command. ended: of each trial. All times in Unix seconds."""

    began: float
    ended: list[float]
    over: float
    looks: list[Look]

    @property
    def per_trial_s(self) -> float:
        return (self.ended[-1] - self.ended[WARM_UP - 1]) / (len(self.ended) - WARM_UP)


def sweep(file: Path, storage: Path) -> Sweep:
    command = [sys.executable, "-m", "platform.sweep", str(file), "--storage", str(storage)]
    looks: list[Look] = []
    began = time.time()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said)
        while process.poll() is None:
            time.sleep(POLL_S)
            looks += look(process.pid, len(ends(storage)))
        over = time.time()
        if process.returncode != 0:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{said.read()[-2000:]}")
    return Sweep(began, ends(storage), over, looks)


def ends(storage: Path) -> list[float]:
    """When each finished trial ended, in order."""
    ledger = storage / "ledger.db"
    if not ledger.exists():
        return []
    connection = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)
    try:
        rows = connection.execute("SELECT ended FROM trials WHERE kind = 'trial' AND state = 'DONE' ORDER BY ended")
        return [row[0] for row in rows]
    except sqlite3.OperationalError:  # the first poll may come before the tables do
        return []
    finally:
        connection.close()


def look(pid: int, num_done: int) -> list[Look]:
    """One look, or none if the process has just ended."""
    try:
        status, times = Path(f"/proc/{pid}/status").read_text(), Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return []
    sizes = [int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmRSS")]
    user, system = times.rpartition(")")[2].split()[11:13]
    return [Look(num_done, size, (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")) for size in sizes]


def walk_all(trial_specs: list[TrialSpec]) -> float:
    """Seconds per trial of a plain loop, each for the first time in this process."""
    runner = pipeline_runner.PipelineRunner(trial_specs[0]["storage"], runtime.SingleProcess(), runtime.local().search)
    runner.walk(trial_specs[0], lambda slot, epoch: None)
    began = time.perf_counter()
    for each in trial_specs[1:]:
        runner.walk(each, lambda slot, epoch: None)
    return (time.perf_counter() - began) / (len(trial_specs) - 1)


# The baselines


def trainer_trial(config: dict[str, Any]) -> None:
    """As in "Hyperparameter Tuning with Ray Tune" of Ray Train's user guide, with a worker that does nothing."""

    def worker() -> None:
        train.report({"loss": 0.0})

    TorchTrainer(
        worker,
        scaling_config=train.ScalingConfig(num_workers=1),
        run_config=train.RunConfig(
            name=f"trial-{tune.get_context().get_trial_id()}",
            storage_path=config["scratch"],
            callbacks=[TuneReportCallback()],
        ),
    ).fit()


def plain_trial(config: dict[str, Any]) -> None:
    tune.report({"loss": 0.0})


class Ends(tune.Callback):  # type: ignore[misc]
    """Notes when each trial ended."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.at.append(time.perf_counter())


def stock(trial: Callable[[dict[str, Any]], None], num_trials: int, at_once: int) -> float:
    """Seconds per trial of a stock Tune run of ``num_trials`` beyond the first ``at_once``."""
    ended, total = Ends(), num_trials + at_once
    with tempfile.TemporaryDirectory() as scratch:
        tune.Tuner(
            trial,
            param_space={"number": tune.grid_search(list(range(total))), "scratch": scratch},
            tune_config=tune.TuneConfig(max_concurrent_trials=at_once),
            run_config=tune.RunConfig(storage_path=scratch, callbacks=[ended], verbose=0),
        ).fit()
    if len(ended.at) != total:
        raise SystemExit(f"only {len(ended.at)} of {total} trials of the baseline ended; is Ray allowed to start?")
    return (ended.at[-1] - ended.at[at_once - 1]) / num_trials


@contextmanager
def stock_ray() -> Iterator[None]:
    ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False, num_cpus=os.cpu_count())
    try:
        yield
    finally:
        ray.shutdown()


# The comparison


def fifths_ms(at: list[float]) -> list[float]:
    """Milliseconds per trial in each fifth of the run after the warm-up."""
    measured = at[WARM_UP - 1 :]
    edges = [round(i * (len(measured) - 1) / 5) for i in range(6)]
    return [1e3 * (measured[b] - measured[a]) / (b - a) for a, b in pairwise(edges)]


def print_ours(run: Sweep) -> None:
    """The command's own time, and its growth: time, memory and work of the driver, early and late."""
    num_trials = len(run.ended)
    within = [each for each in run.looks if WARM_UP <= each.num_done < num_trials]
    early, middle, late = within[0], within[len(within) // 2], within[-1]
    work_ms = [1e3 * (b.cpu_s - a.cpu_s) / (b.num_done - a.num_done) for a, b in pairwise((early, middle, late))]
    print(f"ours          {1e3 * run.per_trial_s:8.1f} ms per trial, trials {WARM_UP} to {num_trials:,}")
    print(f"  in fifths   {', '.join(f'{each:.1f}' for each in fifths_ms(run.ended))} ms")
    print(f"  driver      {work_ms[0]:.1f} ms of CPU per trial in the first half, {work_ms[1]:.1f} ms in the second")
    print(f"              {early.memory_mib:,} MiB after {early.num_done} trials,", end=" ")
    print(f"{late.memory_mib:,} MiB after {late.num_done:,}")
    print(f"  in all      {run.over - run.began:.1f} s, of which {run.ended[0] - run.began:.1f} s", end=" ")
    print(f"to the first trial's end and {run.over - run.ended[-1]:.1f} s after the last (MLflow, reports)")


def main() -> None:
    parse = argparse.ArgumentParser(description="What a trial costs beyond its own work.")
    parse.add_argument("--trials", type=int, default=1000, help="trials of our sweep, at least 50 (default: 1000)")
    given = parse.parse_args()
    if given.trials < 50:
        parse.error(f"--trials must be at least 50, but is {given.trials}")
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="trial-overhead-") as folder:
        file, storage = Path(folder) / "overhead.yaml", Path(folder) / "runs"
        file.write_text(STUDY.format(trials=given.trials))
        trial_specs = fill(load_study(file), storage)
        floor = walk_all(trial_specs)
        run = sweep(file, storage)
    mine = run.per_trial_s
    print_ours(run)
    print(f"the floor     {1e3 * floor:8.1f} ms per trial, a loop over the same trials in one process")
    with stock_ray():
        plain = stock(plain_trial, NUM_PLAIN, cores)
        print(
            f"(b) plain     {1e3 * plain:8.0f} ms per trial, Tune without reuse, n = {NUM_PLAIN}: {plain / mine:.0f} x"
        )
        trainer = stock(trainer_trial, NUM_TRAINERS, max(1, cores // 2))
        print(f"(a) trainer   {1e3 * trainer:8.0f} ms per trial, TorchTrainer in each, n = {NUM_TRAINERS}")
    record = {
        "claim": "wall-clock per trial that trains nothing, against a TorchTrainer started in every trial",
        "ratio": round(trainer / mine, 1),
        "ours": round(mine, 4),
        "baseline": round(trainer, 2),
        "unit": "s per trial",
        "machine": f"{cores} cores, {platform.machine()}, Ray {ray.__version__}, torch {torch.__version__}",
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
