"""Instance discrimination: every image is a class of its own, and its class vector is a memory of its feature.

Axes: B images of a batch, N images in the memory, D feature width, K negatives drawn for an image.
Source: InstDisc (Wu et al. 2018), sections 3.1 and 3.2; the small epsilon is that of its published training.
"""

import torch
from torch import Tensor
from torch.nn import functional

EPSILON = 1e-7


def fresh_memory(num_images: int, width: int, generator: torch.Generator) -> Tensor:
    """(N, D) float32, uniform in +-1 / sqrt(D / 3), so that a row's expected squared length is one."""
    bound = (width / 3) ** -0.5
    unit_ND = torch.rand(num_images, width, generator=generator, device=generator.device)
    return unit_ND.mul_(2 * bound).sub_(bound)


def full_softmax(features_BD: Tensor, memory_ND: Tensor, rows_B: Tensor, *, temperature: float) -> Tensor:
    """Cross entropy of finding the own row among all rows of the memory (Eq. 2); a scalar in nats.

    rows_B: int64, where the memory keeps each image.
    """
    return functional.cross_entropy(features_BD @ memory_ND.T / temperature, rows_B)


def weights(features_BD: Tensor, chosen_BMD: Tensor, *, temperature: float) -> Tensor:
    """exp(similarity / temperature) of each image to its chosen memory rows, (B, M): P without its constant Z."""
    return torch.einsum("bd,bmd->bm", features_BD, chosen_BMD).div(temperature).exp()


def nce(weights_BM: Tensor, constant: Tensor, num_images: int, *, epsilon: float = EPSILON) -> Tensor:
    """Noise-contrastive estimate of the full softmax (Eq. 6), noise being uniform; a scalar in nats.

    Args:
        weights_BM: as ``weights`` gives them; column 0 is the image's own row, the K others were drawn as noise.
        constant: Z, a scalar.
        num_images: N, so that noise has probability 1 / N.
        epsilon: keeps the denominators above 0.
    """
    probability_BM = weights_BM / constant
    noise = (weights_BM.shape[1] - 1) / num_images
    total_BM = probability_BM + (noise + epsilon)
    own_B = torch.log(probability_BM[:, 0] / total_BM[:, 0])
    noise_B = torch.log(noise / total_BM[:, 1:]).sum(dim=1)
    return -(own_B + noise_B).mean()


def estimated_constant(weights_BM: Tensor, num_images: int) -> Tensor:
    """Z from one batch: the mean weight times N (Eq. 7), without a gradient."""
    return weights_BM.detach().mean() * num_images


def remember(memory_ND: Tensor, rows_B: Tensor, features_BD: Tensor, *, momentum: float) -> None:
    """Move the memory's rows towards new features, in place, and back to length one. Rows must differ."""
    mixed_BD = momentum * memory_ND[rows_B] + (1 - momentum) * features_BD.detach()
    memory_ND[rows_B] = functional.normalize(mixed_BD, dim=1)
