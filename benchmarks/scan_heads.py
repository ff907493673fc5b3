"""What training SCAN's heads on stored features saves against passing every image through the frozen network.

Run: python -m benchmarks.scan_heads [--small]      (from the repository's root; minutes on two cores)

Both sides are the same stage with the same settings: ten heads of ten clusters, ``update_head_only: true``, Adam,
batches of 128, one of 20 neighbors an image, 100 epochs over 50,000 made-up images. The plain view of an image is the
same in every epoch, so its features are too.

    ours       ``augmentation: eval``: 100 epochs on 50,000 x 512 features, run in full, with each evaluation
               in it; to that is added one pass of ResNet-18 at 32 px over all images, where features come from
    baseline   the same plain view, registered under another name, so that every step passes its anchors and neighbors
               through the frozen ResNet-18

The pass and the baseline are extrapolated: both cost the same for every image, so they are timed on 1,024 images and
multiplied (the baseline also from one epoch to 100). Ours alone is never extrapolated but for that one pass.
``--small``: 2,000 images and 5 epochs, to see that it runs.
"""

import argparse
import json
import os
import platform
import time
from typing import Any

import torch

from trainables.data import augment
from trainables.interfaces import ImageData, Result, Split
from trainables.nets import backbones, models
from trainables.runner.runtime import SingleProcess, StageRuntime
from trainables.stages import scan
from trainables.vector_search.faiss_search import FaissSearch

NUM_NEIGHBORS = 20
NUM_JUDGED = 256
NUM_TIMED = 1024
"""Images on which the network is timed."""


def made_up(num_images: int, network: str, size_px: int) -> tuple[ImageData, dict[str, Result]]:
    """Images, an untrained network and a table of random neighbors: the cost does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    images_NCHW = torch.randint(0, 256, (num_images, 3, size_px, size_px), generator=generator).to(torch.uint8)
    train, judged = (
        Split(images_NCHW, torch.arange(num_images) % 10),
        Split(images_NCHW[:NUM_JUDGED], torch.arange(NUM_JUDGED) % 10),
    )
    names = tuple(map(str, range(10)))
    data = ImageData("made up", train, judged, names, (0.5,) * 3, (0.3,) * 3, "made up")
    backbone = backbones.build(network, in_channels=3, image_size_px=size_px, seed=0)
    tables = {
        "neighbors_train": torch.randint(num_images, (num_images, NUM_NEIGHBORS + 1), generator=generator).numpy(),
        "neighbors_eval": torch.randint(NUM_JUDGED, (NUM_JUDGED, 6), generator=generator).numpy(),
    }
    pretext = Result(weights={"backbone": backbone.state_dict()}, facts={"network": network})
    return data, {"pretext": pretext, "neighbors": Result(arrays=tables)}


def seconds(config: scan.Config, data: ImageData, inputs: dict[str, Result]) -> float:
    """What the epochs took, as the stage reports it."""
    runtime = StageRuntime(SingleProcess(torch.device("cpu")), scan.NAMESPACE, 0, FaissSearch(1), None)
    return sum(epoch.metrics["epoch_seconds"] for epoch in scan.train(config, data, inputs, runtime))


def pass_seconds(data: ImageData) -> float:
    """One pass of ResNet-18 over the training images."""
    backbone = backbones.build("resnet18_cifar", in_channels=3, image_size_px=32, seed=0)
    started = time.perf_counter()
    models.predict(backbone, data.train.images_NCHW, data.mean, data.std)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="2,000 images and 5 epochs")
    small = parser.parse_args().small
    num_images, num_epochs = (2_000, 5) if small else (50_000, 100)
    augment.AUGMENTATIONS = {**augment.AUGMENTATIONS, "standard": augment.AUGMENTATIONS["eval"]}
    settings: dict[str, Any] = {"update_head_only": True, "num_heads": 10, "num_neighbors": NUM_NEIGHBORS}
    timed, timed_inputs = made_up(NUM_TIMED, "resnet18_cifar", 32)
    share = num_images / NUM_TIMED
    pass_s = pass_seconds(timed) * share
    epoch_s = seconds(scan.Config(**settings, augmentation="standard", epochs=1), timed, timed_inputs) * share
    # The heads see 512 numbers an image; which network they came from changes nothing, so the smallest one gives them.
    heads_s = seconds(scan.Config(**settings, augmentation="eval", epochs=num_epochs), *made_up(num_images, "small", 8))
    ours_s, baseline_s = pass_s + heads_s, epoch_s * num_epochs
    print(f"whole network  {baseline_s:10.1f} s, extrapolated: {num_epochs} epochs of {epoch_s:.1f} s")
    print(f"features once  {ours_s:10.1f} s: {heads_s:.1f} s of epochs, one pass of {pass_s:.1f} s (extrapolated)")
    record = {
        "claim": f"ten SCAN heads on {num_images:,} x 512 features, {num_epochs} epochs, against the frozen ResNet-18",
        "ratio": round(baseline_s / ours_s, 2),
        "ours": round(ours_s, 1),
        "baseline": round(baseline_s, 1),
        "unit": "s",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}",
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
