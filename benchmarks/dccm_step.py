"""What an outer batch of DCCM costs, and how much faster partners are drawn in batches than image by image.

Run: python benchmarks/dccm_step.py          (seconds)

Ours: 1,000 color images of 32 px, dccm_c4, as the stage trains it; a step is timed and multiplied.
The share that is not convolution is torch.profiler's own time on the CPU, in one step. Baseline: triplets by a loop
over the images and their rows, on the same graph.
"""

import json
import os
import statistics
import time
from collections.abc import Callable
from itertools import islice

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from trainables.interfaces import ImageData, Split
from trainables.maths import correlation, mutual_information
from trainables.runner.runtime import local
from trainables.stages import dccm

INNER, NUM_ROUNDS, NUM_STEPS, NUM_CLASSES = 32, 50, 32, 10
STEPS_PER_OUTER_BATCH = 10 * 31 * 2
"""10 passes over 31 inner batches (what is left over makes no step), each augmented twice."""


def loop_triplets(linked_BB: Tensor, keys_BB: Tensor) -> list[list[int]]:
    """The same partners, image by image."""
    found = []
    for i in range(len(linked_BB)):
        keys = keys_BB[i].tolist()
        linked = linked_BB[i].tolist()
        friends = [j for j in range(len(keys)) if linked[j] and j != i]
        others = sorted((j for j in range(len(keys)) if not linked[j]), key=lambda j, keys=keys: -keys[j])
        found.append([i, max(friends, key=lambda j, keys=keys: keys[j]) if friends else i, *(others[:2])])
    return found


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def sampling_ratio() -> tuple[float, float]:
    """Median seconds of a draw, ours and the loop's."""
    generator = torch.Generator().manual_seed(0)
    labels_B = torch.randint(0, NUM_CLASSES, (INNER,), generator=generator)
    linked_BB = labels_B[:, None] == labels_B
    keys_BB = torch.rand(INNER, INNER, generator=generator)
    ours = mutual_information.draw_triplets(linked_BB, keys_BB)
    assert ours.partner_PB.T.tolist() == loop_triplets(linked_BB, keys_BB)
    rounds = [
        (
            seconds(lambda: mutual_information.draw_triplets(linked_BB, keys_BB)),
            seconds(lambda: loop_triplets(linked_BB, keys_BB)),
        )
        for _ in range(NUM_ROUNDS)
    ]
    mine, theirs = zip(*rounds, strict=True)
    return statistics.median(mine), statistics.median(theirs)


def outer_batch() -> tuple[float, float]:
    """Seconds of an outer batch with its whole inner loop, and the share of a step that is not convolution."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (1000, 3, 32, 32), generator=generator, dtype=torch.uint8)
    split = Split(images, torch.arange(1000) % NUM_CLASSES)
    data = ImageData("noise", split, split, tuple("0123456789"), (0.5,) * 3, (0.2,) * 3, "noise")
    setup = dccm._set_up(dccm.Config(), data, local())
    generators = {purpose: setup.runtime.generator(purpose) for purpose in ("inner", "views", "triplets")}
    with torch.no_grad():
        targets_s = seconds(lambda: setup.model(images.float() / 255))
        predictions_BC = setup.model(images[:INNER].float() / 255).predictions_BC
    targets = dccm._Targets(
        correlation.pseudo_graph(predictions_BC, 0.95), *correlation.pseudo_labels(predictions_BC, 0.9), predictions_BC
    )

    def steps(number: int) -> None:
        for _, kinds in islice(dccm._inner_steps(setup, images, generators), number):
            dccm._step(setup, kinds, targets, generators["triplets"])

    steps(1)
    step_s = seconds(lambda: steps(NUM_STEPS)) / NUM_STEPS
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        steps(NUM_STEPS)
    own = {event.key: event.self_cpu_time_total for event in seen.key_averages()}
    convolution = sum(value for key, value in own.items() if "conv" in key)
    return targets_s + STEPS_PER_OUTER_BATCH * step_s, 1 - convolution / sum(own.values())


def main() -> None:
    mine, theirs = sampling_ratio()
    outer_s, other_share = outer_batch()
    print(f"outer batch of 1,000: {outer_s:.0f} s, {other_share:.0%} of a step not convolution")
    record = {
        "claim": f"triplets of a batch of {INNER} drawn at once against image by image",
        "ratio": round(theirs / mine, 2),
        "ours": round(mine * 1e6),
        "baseline": round(theirs * 1e6),
        "unit": "us",
        "outer_batch_s": round(outer_s, 1),
        "share_not_convolution": round(other_share, 3),
        "machine": f"{os.cpu_count()} cores, {os.uname().machine}, torch {torch.__version__}",
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
