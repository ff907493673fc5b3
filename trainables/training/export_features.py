"""Features of a data set's images by a backbone from a file, written as a matrix that DEC takes as its data set.

    python -m trainables.training.export_features --dataset stl10 --root data --checkpoint resnet50.pth \
        --network resnet50 --image-size 224 --out data/stl10_resnet50.npz

The alternating-normalization paper feeds DEC with 2,048 features of a ResNet-50 that was trained on ImageNet with
labels: the checkpoint is torchvision's. Images are resized by a cubic kernel and normalized as ImageNet's, as that
network knows them. With ``--protocol union`` the file has the arrays features and labels of all labeled images,
otherwise train, eval and their labels (see ``data.features``).

Axes: N images, D features.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..data import datasets
from ..data.loaded import DataError
from ..interfaces import ImageData
from ..nets import backbones, checkpoints, models
from ..settings import SettingsError

WRONG = 2


def features(data: ImageData, checkpoint: Path, network: str, device: torch.device) -> dict[str, NDArray[np.generic]]:
    """The arrays of the file.

    Args:
        data: uint8 images of three channels.
        checkpoint: a file in a layout that ``nets.checkpoints`` reads.
        network: a name of ``nets.backbones``.

    Returns:
        features (N, D) float32 and labels (N,) int64 under ``protocol: union``; otherwise train, train_labels, eval and
        eval_labels.

    Raises:
        CheckpointError: the file does not fit the network. ValueError: the network does not fit the images' size.
    """
    shape = data.shape
    backbone = backbones.build(network, in_channels=shape.num_channels, image_size_px=shape.image_size_px, seed=0)
    backbone.load_state_dict(checkpoints.backbone_weights(checkpoint, network, shape))
    backbone.to(device)
    parts = {"features": data.train} if data.is_union else {"train": data.train, "eval": data.eval}
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, part in parts.items():
        arrays[name] = models.predict(backbone, part.images_NCHW, data.mean, data.std, batch_size=128).cpu().numpy()
        arrays["labels" if data.is_union else f"{name}_labels"] = part.labels_N.cpu().numpy()
    return arrays


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file. Returns the exit code: 0, or 2 where something that was asked for cannot be."""
    parser = argparse.ArgumentParser(
        prog="python -m trainables.training.export_features",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dataset", required=True, help="name of a data set, as in a study file")
    parser.add_argument("--root", default="data", help="where its files are")
    parser.add_argument("--protocol", default="union", help="union (default) or split")
    parser.add_argument("--checkpoint", required=True, type=Path, help="file of the backbone's weights")
    parser.add_argument("--network", default="resnet50", help="the backbone: " + ", ".join(backbones.BACKBONES))
    parser.add_argument("--image-size", type=int, default=224, help="side to which images are resized, in px")
    parser.add_argument("--out", required=True, type=Path, help="the .npz file to write")
    given = parser.parse_args(arguments)
    try:
        if given.network not in backbones.BACKBONES:
            raise ValueError(f"--network must be one of {', '.join(backbones.BACKBONES)}, but is {given.network!r}.")
        spec = datasets.Spec(
            name=given.dataset, root=given.root, protocol=given.protocol, image_size=given.image_size,
            resize="bicubic", normalization="imagenet", unlabeled=False,
        )  # fmt: skip
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        arrays = features(datasets.load(spec), given.checkpoint, given.network, device)
        given.out.parent.mkdir(parents=True, exist_ok=True)
        np.savez(given.out, **arrays)  # type: ignore[arg-type]
    except (DataError, SettingsError, checkpoints.CheckpointError, ValueError, OSError) as error:
        print(f"nothing was written: {error}", file=sys.stderr)
        return WRONG
    shown = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    print(f"{given.out}: {shown}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
