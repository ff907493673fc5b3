"""What refined assignments cost: matrix products against Algorithm 1 as it is written, and the share of a step.

Run: python -m benchmarks.an          (two minutes on two cores)

The ratio: 1,024 assignments over 1,000 clusters, 512 of them unsure, three rounds; the baseline makes a table for each
unsure row, as the algorithm says. Both give the same numbers to 1e-12 (checked here and
in tests/maths/test_alternating_normalization.py).
The shares: seconds inside the refiner, its counts for the report included, over the seconds of the epochs of DEC
(500-500-2000-10, 784 values, batches of 256, a target every 140 steps) and of SCAN (ResNet-18, 32 px, batches of 128).
Axes: B rows, C clusters, A sure rows.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.interfaces import Epoch, ImageData, Result, Split
from trainables.maths import alternating_normalization as correction
from trainables.nets import backbones
from trainables.runner.runtime import local
from trainables.settings import build
from trainables.stages import autoencoder, dec, scan
from trainables.training import alternating_normalization

OPTIONS = correction.Options()


def by_tables(rows_BC: Tensor) -> Tensor:
    """Algorithm 1: one table of all sure rows for each unsure one."""
    unsure_B = correction.top_entropy(rows_BC, OPTIONS.top_k) >= OPTIONS.threshold
    refined_BC, sure_AC = rows_BC.clone(), rows_BC[~unsure_B]
    for row in unsure_B.nonzero().flatten().tolist():
        table = torch.cat((sure_AC, rows_BC[row : row + 1])) ** OPTIONS.power
        for _ in range(OPTIONS.iterations):
            table = table / table.sum(0) / rows_BC.shape[1]
            table = table / table.sum(1, keepdim=True)
        refined_BC[row] = table[-1]
    return refined_BC


def by_products(rows_BC: Tensor) -> Tensor:
    return correction.refine_assignments(rows_BC, OPTIONS).targets_BC


def half_unsure(num_rows: int, num_clusters: int) -> Tensor:
    """(B, C) float64 assignments; of every two, one is flat and one is sharp."""
    draw = torch.Generator().manual_seed(0)
    logits_BC = torch.randn(num_rows, num_clusters, generator=draw, dtype=torch.float64)
    logits_BC[::2] += 30 * torch.nn.functional.one_hot(torch.arange(num_rows)[::2] % num_clusters, num_clusters)
    return logits_BC.softmax(1)


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


@contextmanager
def refiner_timed(spent: list[float]) -> Iterator[None]:
    """Adds the seconds of every refined batch to ``spent``."""
    plain = alternating_normalization.Normalizer._refined

    def timed(normalizer: alternating_normalization.Normalizer, *given: Any) -> tuple[correction.Refined, Tensor]:
        started = time.perf_counter()
        try:
            return plain(normalizer, *given)
        finally:
            spent.append(time.perf_counter() - started)

    alternating_normalization.Normalizer._refined = timed  # type: ignore[method-assign]
    try:
        yield
    finally:
        alternating_normalization.Normalizer._refined = plain  # type: ignore[method-assign]


def share(epochs: Iterator[Epoch]) -> float:
    """The refiner's share of all epochs but the first, which warms up."""
    spent: list[float] = []
    with refiner_timed(spent):
        next(epochs)
        spent.clear()
        whole_s = sum(epoch.metrics["epoch_seconds"] for epoch in epochs)
    return sum(spent) / whole_s


def noise(num_images: int, channels: int, size_px: int) -> ImageData:
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (num_images, channels, size_px, size_px), generator=draw, dtype=torch.uint8)
    split = Split(images, torch.arange(num_images) % 10)
    return ImageData("noise", split, split, tuple("0123456789"), (0.5,) * channels, (0.25,) * channels, "noise")


def finished(stage: Any, config: Any, data: ImageData) -> Result:
    work = stage.train(config, data, {}, local(threads=os.cpu_count() or 1))
    while True:
        try:
            next(work)
        except StopIteration as stop:
            result: Result = stop.value
            return result


def dec_share() -> float:
    data = noise(17_920, 1, 28)  # 70 steps an epoch: a target every second one, as often as with MNIST
    pretext = finished(autoencoder, autoencoder.Config(epochs=1), data)
    config = build(dec.Config, {"an.mode": "both", "epochs": 5, "tolerance": 0, "kmeans_restarts": 1})
    return share(dec.train(config, data, {"pretext": pretext}, local(threads=os.cpu_count() or 1)))


def scan_share() -> float:
    data = noise(512, 3, 32)
    backbone = backbones.build("resnet18_cifar", in_channels=3, image_size_px=32, seed=0)
    table_NK = np.tile(np.arange(512)[:, None], (1, 21))
    table_NK[:, 1:] = np.random.default_rng(0).integers(0, 512, (512, 20))
    inputs = {
        "pretext": Result(weights={"backbone": backbone.state_dict()}, facts={"network": "resnet18_cifar"}),
        "neighbors": Result(arrays={"neighbors_train": table_NK, "neighbors_eval": table_NK}),
    }
    config = build(scan.Config, {"an.mode": "both", "epochs": 3})
    return share(scan.train(config, data, inputs, local(threads=os.cpu_count() or 1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 1024), ("clusters", 1000), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    rows_BC = half_unsure(args.rows, args.clusters)
    unsure = int((correction.top_entropy(rows_BC, OPTIONS.top_k) >= OPTIONS.threshold).sum())
    apart = float((by_tables(rows_BC) - by_products(rows_BC)).abs().max())
    if apart > 1e-12:
        raise SystemExit(f"the two forms differ by {apart:.1e}")
    rounds = [
        [seconds(lambda form=form: form(rows_BC)) for form in (by_products, by_tables)] for _ in range(args.repeats)
    ]
    ours_s, tables_s = (statistics.median(times) for times in zip(*rounds, strict=True))
    shares = {"dec": dec_share(), "scan": scan_share()}
    print(f"{unsure} of {args.rows} rows unsure, the forms {apart:.1e} apart")
    print("share of a step: " + ", ".join(f"{name} {value:.1%}" for name, value in shares.items()))
    record = {
        "claim": f"{unsure} of {args.rows} x {args.clusters} refined by matrix products, against a table each",
        "ratio": round(tables_s / ours_s, 1),
        "ours": round(1e3 * ours_s, 2),
        "baseline": round(1e3 * tables_s, 2),
        "unit": "ms",
        "share_of_step": {name: round(value, 4) for name, value in shares.items()},
        "machine": f"{os.cpu_count()} cores, {os.uname().machine}, torch {torch.__version__}",
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
