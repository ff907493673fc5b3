"""DEC and IDEC here and in ClustPy: seconds and accuracy on the same images.

Run: python -m benchmarks.peers --root data          (half an hour on two cores; MNIST under data/MNIST/raw)

Both train on the same 10,000 images of MNIST, 784-500-500-2000-10 and its mirror with ReLU, Adam with 0.001 for the
autoencoder and 0.0001 for the clustering, batches of 256, 20 starts of k-means, as many epochs and as many threads.
ClustPy takes the target distribution of each batch anew; here it is of all images every 40 steps, as DEC has it. IDEC
has the weights 0.1 and 1 in both.

ClustPy is no dependency: its own environment is made below build/ with the pinned version and with this environment's
packages behind it. Ours and theirs run in turn, once with each seed. The ratio is of DEC: ClustPy's median seconds over
ours, start of the process aside.
Axes: N images, D values.
"""

import argparse
import json
import os
import statistics
import subprocess
import sysconfig
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainables.data import datasets
from trainables.interfaces import ImageData, Result
from trainables.maths import metrics
from trainables.runner.runtime import local
from trainables.settings import build
from trainables.stages import autoencoder, dec

VERSION = "0.0.3"
FOLDER = Path("build") / "peers"
IDEC = {"clustering_weight": 0.1, "reconstruction_weight": 1.0}
METHODS: dict[str, dict[str, float]] = {"DEC": {}, "IDEC": IDEC}


def peer_python() -> Path:
    """The Python of ClustPy's environment, which is made where it is missing."""
    python = FOLDER / "bin" / "python"
    if python.exists():
        return python
    venv.create(FOLDER, with_pip=True)
    library = Path(sysconfig.get_path("purelib", vars={"base": str(FOLDER), "platbase": str(FOLDER)}))
    (library / "behind.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = [python, "-m", "pip", "install", "--quiet", "--no-deps", f"clustpy=={VERSION}"]
    subprocess.run(list(map(str, command)), check=True)
    return python


def ours(name: str, data: ImageData, args: argparse.Namespace, seed: int) -> tuple[float, list[int]]:
    started = time.perf_counter()
    runtime = local(seed=seed, threads=args.threads)
    coded = finished(autoencoder, {"epochs": args.epochs}, data, {}, runtime)
    settings = {
        "epochs": args.clustering_epochs, "optimizer.name": "adam", "optimizer.lr": 1e-4, "tolerance": 0.0,
        "target_update_interval": 40, **METHODS[name],
    }  # fmt: skip
    result = finished(dec, settings, data, {"pretext": coded}, runtime)
    return time.perf_counter() - started, result.arrays["probabilities_train"].argmax(1).tolist()


def finished(stage: Any, settings: dict[str, Any], data: ImageData, inputs: dict[str, Result], runtime: Any) -> Result:
    work = stage.train(build(stage.Config, settings), data, inputs, runtime)
    while True:
        try:
            next(work)
        except StopIteration as stop:
            result: Result = stop.value
            return result


def theirs(name: str, data: ImageData, args: argparse.Namespace, seed: int) -> tuple[float, list[int]]:
    values_ND = data.train.images_NCHW[:].flatten(1).float().numpy() / 255
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        np.savez(file, values=values_ND)
        file.flush()
        numbers = map(str, (args.epochs, args.clustering_epochs, args.threads, seed))
        script = str(Path(__file__).with_name("_peer_process.py"))
        command = [str(peer_python()), script, name, file.name, *numbers]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return found["seconds"], found["clusters"]


def accuracy(clusters: list[int], data: ImageData) -> float:
    return metrics.evaluate_labels(np.array(clusters), data.train.labels_N.numpy(), 10, 10)["acc"]


def measured(name: str, data: ImageData, args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Both in turn, once with each seed: median seconds, and ACC by seed."""
    seconds: dict[str, list[float]] = {"ours": [], "ClustPy": []}
    acc: dict[str, list[float]] = {"ours": [], "ClustPy": []}
    for seed in range(args.repeats):
        for who, run in (("ours", ours), ("ClustPy", theirs)):
            took_s, clusters = run(name, data, args, seed)
            seconds[who].append(took_s)
            acc[who].append(round(accuracy(clusters, data), 4))
    return {who: {"s": round(statistics.median(seconds[who]), 1), "acc": acc[who]} for who in seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data", help="where MNIST is")
    for name, default in (
        ("images", 10_000),
        ("epochs", 20),
        ("clustering-epochs", 20),
        ("threads", 1),
        ("repeats", 3),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = datasets.load(datasets.Spec(name="mnist", root=args.root, protocol="union", train_limit=args.images))
    shown = {name: measured(name, data, args) for name in METHODS}
    for name, both in shown.items():
        print(name, both)
    record = {
        "claim": f"DEC on {args.images} images of MNIST, {args.epochs} + {args.clustering_epochs} epochs, "
        f"against ClustPy {VERSION}",
        "ratio": round(shown["DEC"]["ClustPy"]["s"] / shown["DEC"]["ours"]["s"], 2),
        "ours": shown["DEC"]["ours"]["s"],
        "baseline": shown["DEC"]["ClustPy"]["s"],
        "unit": "s",
        "both": shown,
        "machine": f"{os.cpu_count()} cores, {args.threads} thread(s), {os.uname().machine}, torch {torch.__version__}",
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
