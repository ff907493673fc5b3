"""Training loops as they are usually written in plain PyTorch: the baselines of ``steps.py``.

Each image is a Pillow image that torchvision's transforms change in one of two worker processes of a DataLoader; the
loop reads the loss after every step. Networks, optimizers, batches and the family of each augmentation are those that
our stage trains with, so that the data's way and the loop are what differs.

Axes: N images, B images of a batch, O of an outer batch, C clusters or channels, D feature width, H height, W width,
K neighbors or prototypes, M rows of both views, P partners, X confident images.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.augment import BASELINES as AUGMENTATIONS
from benchmarks.augment import END

NUM_WORKERS = 2
View = Callable[[Image.Image], Tensor]


class ChannelShift:
    """Another brightness for each channel, inside the range of the image, and all of it a little darker."""

    def __call__(self, image_CHW: Tensor) -> Tensor:
        shift_C11 = torch.empty(len(image_CHW), 1, 1).uniform_(-0.1, 0.1)
        return (image_CHW + shift_C11).clamp(image_CHW.min(), image_CHW.max()) * 0.95


SIMCLR = AUGMENTATIONS["simclr"]
STRONG = AUGMENTATIONS["scan_strong"]
WEAK = transforms.Compose(END)
SWAV = transforms.Compose(
    [
        transforms.RandomResizedCrop(32, (0.08, 1.0)),
        transforms.RandomHorizontalFlip(),
        transforms.RandomApply([transforms.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
        transforms.RandomGrayscale(0.2),
        *END,
    ]
)
KERAS = transforms.Compose(
    [
        transforms.RandomAffine(20, (0.18, 0.18), (0.85, 1.15), interpolation=transforms.InterpolationMode.BILINEAR),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        ChannelShift(),
    ]
)


def usual(model: nn.Module) -> nn.Module:
    """The network as PyTorch lays one out in memory: channels before rows and columns."""
    return model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload, no-any-return]


class Views(Dataset[tuple[list[Tensor], int]]):
    """(views, row) of one image; with a table of neighbors the second view is of one of them."""

    def __init__(
        self, images_NCHW: Tensor, views: Sequence[View], neighbors_NK: NDArray[np.int64] | None = None
    ) -> None:
        self.images_NHWC = images_NCHW.permute(0, 2, 3, 1).contiguous().numpy()
        self.views = views
        self.neighbors_NK = neighbors_NK

    def __len__(self) -> int:
        return len(self.images_NHWC)

    def __getitem__(self, row: int) -> tuple[list[Tensor], int]:
        rows = [row] * len(self.views)
        if self.neighbors_NK is not None:
            rows[1] = int(random.choice(self.neighbors_NK[row]))
        images = [Image.fromarray(self.images_NHWC[each]) for each in rows]
        return [view(image) for view, image in zip(self.views, images, strict=True)], row


@dataclass
class Listed:
    """A batch sampler whose batches are given for each epoch."""

    batches: list[list[int]] = field(default_factory=list)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


@dataclass(frozen=True)
class Seen:
    """What an epoch did: images that were trained on, and the mean loss."""

    num_images: int
    loss: float


@dataclass
class Loop:
    """A loader and the step on a batch of it; ``epoch`` is what is timed. per_image: images counted for each row."""

    loader: DataLoader[tuple[list[Tensor], int]]
    step: Callable[[list[Tensor], Tensor], Tensor]
    optimizer: Optimizer

    def epoch(self) -> Seen:
        num, losses = 0, []
        for views, rows_B in self.loader:
            loss = self.step(views, rows_B)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
            num += len(rows_B)
        return Seen(num, sum(losses) / len(losses))


def loader(data: Views, batch_size: int) -> DataLoader[tuple[list[Tensor], int]]:
    return DataLoader(data, batch_size, shuffle=True, drop_last=True, num_workers=NUM_WORKERS, persistent_workers=True)


def info_nce(z0_BD: Tensor, z1_BD: Tensor, temperature: float) -> Tensor:
    """Each first view looks for its second among all rows but itself."""
    scores_BM = torch.cat([z0_BD @ z0_BD.T, z0_BD @ z1_BD.T], dim=1) / temperature
    scores_BM[:, : len(z0_BD)].fill_diagonal_(float("-inf"))
    return functional.cross_entropy(scores_BM, torch.arange(len(z0_BD)) + len(z0_BD))


def neighbor_loss(anchor_BC: Tensor, neighbor_BC: Tensor, entropy_weight: float) -> Tensor:
    """SCAN Eq. 2: an image and its neighbor agree, the mean prediction is spread."""
    p_BC, q_BC = anchor_BC.softmax(1), neighbor_BC.softmax(1)
    mean_C = p_BC.mean(0).clamp(min=1e-8)
    return -(p_BC * q_BC).sum(1).log().mean() + entropy_weight * (mean_C * mean_C.log()).sum()


def self_label_loss(weak_BC: Tensor, strong_BC: Tensor, threshold: float) -> Tensor:
    """SCAN Eq. 3 with balanced classes, on the confident images alone."""
    confidence_B, label_B = weak_BC.max(1)
    chosen_B = confidence_B > threshold
    label_X, logits_XC = label_B[chosen_B], strong_BC[chosen_B]
    found, counts = torch.unique(label_X, return_counts=True)
    weight_C = torch.ones(strong_BC.shape[1])
    weight_C[found] = len(label_X) / counts.float()
    return functional.cross_entropy(logits_XC, label_X, weight=weight_C)


def codes(scores_BK: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Sinkhorn-Knopp on the exponentials themselves (SwAV, appendix A)."""
    q_KB = torch.exp(scores_BK / epsilon).T
    q_KB /= q_KB.sum()
    for _ in range(iterations):
        q_KB /= q_KB.sum(1, keepdim=True) * len(q_KB)
        q_KB /= q_KB.sum(0, keepdim=True) * q_KB.shape[1]
    return (q_KB * q_KB.shape[1]).T


def swapped_loss(scores: tuple[Tensor, Tensor], epsilon: float, iterations: int, temperature: float) -> Tensor:
    """SwAV Eq. 2 with two crops."""
    total = scores[0].new_zeros(())
    for own, other in ((0, 1), (1, 0)):
        target_BK = codes(scores[own].detach(), epsilon, iterations)
        total = total - (target_BK * functional.log_softmax(scores[other] / temperature, dim=1)).sum(1).mean()
    return total / 2


def simclr(images_NCHW: Tensor, model: nn.Module, optimizer: Optimizer, batch_size: int, temperature: float) -> Loop:
    def step(views: list[Tensor], rows_B: Tensor) -> Tensor:
        z0_BD, z1_BD = model(torch.cat(views)).chunk(2)
        return info_nce(z0_BD, z1_BD, temperature)

    return Loop(loader(Views(images_NCHW, [SIMCLR, SIMCLR]), batch_size), step, optimizer)


def scan(
    images_NCHW: Tensor,
    neighbors_NK: NDArray[np.int64],
    model: nn.Module,
    optimizer: Optimizer,
    batch_size: int,
    entropy_weight: float,
) -> Loop:
    def step(views: list[Tensor], rows_B: Tensor) -> Tensor:
        anchor_BC, neighbor_BC = (model(view)[0] for view in views)
        return neighbor_loss(anchor_BC, neighbor_BC, entropy_weight)

    return Loop(loader(Views(images_NCHW, [STRONG, STRONG], neighbors_NK), batch_size), step, optimizer)


def self_label(images_NCHW: Tensor, model: nn.Module, optimizer: Optimizer, batch_size: int, threshold: float) -> Loop:
    def step(views: list[Tensor], rows_B: Tensor) -> Tensor:
        with torch.no_grad():
            weak_BC = model(views[0])[0].softmax(1)
        return self_label_loss(weak_BC, model(views[1])[0], threshold)

    return Loop(loader(Views(images_NCHW, [WEAK, STRONG]), batch_size), step, optimizer)


@dataclass(frozen=True)
class Sinkhorn:
    """SwAV's numbers."""

    epsilon: float
    iterations: int
    temperature: float


def swav(images_NCHW: Tensor, model: nn.Module, optimizer: Optimizer, batch_size: int, numbers: Sinkhorn) -> Loop:
    def step(views: list[Tensor], rows_B: Tensor) -> Tensor:
        with torch.no_grad():
            weight_KD: Tensor = model.prototypes.weight  # type: ignore[union-attr, assignment]
            weight_KD.copy_(functional.normalize(weight_KD))
        _, scores = model(views)
        first_BK, second_BK = scores.chunk(2)
        return swapped_loss((first_BK, second_BK), numbers.epsilon, numbers.iterations, numbers.temperature)

    return Loop(loader(Views(images_NCHW, [SWAV, SWAV]), batch_size), step, optimizer)


class ConvolutionCritic(nn.Module):
    """DCCM's discriminator with its layers as the 1 x 1 convolutions that they are.

    Better than the usual form, which lays the deep vector beside the map of each pair and convolves that.
    """

    def __init__(self, critic: nn.Module) -> None:
        super().__init__()
        self.layers = critic

    def forward(self, deep_BC: Tensor, shallow_BFHW: Tensor, partner_PB: Tensor) -> Tensor:
        """(P, B, H, W): the score of each image's deep vector with the shallow map of each of its partners."""
        layers = self.layers
        vector_QE11 = layers.on_deep(deep_BC)[:, :, None, None].repeat(len(partner_PB), 1, 1, 1)
        maps_BEHW = layers.on_shallow(shallow_BFHW)
        hidden_QEHW = maps_BEHW.index_select(0, partner_PB.flatten()).add_(vector_QE11).relu_()
        scores_Q1HW: Tensor = layers.third(layers.second(hidden_QEHW).relu_())
        return scores_Q1HW.view(*partner_PB.shape, *shallow_BFHW.shape[2:])


@dataclass(frozen=True)
class Correlation:
    """DCCM's numbers."""

    outer_batch: int
    inner_batch: int
    repeats: int
    passes: int
    graph_threshold: float
    label_threshold: float
    label_weight: float
    mi_weight: float


@dataclass
class CorrelationLoop:
    """DCCM: of each outer batch the plain images give targets, then small batches of it are trained on many times."""

    images_NCHW: Tensor
    model: nn.Module
    critic: nn.Module
    optimizer: Optimizer
    numbers: Correlation

    def __post_init__(self) -> None:
        self.listed = Listed()
        views = Views(self.images_NCHW, [KERAS])
        self.loader = DataLoader(
            views, batch_sampler=self.listed, num_workers=NUM_WORKERS, persistent_workers=True  # type: ignore[arg-type]
        )  # fmt: skip

    def epoch(self) -> Seen:
        numbers, num, losses = self.numbers, 0, []
        outers = torch.randperm(len(self.images_NCHW)).split(numbers.outer_batch)
        plan = [(outer_O, places_B) for outer_O in outers for places_B in self._places(len(outer_O))]
        self.listed.batches = [outer_O[places_B].tolist() for outer_O, places_B in plan]
        current, graph_OO, label_O, sure_O = torch.empty(0), *[torch.empty(0)] * 3
        for (outer_O, places_B), (views, _) in zip(plan, self.loader, strict=True):
            if outer_O is not current:
                current = outer_O
                graph_OO, label_O, sure_O = self._targets(self.images_NCHW[outer_O])
            loss = self._loss(views[0], graph_OO[places_B][:, places_B], label_O[places_B], sure_O[places_B])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
            num += len(places_B)
        return Seen(num, sum(losses) / len(losses))

    def _places(self, count: int) -> list[Tensor]:
        """Inner batches, each as often as it is augmented; one of a single image has no batch statistics."""
        drawn = [torch.randperm(count).split(self.numbers.inner_batch) for _ in range(self.numbers.repeats)]
        kept = [places_B for each in drawn for places_B in each if len(places_B) > 1]
        return [places_B for places_B in kept for _ in range(self.numbers.passes)]

    @torch.no_grad()
    def _targets(self, images_OCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        predictions_OC = self.model(images_OCHW.float() / 255).predictions_BC
        unit_OC = functional.normalize(predictions_OC)
        graph_OO = (unit_OC @ unit_OC.T >= self.numbers.graph_threshold).float()
        confidence_O, label_O = predictions_OC.max(1)
        return graph_OO.fill_diagonal_(1), label_O, confidence_O >= self.numbers.label_threshold

    def _loss(self, images_BCHW: Tensor, graph_BB: Tensor, label_B: Tensor, sure_B: Tensor) -> Tensor:
        seen = self.model(images_BCHW)
        unit_BC = functional.normalize(seen.predictions_BC)
        similarity_BB = unit_BC @ unit_BC.T
        graph = functional.binary_cross_entropy((similarity_BB / similarity_BB.max()).clamp(0, 1), graph_BB)
        wanted_BC = functional.one_hot(label_B, seen.predictions_BC.shape[1]).float()
        each_B = functional.binary_cross_entropy(seen.predictions_BC, wanted_BC, reduction="none").mean(1)
        label = (each_B * sure_B).mean()
        scores_PBHW = self.critic(seen.deep_BC, seen.shallow_BFHW, partners(graph_BB))
        mi = functional.softplus(-scores_PBHW[:2]).mean() + functional.softplus(scores_PBHW[2:]).mean()
        return graph + self.numbers.label_weight * label + self.numbers.mi_weight * mi


def partners(graph_BB: Tensor) -> Tensor:
    """(4, B): each image itself, one linked to it and two that are not, drawn image by image."""
    found = []
    for row, linked_B in enumerate(graph_BB.bool().tolist()):
        friends = [other for other, linked in enumerate(linked_B) if linked and other != row]
        others = [other for other, linked in enumerate(linked_B) if not linked] or [row]
        found.append([row, random.choice(friends or [row]), *random.choices(others, k=2)])
    return torch.tensor(found).T
