"""What an epoch of UAD with fused features takes in memory, on 100,000 color images of 64 px.

Run: python -m benchmarks.uad_memory [--images 100000]          (an hour on two cores)

One process: images on the device as uint8, features of all of them, PCA fitted on a stream of batches, k-means into
1,000 clusters, and a pass of training with uncertainty weights. Eight low-level channels of 33 x 33 places beside 512
high-level values make rows of 9,224; AlexNet's are 9,928 wide. The ratio is 8 GB over the peak of
the process; ``whole_matrix_gb`` is what the fused matrix alone would take, which never exists here.
"""

import argparse
import json
import os
import resource
import time

import numpy as np
import torch

from trainables.interfaces import DataShape, ImageData, Split
from trainables.nets import feature_maps
from trainables.runner.runtime import local
from trainables.settings import build
from trainables.stages import uad

LIMIT_GB, SIZE_PX, NETWORK, LOW_CHANNELS = 8.0, 64, "resnet18_tiny", 8


def noise(num_images: int) -> ImageData:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (num_images, 3, SIZE_PX, SIZE_PX), generator=generator, dtype=torch.uint8)
    train = Split(images, torch.arange(num_images) % 200)
    judged = Split(images[:1000], train.labels_N[:1000])
    return ImageData("noise", train, judged, tuple(map(str, range(200))), (0.5,) * 3, (0.3,) * 3, "noise")


def row_width(config: uad.Config, shape: DataShape) -> int:
    found = feature_maps.shapes(NETWORK, shape, config.sobel)
    _, height, width = found[config.low_level_source]
    return config.low_level_channels * height * width + int(np.prod(found["top"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    args = parser.parse_args()
    data = noise(args.images)
    config = build(
        uad.Config,
        {
            "network": NETWORK,
            "low_level_channels": LOW_CHANNELS,
            "num_clusters": 1000,
            "clustering.incremental_pca": True,
            "epochs": 2,
        },
    )
    started = time.perf_counter()
    for epoch in uad.train(config, data, {}, local(threads=os.cpu_count() or 1)):
        print({name: round(value, 4) for name, value in epoch.metrics.items()}, flush=True)
        break  # The next step would cluster and judge once more.
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    width = row_width(config, data.shape)
    record = {
        "claim": f"an epoch of UAD with fused rows of {width:,} on {args.images:,} images of {SIZE_PX} px, below 8 GB",
        "ratio": round(LIMIT_GB / peak_gb, 2),
        "ours": round(peak_gb, 2),
        "baseline": LIMIT_GB,
        "unit": "GB",
        "whole_matrix_gb": round(args.images * width * 4 / 1e9, 2),
        "epoch_s": round(time.perf_counter() - started),
        "machine": f"{os.cpu_count()} cores, {os.uname().machine}, torch {torch.__version__}",
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
