"""``platform.assign`` on images in files, against the same network on images that lie decoded in memory.

Run: python -m benchmarks.assign [--images 10000] [--network resnet18_cifar]

Ours reads PNG files of 32 px, decoded by other processes ahead of the network, and takes the best two clusters of each
image. The baseline is the forward pass alone. Target: at least 80 % of its rate.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from trainables.inference import folder, predict
from trainables.inference.model_input import ModelInput
from trainables.maths.assignments import top_two
from trainables.nets import backbones, models

SIZE_PX, NUM_CLUSTERS = 32, 10
MEAN, STD = (0.5,) * 3, (0.25,) * 3


def draw_files(root: Path, num_images: int) -> None:
    """PNG files that compress about as photographs do."""
    random = np.random.default_rng(0)
    for number in range(num_images):
        coarse_HWC = random.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        image = Image.fromarray(coarse_HWC).resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC)
        image.save(root / f"{number:06d}.png")


def classifier(network: str) -> models.ClusterClassifier:
    """An untrained model, which is as fast as a trained one."""
    backbone = backbones.build(network, in_channels=3, image_size_px=SIZE_PX, seed=0)
    return models.ClusterClassifier(backbone, torch.nn.Linear(backbone.width, NUM_CLUSTERS), MEAN, STD)


def forward_s(model: models.ClusterClassifier, images_NCHW: torch.Tensor) -> float:
    """Seconds of the forward pass alone."""
    started = time.perf_counter()
    predict.probabilities(model, images_NCHW)
    return time.perf_counter() - started


def assign_s(model: models.ClusterClassifier, root: Path, wanted: ModelInput) -> float:
    """Seconds from a folder's name to the clusters of its images."""
    started = time.perf_counter()
    images = folder.read(root, wanted)
    top_two(predict.probabilities(model, images.images_NCHW))
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--network", default="resnet18_cifar", help="auto's choice for 32 px")
    args = parser.parse_args()
    model, wanted = classifier(args.network), ModelInput(3, SIZE_PX, MEAN, STD, resized=True)
    with tempfile.TemporaryDirectory(prefix="clustersweep-") as scratch:
        root = Path(scratch)
        draw_files(root, args.images)
        images_NCHW = folder.read(root, wanted).images_NCHW[:].contiguous()
        forward_s(model, images_NCHW[:512])  # warms up
        # Before and after, so that a machine that becomes busy burdens both alike.
        before_s = forward_s(model, images_NCHW)
        ours_s = assign_s(model, root, wanted)
        baseline_s = (before_s + forward_s(model, images_NCHW)) / 2
    rates = [args.images / seconds for seconds in (ours_s, baseline_s)]
    record = {
        "claim": f"{args.images:,} PNG files of {SIZE_PX} px by {args.network}, against its forward pass alone",
        "ratio": round(rates[0] / rates[1], 2),
        "ours": round(rates[0]),
        "baseline": round(rates[1]),
        "unit": "images/s",
        "machine": f"{os.cpu_count()} cores, {os.uname().machine}, torch {torch.__version__}",
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
