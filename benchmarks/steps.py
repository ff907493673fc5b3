"""Images a second through whole training steps of five methods, ours against plain PyTorch loops.

Run: python -m benchmarks.steps                                     (all five with a small network: a few minutes)
     python -m benchmarks.steps --method scan --network resnet18_cifar --images 256 --batch 128
     python -m benchmarks.steps --precision bf16                    (our side alone, as `<stage>.precision: bf16`)

Both sides train on the same 32 x 32 color images, with the same network, optimizer, batch size and family of
augmentations. Ours is the stage's own epoch: images as uint8 on the device, changed in batches; networks that lie
channels last in memory, fused optimizers. The baseline is a loop as it is usually written (``_plain_steps.py``):
torchvision's transforms on Pillow images in a DataLoader with two worker processes, networks and optimizers as PyTorch
makes them, in a process of its own whose memory is allocated as PyTorch does by default (ours: ``malloc.py``). An
image counts once for each step that it is an anchor of, whatever its views.

With the small network the data's way matters; ResNet-18 on a CPU is convolution and little else, and shows what is left
of the gain there. Rounds alternate between the sides, each with one thread and with one for each core, of which the
faster counts; medians are compared. The record is the method that gains least.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import _baseline_process
from benchmarks import _plain_steps as plain
from benchmarks.augment import MEAN, STD, pictures
from trainables.interfaces import ImageData, Result, Split
from trainables.nets import models
from trainables.runner.runtime import local
from trainables.settings import build
from trainables.stages import dccm, scan, selflabel, simclr, swav
from trainables.training import clustering, pretext

NUM_CLASSES, NUM_NEIGHBORS = 10, 20
CONFIDENCE = 0.01
"""An untrained network is sure of nothing, and self-labeling would have nothing to do."""


@dataclass(frozen=True)
class Case:
    """One method on both sides: each call is one epoch and says what it did."""

    ours: Callable[[], plain.Seen]
    theirs: Callable[[], plain.Seen]


@dataclass(frozen=True)
class Work:
    """What both sides work on.

    batch: 0 for each method's own size. how: settings of each stage, by which our training passes are computed.
    """

    data: ImageData
    network: str
    batch: int = 0
    how: Mapping[str, Any] = field(default_factory=dict)

    @property
    def images(self) -> Tensor:
        return self.data.train.images_NCHW[:]

    def batch_size(self, usual: int) -> int:
        return min(self.batch or usual, len(self.data.train))

    def covered(self, batch_size: int) -> int:
        """Images of an epoch whose last batch is left out where it is not full."""
        return len(self.data.train) // batch_size * batch_size


def work(num_images: int, network: str, batch: int = 0, **how: Any) -> Work:
    images_NCHW = pictures()[:num_images]
    split = Split(images_NCHW, torch.arange(len(images_NCHW)) % NUM_CLASSES)
    names = tuple(str(label) for label in range(NUM_CLASSES))
    compute = {f"compute.{name}": value for name, value in how.items()}
    return Work(ImageData("pictures", split, split, names, MEAN, STD, "pictures"), network, batch, compute)


def _epochs(run: Callable[[int], Mapping[str, float]], num_images: int) -> Callable[[], plain.Seen]:
    """Our epochs one after another."""
    numbers = iter(range(10**9))
    return lambda: plain.Seen(num_images, run(next(numbers))["loss"])


def simclr_case(given: Work) -> Case:
    config = build(simclr.Config, {"network": given.network, "batch_size": given.batch_size(512), **given.how})

    def model() -> models.ContrastiveModel:
        return models.ContrastiveModel(pretext.backbone(given.network, given.data.shape, 0), config.feature_dim)

    source, own, other = pretext.Source(config, given.data, given.data.pretext, local()), model(), model()
    optimizer = pretext.sgd(config.optimizer, own)
    rule = config.optimizer
    usual = torch.optim.SGD(
        plain.usual(other).parameters(),
        lr=rule.lr,
        momentum=rule.momentum,
        weight_decay=rule.weight_decay,
    )
    ours = _epochs(lambda epoch: simclr._epoch(config, source, own, optimizer, epoch), given.covered(config.batch_size))
    theirs = plain.simclr(given.images, other, usual, config.batch_size, config.temperature)
    return Case(ours, theirs.epoch)


def _clustering(given: Work) -> tuple[models.ClusteringModel, dict[str, Result]]:
    """An untrained clustering network, and results that SCAN and self-labeling start from."""
    model = clustering.fresh(given.network, given.data.shape, NUM_CLASSES, 1, 0)
    parts = clustering.parts(model)
    rng, num = np.random.default_rng(0), len(given.data.train)
    table_NK = np.concatenate([np.arange(num)[:, None], rng.integers(0, num, (num, NUM_NEIGHBORS))], axis=1)
    facts = {"network": given.network, "num_clusters": NUM_CLASSES}
    arrays = {"neighbors_train": table_NK, "neighbors_eval": table_NK}
    return model, {
        "pretext": Result(weights={"backbone": parts["backbone"]}, facts=facts),
        "neighbors": Result(arrays=arrays),
        "scan": Result(weights=parts, facts=facts),
    }


def scan_case(given: Work) -> Case:
    config = build(scan.Config, {"batch_size": given.batch_size(128), "num_neighbors": NUM_NEIGHBORS, **given.how})
    other, inputs = _clustering(given)
    setup, rule = scan._set_up(config, given.data, inputs, local()), config.optimizer
    theirs = plain.scan(
        given.images,
        inputs["neighbors"].arrays["neighbors_train"],
        other,
        torch.optim.Adam(plain.usual(other).parameters(), lr=rule.lr, weight_decay=rule.weight_decay),
        config.batch_size,
        config.entropy_weight,
    )
    return Case(_epochs(lambda epoch: scan._epoch(setup, epoch), given.covered(config.batch_size)), theirs.epoch)


def selflabel_case(given: Work) -> Case:
    config = build(
        selflabel.Config, {"batch_size": given.batch_size(1000), "confidence_threshold": CONFIDENCE, **given.how}
    )
    other, inputs = _clustering(given)
    setup, rule = selflabel._set_up(config, given.data, inputs, local()), config.optimizer
    usual = torch.optim.Adam(plain.usual(other).parameters(), lr=rule.lr, weight_decay=rule.weight_decay)
    theirs = plain.self_label(given.images, other, usual, config.batch_size, CONFIDENCE)
    return Case(_epochs(lambda epoch: selflabel._epoch(setup, epoch), given.covered(config.batch_size)), theirs.epoch)


def swav_case(given: Work) -> Case:
    config = build(
        swav.Config,
        {
            "network": given.network,
            "batch_size": given.batch_size(256),
            "views.blur": False,
            "queue": False,
            "freeze_iterations": 0,
            "schedule": "constant",
            **given.how,
        },
    )
    setup, other = (swav._set_up(config, given.data, local()) for _ in range(2))
    numbers = plain.Sinkhorn(config.epsilon, config.sinkhorn_iterations, config.temperature)
    plain.usual(other.model)
    theirs = plain.swav(given.images, other.model, other.optimizer, config.batch_size, numbers)
    return Case(_epochs(lambda epoch: swav._epoch(setup, epoch), given.covered(config.batch_size)), theirs.epoch)


def dccm_case(given: Work) -> Case:
    network = "dccm_small" if given.network == "small" else "dccm_c4"
    outer = given.batch_size(1000)
    config = build(
        dccm.Config,
        {"network": network, "outer_batch": outer, "inner_batch": min(32, outer), "inner_repeats": 2, **given.how},
    )
    setup, other = (dccm._set_up(config, given.data, local()) for _ in range(2))
    numbers = plain.Correlation(
        config.outer_batch,
        config.inner_batch,
        config.inner_repeats,
        config.augment_passes,
        config.graph_threshold,
        config.label_threshold,
        config.label_loss_weight,
        config.mi_loss_weight,
    )
    critic = plain.ConvolutionCritic(plain.usual(other.critic))
    usual = torch.optim.RMSprop(
        [*plain.usual(other.model).parameters(), *critic.parameters()],
        lr=config.optimizer.lr,
        alpha=config.optimizer.rmsprop_decay,
    )
    theirs = plain.CorrelationLoop(given.images, other.model, critic, usual, numbers)
    times = config.inner_repeats * config.augment_passes
    return Case(_epochs(lambda epoch: dccm._epoch(setup, epoch), len(given.data.train) * times), theirs.epoch)


CASES: Mapping[str, Callable[[Work], Case]] = {
    "simclr": simclr_case,
    "scan": scan_case,
    "selflabel": selflabel_case,
    "dccm": dccm_case,
    "swav": swav_case,
}


def rate(epoch: Callable[[], plain.Seen], num_threads: int) -> float:
    torch.set_num_threads(num_threads)
    began = time.perf_counter()
    seen = epoch()
    return seen.num_images / (time.perf_counter() - began)


def baseline(method: str, asked: argparse.Namespace) -> Callable[[int], float]:
    """Theirs, with so many threads."""
    theirs = CASES[method](work_of(method, asked)).theirs
    return lambda num_threads: rate(theirs, num_threads)


def measure(method: str, asked: argparse.Namespace) -> tuple[float, float]:
    """Median images a second, ours and theirs, each with the number of threads that suits it best."""
    threads = sorted({1, os.cpu_count() or 1})
    ours = CASES[method](work_of(method, asked)).ours
    rates: dict[tuple[str, int], list[float]] = {(side, each): [] for side in ("ours", "theirs") for each in threads}
    with _baseline_process.running(baseline, method, asked) as theirs:
        for _ in range(asked.rounds + 1):
            for (side, each), found in rates.items():
                found.append(rate(ours, each) if side == "ours" else theirs(each))
    # The first round starts the workers and fills the caches.
    medians = {key: statistics.median(found[1:]) for key, found in rates.items()}
    mine, others = (max(medians[side, each] for each in threads) for side in ("ours", "theirs"))
    return mine, others


def work_of(method: str, asked: argparse.Namespace) -> Work:
    """An image is trained on four times in an epoch of DCCM, which gets a quarter of them."""
    num_images = asked.images // 4 if method == "dccm" else asked.images
    return work(num_images, asked.network, asked.batch, precision=asked.precision, compiled=asked.compiled)


def main() -> None:
    parse = argparse.ArgumentParser(description="Images a second through training steps, ours and a plain loop's.")
    parse.add_argument("--method", choices=CASES, help="only this one")
    parse.add_argument("--network", default="small", choices=("small", "resnet18_cifar"), help="dccm has its own two")
    parse.add_argument("--images", type=int, default=4000, help="images of an epoch; of dccm a quarter")
    parse.add_argument("--batch", type=int, default=0, help="images in a step; 0 for each method's own")
    parse.add_argument("--precision", default="auto", choices=("auto", "float32", "bf16"), help="of our side")
    parse.add_argument("--rounds", type=int, default=5, help="rounds counted, after one that is not")
    parse.add_argument("--compiled", action="store_true", help="our side, as `<stage>.compiled: true`")
    asked = parse.parse_args()
    results = {}
    for method in [asked.method] if asked.method else CASES:
        mine, others = results[method] = measure(method, asked)
        print(f"{method}: {mine:,.0f} against {others:,.0f} images/s, ratio {mine / others:.2f}", flush=True)
    least = min(results, key=lambda method: results[method][0] / results[method][1])
    mine, others = results[least]
    record = {
        "claim": f"training steps on 32 px images, network {asked.network}, ours in {asked.precision}"
        f"{', compiled' if asked.compiled else ''}, against"
        f" plain PyTorch with {plain.NUM_WORKERS} workers ({least}, the slowest to gain)",
        "ratio": round(mine / others, 2),
        "ours": round(mine),
        "baseline": round(others),
        "unit": "images/s",
        "ratios": {method: round(one / other, 2) for method, (one, other) in results.items()},
        "machine": f"{os.cpu_count() or 1} cores, {os.uname().machine}, torch {torch.__version__}, "
        f"load {os.getloadavg()[0]:.1f}",
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
