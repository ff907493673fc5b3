"""What stages train: a backbone with a contrastive head, or with clustering heads; and what a trial leaves behind.

Everything that needs gradients goes through ``forward``, so each model can be wrapped for several ranks.

Axes: B batch, N images, C channels or clusters (as the name says), H heads or height, W width, D feature width,
E embedding width.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from ..data import augment, geometry
from ..interfaces import Images
from .backbones import Backbone

SMALLEST_NORM = 1e-12

Head = Literal["mlp", "linear"]


class ContrastiveModel(nn.Module):
    """Backbone and a head to the unit sphere (Chen et al. 2020, SimCLR).

    head: "mlp" is Linear D to D, ReLU, Linear D to feature_dim, without batch norm; "linear" is one Linear.
    seed: of the head's weights; None takes the backbone's.

    Raises:
        ValueError: an unknown head, or feature_dim below 1.
    """

    def __init__(
        self,
        backbone: Backbone,
        feature_dim: int = 128,
        head: Head = "mlp",
        *,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if head not in ("mlp", "linear"):
            raise ValueError(f"head must be one of mlp, linear, but is {head!r}.")
        if feature_dim < 1:
            raise ValueError(f"feature_dim must be at least 1, but is {feature_dim}.")
        self.backbone = backbone
        width = backbone.width
        with _seeded(backbone.seed if seed is None else seed):
            last = nn.Linear(width, feature_dim)
            self.head = last if head == "linear" else nn.Sequential(nn.Linear(width, width), nn.ReLU(), last)

    def forward(self, images_BCHW: Tensor, what: str = "embeddings") -> Tensor | tuple[Tensor, Tensor]:
        """``embeddings``: unit rows (B, E). ``features``: (B, D) of the backbone. ``both``: (embeddings, features)."""
        _check_what(what, ("embeddings", "features", "both"))
        features_BD = self.backbone(images_BCHW)
        if what == "features":
            return cast(Tensor, features_BD)
        embeddings_BE = functional.normalize(self.head(features_BD), dim=1, eps=SMALLEST_NORM)
        return (embeddings_BE, features_BD) if what == "both" else embeddings_BE


class ClusteringModel(nn.Module):
    """Backbone and num_heads linear heads of num_clusters outputs (SCAN section 3.1).

    seed: of the heads' weights; None takes the backbone's. Each head gets its own weights.

    Raises:
        ValueError: num_clusters or num_heads below 1.
    """

    def __init__(self, backbone: Backbone, num_clusters: int, num_heads: int = 1, *, seed: int | None = None) -> None:
        super().__init__()
        for name, value in (("num_clusters", num_clusters), ("num_heads", num_heads)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, but is {value}.")
        self.backbone = backbone
        with _seeded(backbone.seed if seed is None else seed):
            self.heads = nn.ModuleList(nn.Linear(backbone.width, num_clusters) for _ in range(num_heads))

    def forward(self, images_BCHW: Tensor, what: str = "logits") -> Tensor | tuple[Tensor, Tensor]:
        """``logits``: (H, B, C). ``features``: (B, D) of the backbone. ``both``: (logits, features)."""
        _check_what(what, ("logits", "features", "both"))
        features_BD = self.backbone(images_BCHW)
        if what == "features":
            return cast(Tensor, features_BD)
        logits_HBC = torch.stack([head(features_BD) for head in self.heads])
        return (logits_HBC, features_BD) if what == "both" else logits_HBC


class HeadsOnFeatures(nn.Module):
    """The heads of a ClusteringModel on features that are there already; the weights are shared, not copied.

    All heads are one matrix product, which is what makes many small ones fast.
    """

    def __init__(self, heads: nn.ModuleList) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, features_BD: Tensor) -> Tensor:
        """(H, B, C) logits."""
        linears = [cast(nn.Linear, head) for head in self.heads]
        weight, bias = (torch.cat(parts) for parts in zip(*((each.weight, each.bias) for each in linears), strict=True))
        logits_BX = functional.linear(features_BD, weight, bias)
        return logits_BX.reshape(len(features_BD), len(linears), -1).transpose(0, 1)


class ImageModel(nn.Module):
    """A model that takes images as they lie in a data set, with its own normalization.

    mean, std: per channel, of pixels scaled to [0, 1].
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean_C11: Tensor
        self.std_C11: Tensor
        self.register_buffer("mean_C11", torch.tensor(mean).reshape(-1, 1, 1))
        self.register_buffer("std_C11", torch.tensor(std).reshape(-1, 1, 1))

    def normalized(self, images_BCHW: Tensor) -> Tensor:
        """Float32 input of a network, of (B, C, H, W) images, uint8 0..255 or float in [0, 1].

        Of large images the window in the middle, as they are judged.

        Raises:
            ValueError: another dtype, shape, or float range; an exported program does not check the range.
        """
        channels = len(self.mean_C11)
        if images_BCHW.ndim != 4 or images_BCHW.shape[1] != channels:
            raise ValueError(f"images must have shape (B, {channels}, H, W), but have {tuple(images_BCHW.shape)}.")
        if images_BCHW.dtype == torch.uint8:
            scaled_BCHW = images_BCHW.float() / 255
        elif images_BCHW.is_floating_point():
            scaled_BCHW = images_BCHW.float()
            if not torch.compiler.is_compiling() and scaled_BCHW.numel():
                low, high = float(scaled_BCHW.min()), float(scaled_BCHW.max())
                if not 0 <= low <= high <= 1:
                    raise ValueError(
                        f"float images must lie in [0, 1], but reach from {low:g} to {high:g}. "
                        "Give pixels of 0..255 as uint8, and no normalized images."
                    )
        else:
            raise ValueError(f"images must be uint8 or floating point, but are {images_BCHW.dtype}.")
        return (geometry.middle(scaled_BCHW) - self.mean_C11) / self.std_C11


class ClusterClassifier(ImageModel):
    """What a trial leaves behind: images in, cluster probabilities out, with its own normalization.

    It shares the given backbone and head, and changes to eval mode. Loading one needs this package alone.

    head: features (B, D) to logits (B, C). mean, std: per channel, of pixels scaled to [0, 1].
    """

    def __init__(self, backbone: Backbone, head: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(mean, std)
        self.backbone = backbone
        self.head = head
        self.eval()

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) images, as ``normalized`` takes them, to (B, C) probabilities in float32.

        Raises:
            ValueError: as ``normalized``.
        """
        logits_BC = self.head(self.backbone(self.normalized(images_BCHW)))
        return torch.softmax(logits_BC.float(), dim=1)


class CosineHead(nn.Module):
    """Logits of a classifier by prototypes: the cosine of a row, of any length, and each prototype, over a temperature.

    prototypes: Linear without bias; its rows are the prototypes, of any length.
    """

    def __init__(self, prototypes: nn.Linear, temperature: float) -> None:
        super().__init__()
        self.prototypes = prototypes
        self.temperature = temperature

    def forward(self, rows_BD: Tensor) -> Tensor:
        """(B, C) logits."""
        unit_BD, unit_CD = (
            functional.normalize(rows, dim=1, eps=SMALLEST_NORM) for rows in (rows_BD, self.prototypes.weight)
        )
        return unit_BD @ unit_CD.T / self.temperature


What = Literal["features", "embeddings", "logits", "probabilities"]


def predict(  # noqa: PLR0913 - what decides an output
    model: nn.Module,
    images_NCHW: Images,
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int = 512,
    what: What = "features",
    *,
    view: Callable[[Tensor, augment.Norm], Tensor] = augment.judged,
) -> Tensor:
    """Outputs of a model for a whole split, in eval mode and without gradients; every module's mode is restored.

    Args:
        model: Backbone, ContrastiveModel or ClusteringModel, also wrapped for several ranks; ranks may call it
            alone, for different images, since nothing is exchanged.
        images_NCHW: uint8, on any device; each batch moves to the model's. Of images of 256 px the middle 224 px count.
        mean: per channel, of pixels scaled to [0, 1].
        std: likewise.
        batch_size: images at a time, at least 1; without effect on the values but for rounding.
        what: "features" (N, D) of the backbone, not normalized; "embeddings" (N, E), unit rows, of a
            ContrastiveModel; "logits" or "probabilities" (H, N, C) of a ClusteringModel.
        view: what the model sees of a batch of uint8 images; as a rule the images as they are.

    Returns:
        float32 on the model's device.

    Raises:
        ValueError: images are not uint8 of four axes or there are none, batch_size below 1, or the model has no such
            output.
        TypeError: another kind of model.
    """
    if images_NCHW.dtype != torch.uint8 or images_NCHW.ndim != 4 or not len(images_NCHW):
        shown = f"{images_NCHW.dtype} of shape {tuple(images_NCHW.shape)}"
        raise ValueError(f"images_NCHW must be uint8 of shape (N, C, H, W), not empty, but is {shown}.")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, but is {batch_size}.")
    # The wrapper would exchange batch norms' buffers, and hang where one rank predicts alone.
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    _check_what(what, _offers(inner))
    device = next(inner.parameters()).device
    norm, parts = augment.Norm(tuple(mean), tuple(std)), []
    with _evaluating(inner), torch.no_grad():
        for first in range(0, len(images_NCHW), batch_size):
            batch_BCHW = images_NCHW[first : first + batch_size].to(device)
            parts.append(_outputs(inner, view(batch_BCHW, norm), what).float())
    outputs = torch.cat(parts, dim=1 if what in ("logits", "probabilities") else 0)
    return outputs.softmax(dim=-1) if what == "probabilities" else outputs


def _outputs(model: nn.Module, images_BCHW: Tensor, what: What) -> Tensor:
    if isinstance(model, Backbone):
        return cast(Tensor, model(images_BCHW))
    return cast(Tensor, model(images_BCHW, "logits" if what == "probabilities" else what))


def _offers(model: nn.Module) -> tuple[str, ...]:
    if isinstance(model, ContrastiveModel):
        return ("features", "embeddings")
    if isinstance(model, ClusteringModel):
        return ("features", "logits", "probabilities")
    if isinstance(model, Backbone):
        return ("features",)
    raise TypeError(f"predict takes a Backbone, ContrastiveModel or ClusteringModel, but got {type(model).__name__}.")


def _check_what(what: str, known: tuple[str, ...]) -> None:
    if what not in known:
        raise ValueError(f"what must be one of {', '.join(known)} for this model, but is {what!r}.")


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    # By module: a frozen backbone stays in eval mode inside a model that trains.
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
