"""How much faster batches are augmented than by torchvision's transforms on single Pillow images.

Run: python benchmarks/augment.py          (about a minute)

Both sides start from the same 32 x 32 color images as uint8 in memory and end at normalized float32 batches of 512.
Baseline: a DataLoader with two worker processes. Ours: this process, with one thread and with one for each core,
of which the faster counts: threads that wait for each other lose much where other programs hold the cores.
Rounds alternate between the sides, so that a busy machine slows both; the medians are compared.
Axes: N images, C channels, H height, W width.
"""

import json
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from trainables.data import augment
from trainables.data.batch_random import BatchRandom

NUM_IMAGES = 4096
BATCH = 512
NUM_WORKERS = 2
NUM_ROUNDS = 7
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
AFFINE = Image.Transform.AFFINE

OPERATIONS: list[tuple[Callable[[Image.Image, float], Image.Image], float, float]] = [
    (lambda image, level: image, 0, 0),
    (lambda image, level: ImageOps.autocontrast(image), 0, 0),
    (lambda image, level: ImageOps.equalize(image), 0, 0),
    (lambda image, level: image.rotate(level), -30, 30),
    (lambda image, level: ImageOps.solarize(image, int(level)), 0, 256),
    (lambda image, level: ImageEnhance.Color(image).enhance(level), 0.05, 0.95),
    (lambda image, level: ImageEnhance.Contrast(image).enhance(level), 0.05, 0.95),
    (lambda image, level: ImageEnhance.Brightness(image).enhance(level), 0.05, 0.95),
    (lambda image, level: ImageEnhance.Sharpness(image).enhance(level), 0.05, 0.95),
    (lambda image, level: image.transform(image.size, AFFINE, (1, level, 0, 0, 1, 0)), -0.1, 0.1),
    (lambda image, level: image.transform(image.size, AFFINE, (1, 0, level * image.size[0], 0, 1, 0)), -0.1, 0.1),
    (lambda image, level: image.transform(image.size, AFFINE, (1, 0, 0, 0, 1, level * image.size[1])), -0.1, 0.1),
    (lambda image, level: ImageOps.posterize(image, int(level)), 4, 8),
    (lambda image, level: image.transform(image.size, AFFINE, (1, 0, 0, level, 1, 0)), -0.1, 0.1),
]


class StrongOperations:
    """Four of the fourteen operations, on one Pillow image."""

    def __call__(self, image: Image.Image) -> Image.Image:
        for operation, low, high in random.choices(OPERATIONS, k=4):
            image = operation(image, random.uniform(low, high))
        return image


class Cutout:
    """A box of zeros with a side of at most 16 pixels, in one normalized image."""

    def __call__(self, image_CHW: Tensor) -> Tensor:
        half = random.randint(1, 16) // 2
        y, x = random.randrange(32), random.randrange(32)
        image_CHW[:, max(0, y - half) : y + half, max(0, x - half) : x + half] = 0
        return image_CHW


END = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
BASELINES = {
    "simclr": transforms.Compose(
        [
            transforms.RandomResizedCrop(32, (0.2, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
            transforms.RandomGrayscale(0.2),
            *END,
        ]
    ),
    "scan_strong": transforms.Compose([transforms.RandomHorizontalFlip(), StrongOperations(), *END, Cutout()]),
}


class Images(Dataset[Tensor]):
    """The images one by one, as torchvision's data sets give them."""

    def __init__(self, images_NCHW: Tensor, transform: Callable[[Image.Image], Tensor]) -> None:
        self.images_NHWC = images_NCHW.permute(0, 2, 3, 1).contiguous().numpy()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images_NHWC)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(Image.fromarray(self.images_NHWC[index]))


def pictures() -> Tensor:
    """Smooth color images with some noise: as many grey levels as photographs have."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((NUM_IMAGES, 3, 5, 5), dtype=np.float32))
    smooth_NCHW = torch.nn.functional.interpolate(coarse, (32, 32), mode="bicubic")
    noise_NCHW = torch.from_numpy(rng.normal(0, 0.05, smooth_NCHW.shape).astype(np.float32))
    return ((smooth_NCHW + noise_NCHW) * 255).clamp(0, 255).to(torch.uint8)


def ours(images_NCHW: Tensor, name: str) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    norm = augment.Norm(MEAN, STD)
    for images_BCHW in torch.split(images_NCHW[torch.randperm(NUM_IMAGES, generator=generator)], BATCH):
        yield augment.AUGMENTATIONS[name](images_BCHW, BatchRandom(generator, len(images_BCHW)), norm)


def images_per_s(batches: Iterator[Tensor]) -> float:
    start = time.perf_counter()
    num = sum(len(batch) for batch in batches)
    assert num == NUM_IMAGES
    return num / (time.perf_counter() - start)


def measure(images_NCHW: Tensor, name: str) -> tuple[int, float, float]:
    """The number of threads that suits ours best, and the median images per second of ours with it and of the other."""
    data = Images(images_NCHW, BASELINES[name])
    loader = DataLoader(data, BATCH, shuffle=True, num_workers=NUM_WORKERS, persistent_workers=True)
    mine: dict[int, list[float]] = {1: [], os.cpu_count() or 1: []}
    theirs = []
    for _ in range(NUM_ROUNDS + 1):
        for threads, rates in mine.items():
            torch.set_num_threads(threads)
            rates.append(images_per_s(ours(images_NCHW, name)))
        theirs.append(images_per_s(iter(loader)))
    # The first round starts the workers and fills the caches.
    medians = {threads: statistics.median(rates[1:]) for threads, rates in mine.items()}
    best = max(medians, key=lambda threads: medians[threads])
    return best, medians[best], statistics.median(theirs[1:])


def main() -> None:
    cores = os.cpu_count() or 1
    images_NCHW = pictures()
    results: dict[str, Any] = {}
    for name in BASELINES:
        threads, mine, theirs = measure(images_NCHW, name)
        results[name] = (mine / theirs, mine, theirs)
        print(f"{name}: {mine:,.0f} with {threads} threads against {theirs:,.0f} images/s, ratio {mine / theirs:.1f}")
    name = min(results, key=lambda key: results[key][0])
    ratio, mine, theirs = results[name]
    record = {
        "claim": f"augmentation in batches against torchvision per image, 2 workers ({name}, the slower to gain)",
        "ratio": round(ratio, 2),
        "ours": round(mine),
        "baseline": round(theirs),
        "unit": "images/s",
        "machine": f"{cores} cores, {os.uname().machine}, torch {torch.__version__}",
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
