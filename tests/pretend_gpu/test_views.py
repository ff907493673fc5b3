"""Views made on the pretend GPU are those of the CPU, where GPUs take another way to them."""

import pytest
import torch
from torch import Tensor

from tests.pretend_gpu.counts import Counts
from tests.pretend_gpu.device import to_cpu
from trainables.data import augment, multicrop, view_batches
from trainables.data.batch_random import BatchRandom
from trainables.interfaces import Batch

NORMS = {1: augment.Norm((0.4,), (0.2,)), 3: augment.Norm((0.4, 0.5, 0.3), (0.2, 0.3, 0.25))}
CUDA = torch.device("cuda")


def images(num: int, channels: int, size_px: int) -> Tensor:
    seeded = torch.Generator().manual_seed(7)
    images_BCHW = torch.randint(0, 256, (num, channels, size_px, size_px), generator=seeded, dtype=torch.uint8)
    images_BCHW[0] = 0
    images_BCHW[1] = 255
    images_BCHW[2, -1] = images_BCHW[2, 0]  # ties of the largest channel
    return images_BCHW


def draws(device: str, num: int) -> BatchRandom:
    return BatchRandom(torch.Generator(device).manual_seed(3), num)


@pytest.mark.parametrize("size_px", [8, 33])
@pytest.mark.parametrize("channels", NORMS)
@pytest.mark.parametrize("name", augment.AUGMENTATIONS)
def test_an_augmentation_gives_the_views_of_the_cpu(gpu: Counts, name: str, channels: int, size_px: int) -> None:
    view, images_BCHW = augment.AUGMENTATIONS[name], images(37, channels, size_px)
    expected = view(images_BCHW, draws("cpu", 37), NORMS[channels])
    found = view(images_BCHW.to(CUDA), draws("cuda", 37), NORMS[channels])
    torch.testing.assert_close(to_cpu(found), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("channels", NORMS)
def test_small_crops_are_those_of_the_cpu(gpu: Counts, channels: int) -> None:
    crop, images_BCHW = multicrop.Crop(16, (0.05, 0.2)), images(9, channels, 33)
    expected = multicrop.view(images_BCHW, draws("cpu", 9), NORMS[channels], crop)
    found = multicrop.view(images_BCHW.to(CUDA), draws("cuda", 9), NORMS[channels], crop)
    torch.testing.assert_close(to_cpu(found), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", augment.AUGMENTATIONS)
def test_all_views_of_a_step_are_those_of_the_cpu(gpu: Counts, name: str) -> None:
    images_NCHW = images(12, 3, 16)

    def made(images: Tensor, device: str) -> list[Tensor]:
        batches = [Batch(torch.arange(4, device=device) + first, 0, 4) for first in (0, 4, 8)]
        steps = view_batches.of_batches(
            batches,
            images,
            lambda part, numbers: augment.AUGMENTATIONS[name](part, numbers, NORMS[3]),
            torch.Generator(device).manual_seed(1),
            times=2,
            at_once=name in augment.DRAWN_AT_ONCE,
        )
        return [view for _, step in steps for view in step.views]

    for found, expected in zip(made(images_NCHW.to(CUDA), "cuda"), made(images_NCHW, "cpu"), strict=True):
        torch.testing.assert_close(to_cpu(found), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["standard", "simclr", "spc_weak", "simgcd", "affine", "keras_like"])
def test_views_are_made_without_a_wait(gpu: Counts, name: str) -> None:
    images_BCHW, numbers = images(6, 3, 16).to(CUDA), draws("cuda", 6)
    augment.AUGMENTATIONS[name](images_BCHW, numbers, NORMS[3])  # sends its constants
    gpu.clear()
    augment.AUGMENTATIONS[name](images_BCHW, numbers, NORMS[3])
    assert not gpu.waits
