"""How much memory a trial will need on its device: an estimate before anything runs.

    data         all images as uint8 and their labels as int64, as they lie on the device
    parameters   4 bytes x (value + gradient + 2 moments, as Adam keeps them)
    activations  4 bytes x 2 (value and gradient) x outputs of all layers for one image x images in the largest step,
                 of which each has two views where a stage says nothing else

Of the stages of a pipeline the one that needs most counts: a stage that knows its networks says their size itself
(``sized``), any other trains the backbone of its setting ``network``. Not counted: the CUDA context (about 0.5 GiB),
cuDNN's workspace, what FAISS takes for a search (its own share of a GPU's memory, about 1.5 GiB at most), and buffers
that a method keeps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from trainables.interfaces import DataShape, ImageData, NetworkSize, Stage
from trainables.nets import backbones, sizes

_FLOAT_BYTES = 4
_COPIES = 4  # value, gradient and Adam's two moments
_VIEWS = 2


@dataclass(frozen=True)
class Need:
    """Estimated bytes on the device.

    Attributes:
        network: the backbone's name; empty where no stage of the study trains one.
    """

    network: str
    data: int
    parameters: int
    activations: int

    @property
    def total(self) -> int:
        """All of them, in bytes."""
        return self.data + self.parameters + self.activations


def data_bytes(data: ImageData) -> int:
    """Bytes of the images and labels of all splits on the device.

    A split that is the same as another one counts once; images that are streamed from files do not count.
    """
    splits = [data.train, *([] if data.is_union else [data.eval]), *([data.unlabeled] if data.unlabeled else [])]
    images = [split.images_NCHW for split in splits]
    image_bytes = sum(part.nbytes for part in images if isinstance(part, torch.Tensor))
    return image_bytes + sum(split.labels_N.nbytes for split in splits)


def need(
    stages: Mapping[str, Stage], configs: Mapping[str, Any], data: ImageData, probed: ImageData | None = None
) -> Need:
    """Estimate the memory that one configuration needs.

    Args:
        stages: slot -> stage.
        configs: slot -> Config.
        data: the study's images.
        probed: the probes' images, if they are others.
    """
    lying = data_bytes(data) + (0 if probed is None else data_bytes(probed))
    networks = [
        _size(stages[slot], config, data.shape) for slot, config in configs.items() if hasattr(config, "network")
    ]
    if not networks:
        return Need("", lying, 0, 0)
    images = max(getattr(config, "batch_size", 0) for config in configs.values())
    needs = [
        Need(
            each.name,
            lying,
            _FLOAT_BYTES * _COPIES * each.parameters,
            _FLOAT_BYTES * 2 * each.outputs * (each.images or images * _VIEWS),
        )
        for each in networks
    ]
    return max(needs, key=lambda estimated: estimated.total)


def _size(stage: Stage, config: Any, shape: DataShape) -> NetworkSize:
    """The size that a stage gives; else that of its backbone, with 0 images for the largest batch of all stages."""
    sized = getattr(stage, "sized", None)
    if sized is not None:
        known: NetworkSize = sized(config, shape)
        return known
    network = _network(config, shape)
    return NetworkSize(network, *measured(network, shape), 0)


def _network(config: Any, shape: DataShape) -> str:
    """The backbone of a pretext; a file of weights says itself which one it holds."""
    if hasattr(config, "backbone_name"):
        return str(config.backbone_name(shape))
    return backbones.resolve(config.network, shape)


def measured(network: str, shape: DataShape) -> tuple[int, int]:
    """Count the numbers that a backbone holds, without computing anything.

    Args:
        network: a backbone's name.
        shape: of the data set.

    Returns:
        The number of parameters, and the number of outputs of all layers for one image.
    """
    return sizes.count(
        lambda: backbones.build(network, in_channels=shape.num_channels, image_size_px=shape.image_size_px, seed=0),
        shape,
    )


def rows(needs: Need, gpu_share: float) -> list[str]:
    """The estimate as lines of plain text.

    Args:
        gpu_share: GPUs that one trial reserves; below 1 a line says what the trials on one GPU need together.
    """
    lines = [f"data       {size(needs.data)} on the device (uint8 images, int64 labels)"]
    if needs.network:
        lines.append(
            f"memory     about {size(needs.total)} a process: {size(needs.data)} data + {size(needs.parameters)} "
            f"parameters of {needs.network} (value, gradient, Adam's moments) + {size(needs.activations)} activations "
            "(layers' outputs x 2 x images and their views x 4 B); CUDA's own 0.5 GiB and FAISS come on top"
        )
    if 0 < gpu_share < 1:
        together = int(1 / gpu_share + 1e-9)
        lines.append(f"a GPU      carries {together} trials at once: about {size(together * needs.total)}")
    return lines


def size(count: float) -> str:
    """A number of bytes as text with a unit: B, KiB, MiB or GiB."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
