"""Settings for a folder of images on this machine: SimCLR, then SCAN and self-labeling, chosen without a label.

Source: SCAN (Van Gansbeke et al. 2020). Differs where its numbers are for 50,000 images and a GPU: epochs
are counted in steps, so that a small folder has as many as a large one; views of gray images keep their strokes.
"""

from dataclasses import dataclass

from .survey import Survey

DEFAULT_CLUSTERS = 10
PRETEXT_STEPS, SCAN_STEPS, SELFLABEL_STEPS = 2_200, 320, 120
"""Steps on a CPU that gave good clusters of a thousand digits; see the page's comments."""
GPU_FACTOR = 8
"""How many times as many steps on a GPU, where a step takes a hundredth of the time."""
SIDES_PX = (32, 64, 96, 256)
"""Sides that networks for a GPU are made for, see ``backbones.AUTO``; of 256 px they see 224 px."""
CPU_GRAY_PX, CPU_COLOR_PX = 28, 32
LEAST_SIDE_PX = 8
LEAST_IMAGES = 40
_LEAST_BATCH, _CPU_BATCH, _GPU_BATCH = 16, 128, 512
_MOST_EPOCHS = 500


@dataclass(frozen=True)
class Machine:
    """num_cpus: of this machine. has_gpu: whether torch sees one."""

    num_cpus: int
    has_gpu: bool


@dataclass(frozen=True)
class Recipe:
    """The settings that depend on the folder or on the machine; see ``page`` for what they become."""

    num_clusters: int
    image_size_px: int
    network: str
    augmentation: str
    batch_size: int
    pretext_epochs: int
    num_neighbors: int
    scan_epochs: int
    selflabel_epochs: int
    seeds: tuple[int, ...]
    gpu: bool


def chosen(survey: Survey, machine: Machine, num_clusters: int = 0) -> Recipe:
    """Choose settings.

    Args:
        num_clusters: 0 takes the number of class folders, or else ``DEFAULT_CLUSTERS``.

    Raises:
        ValueError: too few images, or more clusters than they are enough for. A sentence for the user.
    """
    num = survey.num_images
    if num < LEAST_IMAGES:
        raise ValueError(f"{survey.root} holds {num} images, but clustering needs at least {LEAST_IMAGES}. Add images.")
    clusters = num_clusters or len(survey.class_folders) or DEFAULT_CLUSTERS
    if not 2 <= clusters <= num // 4:
        raise ValueError(
            f"--clusters must be 2 to {num // 4} for {num} images (at least four in each), but is {clusters}."
        )
    batch_size = _GPU_BATCH if machine.has_gpu else _CPU_BATCH
    while batch_size > _LEAST_BATCH and batch_size * 4 > num:
        batch_size //= 2
    steps = num // batch_size
    more = GPU_FACTOR if machine.has_gpu else 1
    return Recipe(
        num_clusters=clusters,
        image_size_px=_side_px(survey, machine),
        network="auto" if machine.has_gpu else "small",
        augmentation="affine" if survey.is_gray else "simclr",
        batch_size=batch_size,
        pretext_epochs=_epochs(PRETEXT_STEPS * more, steps, least=20),
        # A tenth of what a cluster would hold: neighbors further away are of other clusters.
        num_neighbors=max(2, min(20, num // (10 * clusters))),
        scan_epochs=_epochs(SCAN_STEPS * more, steps, least=10),
        selflabel_epochs=_epochs(SELFLABEL_STEPS * more, steps, least=5),
        seeds=tuple(range(2 if machine.has_gpu else min(3, max(2, machine.num_cpus)))),
        gpu=machine.has_gpu,
    )


def _epochs(num_steps: int, steps_of_epoch: int, least: int) -> int:
    return max(least, min(_MOST_EPOCHS, round(num_steps / steps_of_epoch)))


def _side_px(survey: Survey, machine: Machine) -> int:
    """The side that images are brought to: on a GPU the largest that is not above theirs, on a CPU a small one."""
    if machine.has_gpu and survey.side_px >= SIDES_PX[0]:
        return max(side for side in SIDES_PX if side <= survey.side_px)
    most = CPU_GRAY_PX if survey.is_gray else CPU_COLOR_PX
    return max(LEAST_SIDE_PX, min(most, survey.side_px))
