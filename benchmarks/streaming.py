"""How many images a second come out of JPEG files as augmented batches, against torchvision's own loader.

Run: python -m benchmarks.streaming [--images 2000]          (20,000 images: about a quarter of an hour)

Both sides read the same files of 256 x 256 px and end at normalized float32 batches of 256 views of 224 x 224 px, with
the same augmentation. Baseline: ``ImageFolder`` and a DataLoader with two worker processes, and Pillow's transforms for
each image. Ours: two processes that decode ahead, and ``augment`` on whole batches here, on the GPU or by two threads.
Passes after the first read what it decoded and kept (``trainables/data/decoding/cache.py``), as every epoch and trial
after the first does; the "first pass" keeps nothing, and decodes each image as the baseline does.
"standard" is a random resized crop and mirroring; "simclr" adds color jitter and grey; "2 views" takes each image
twice, as contrastive pretexts do. Rounds alternate between the two sides, so that a busy machine slows both.

Without a GPU our augmentation takes as much of the cores as decoding does; with one, decoding alone is left to them.

The pictures are made here: noise whose amplitude falls with the frequency, as in photographs (1/f), mostly common to
the three channels; at quality 90 a file has about 38 kB, like a photograph of this size. There are ``--distinct``
pictures, each written several times under names of its own.
Axes: H height, W width, C channels, B images of a batch.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from trainables.data import augment, batches, datasets
from trainables.data.batch_random import BatchRandom

SIZE_PX, VIEW_PX = 256, 224
BATCH = 256
NUM_WORKERS = 2
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CASES = {"standard": ("standard", 1), "standard, 2 views": ("standard", 2), "simclr": ("simclr", 1)}
PASSES = {"first pass": False, "later passes": True}

END = [transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
BASELINES = {
    "standard": transforms.Compose([transforms.RandomResizedCrop(VIEW_PX), *END]),
    "simclr": transforms.Compose(
        [
            transforms.RandomResizedCrop(VIEW_PX, (0.2, 1.0)),
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
            transforms.RandomGrayscale(0.2),
            *END,
        ]
    ),
}


class Views:
    """Several views of one Pillow image."""

    def __init__(self, view: Callable[[Image.Image], Tensor], count: int) -> None:
        self.view = view
        self.count = count

    def __call__(self, image: Image.Image) -> list[Tensor]:
        return [self.view(image) for _ in range(self.count)]


def picture(rng: np.random.Generator) -> NDArray[np.uint8]:
    """(H, W, C)"""
    square_HF = np.fft.fftfreq(SIZE_PX)[:, None] ** 2 + np.fft.rfftfreq(SIZE_PX)[None] ** 2
    square_HF[0, 0] = 1
    noise_CHF = rng.normal(size=(3, *square_HF.shape)) + 1j * rng.normal(size=(3, *square_HF.shape))
    image_CHW = np.fft.irfft2(noise_CHF / square_HF**0.55, s=(SIZE_PX, SIZE_PX))
    image_CHW[1:] = 0.8 * image_CHW[:1] + 0.2 * image_CHW[1:]
    image_CHW = (image_CHW - image_CHW.mean()) / image_CHW.std()
    levels_HWC: NDArray[np.uint8] = np.clip(image_CHW * 50 + 120, 0, 255).astype(np.uint8).transpose(1, 2, 0)
    return levels_HWC


def write_pictures(root: Path, num_images: int, num_distinct: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(num_images):
        path = root / "train" / f"class{number % 10}" / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < num_distinct:
            Image.fromarray(picture(rng)).save(path, quality=90)
        else:
            first = number % num_distinct
            path.write_bytes((root / "train" / f"class{first % 10}" / f"{first:05}.jpg").read_bytes())


def ours(split: Any, name: str, num_views: int) -> Iterator[int]:
    generator = torch.Generator(DEVICE).manual_seed(0)
    norm, view = augment.Norm(MEAN, STD), augment.AUGMENTATIONS[name]
    for batch in batches.batches(split, BATCH, generator, rank=0, world_size=1, drop_last=False):
        images_BCHW = split.images_NCHW[batch.rows_B]
        for _ in range(num_views):
            yield _counted(view(images_BCHW, BatchRandom(generator, len(images_BCHW)), norm))


def theirs(loader: "DataLoader[Any]") -> Iterator[int]:
    for views, _ in loader:
        for images_BCHW in views:
            yield _counted(images_BCHW.to(DEVICE))


def _counted(images_BCHW: Tensor) -> int:
    assert images_BCHW.dtype == torch.float32 and images_BCHW.shape[1:] == (3, VIEW_PX, VIEW_PX)
    return len(images_BCHW)


def images_per_s(counts: Iterator[int], num_views: int) -> float:
    start = time.perf_counter()
    num = sum(counts) / num_views
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return num / (time.perf_counter() - start)


def measure(root: Path, name: str, num_views: int, num_rounds: int, keep: bool) -> tuple[float, float]:
    """Median images per second, ours and the baseline's; ``keep``: after a pass that kept the decoded images."""
    spec = datasets.Spec(
        name="folder", root=str(root), image_size=SIZE_PX, stream="always", protocol="union", keep_decoded=keep
    )
    split = datasets.load(spec, DEVICE).train.to(DEVICE)
    split.images_NCHW.decoders.num_workers = NUM_WORKERS  # type: ignore[attr-defined]
    data = ImageFolder(str(root / "train"), Views(BASELINES[name], num_views))
    loader = DataLoader(data, BATCH, shuffle=True, num_workers=NUM_WORKERS, persistent_workers=True)
    # Both sides start their processes before the clock does.
    split.images_NCHW[:BATCH]
    rates = []
    for _ in range(num_rounds + 1):
        rates.append((images_per_s(ours(split, name, num_views), num_views), images_per_s(theirs(loader), num_views)))
    mine, others = zip(*rates[1:], strict=True)
    return statistics.median(mine), statistics.median(others)


def main() -> None:
    parse = argparse.ArgumentParser(description="Images a second out of files, against torchvision's loader.")
    parse.add_argument("--images", type=int, default=20_000, help="files to read in a round (2000: a quick look)")
    parse.add_argument("--distinct", type=int, default=500, help="different pictures among them")
    parse.add_argument("--rounds", type=int, default=3, help="rounds counted, after one that is not")
    given = parse.parse_args()
    results: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory(prefix="streaming-") as folder:
        # The kept images lie there too, and go with it.
        tempfile.tempdir = folder
        write_pictures(Path(folder), given.images, min(given.distinct, given.images))
        for case, (name, num_views) in CASES.items():
            for when, keep in PASSES.items():
                mine, others = measure(Path(folder), name, num_views, given.rounds, keep)
                results[f"{case}, {when}"] = mine, others
                print(
                    f"{case}, {when}: {mine:,.0f} against {others:,.0f} images/s, ratio {mine / others:.2f}", flush=True
                )
    mine, others = results["standard, later passes"]
    record = {
        "claim": f"{given.images:,} JPEGs of {SIZE_PX} px as augmented batches against ImageFolder and DataLoader,"
        f" {NUM_WORKERS} processes each (standard, 1 view, passes after the first)",
        "ratio": round(mine / others, 2),
        "ours": round(mine),
        "baseline": round(others),
        "unit": "images/s",
        "ratios": {case: round(one / other, 2) for case, (one, other) in results.items()},
        "machine": f"{os.cpu_count() or 1} cores, {DEVICE.type}, {os.uname().machine}, torch {torch.__version__}",
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
