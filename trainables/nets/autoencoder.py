"""Autoencoder of fully connected layers, and the soft clustering on its embedding (DEC section 3).

Images come in as they lie in a data set; they are flattened and scaled here, by numbers that are kept in the weights.

Axes: B batch, D values of an image, E embedding width, C clusters.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..interfaces import Split
from ..maths import soft_assignment
from .precision import is_bf16


class Autoencoder(nn.Module):
    """D, widths..., E and the mirror; ReLU everywhere but after the embedding and after the last layer.

    num_scales: 1 where all values are scaled alike, or D where each has an offset and a spread of its own. They are
    those of pixels, 0 and 255, until ``set_scale``.
    """

    def __init__(self, num_values: int, widths: Sequence[int], embed_dim: int, *, num_scales: int, seed: int) -> None:
        super().__init__()
        sizes = (num_values, *widths, embed_dim)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False))
            self.decoder = nn.ModuleList(nn.Linear(b, a) for a, b in zip(sizes, sizes[1:], strict=False))
        self.widths = sizes[1:]
        self.offset: Tensor
        self.spread: Tensor
        self.register_buffer("offset", torch.zeros(num_scales))
        self.register_buffer("spread", torch.full((num_scales,), 255.0))

    def set_scale(self, offset: Tensor, spread: Tensor) -> None:
        """Scale by (value - offset) / spread from now on; both (1,) or (D,), the spread above 0."""
        self.offset.copy_(offset)
        self.spread.copy_(spread)

    def draw_weights(self, std: float, seed: int) -> None:
        """Draw every weight from N(0, std^2), and set every bias to 0."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for layer in (*self.encoder, *self.decoder):
                assert isinstance(layer, nn.Linear)
                weight, bias = layer.weight, layer.bias
                weight.normal_(0, std, generator=generator)
                bias.zero_()

    def scaled(self, images_BCHW: Tensor) -> Tensor:
        """(B, D) float32."""
        return (images_BCHW.flatten(1).float() - self.offset) / self.spread

    def hidden(self, scaled_BD: Tensor, num_layers: int) -> Tensor:
        """Output of the first ``num_layers`` encoder layers."""
        for number in range(num_layers):
            scaled_BD = self.encoder[number](scaled_BD)
            if number + 1 < len(self.encoder):
                scaled_BD = scaled_BD.relu()
        return scaled_BD

    def decode(self, embedding_BE: Tensor) -> Tensor:
        for number in reversed(range(len(self.decoder))):
            embedding_BE = self.decoder[number](embedding_BE)
            if number:
                embedding_BE = embedding_BE.relu()
        return embedding_BE

    def forward(self, scaled_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding (B, E) and reconstruction (B, D)."""
        embedding_BE = self.hidden(scaled_BD, len(self.encoder))
        return embedding_BE, self.decode(embedding_BE)


class LayerPair(nn.Module):
    """One encoder layer and its mirror, trained alone as a denoising autoencoder (DEC section 3.2, Eqs. 7 to 10)."""

    def __init__(self, whole: Autoencoder, number: int) -> None:
        super().__init__()
        self.encode, self.mirror = whole.encoder[number], whole.decoder[number]
        self._is_first, self._is_last = number == 0, number == len(whole.encoder) - 1

    def forward(self, noisy_BI: Tensor, keep_BO: Tensor) -> Tensor:
        """Reconstruction (B, I) of the pair's input. keep_BO: factor on the code, which drops part of it."""
        code_BO = self.encode(noisy_BI)
        code_BO = code_BO if self._is_last else code_BO.relu()
        found_BI = self.mirror(code_BO * keep_BO)
        return cast(Tensor, found_BI if self._is_first else found_BI.relu())


class EmbeddedClustering(nn.Module):
    """An encoder and trainable centers in its embedding; with the decoder too where reconstruction counts (IDEC)."""

    def __init__(self, autoencoder: Autoencoder, centers_CE: Tensor, dof: float, *, keeps_decoder: bool) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.centers_CE = nn.Parameter(centers_CE)
        self._dof = dof
        self._keeps_decoder = keeps_decoder
        autoencoder.decoder.requires_grad_(keeps_decoder)

    def forward(self, scaled_BD: Tensor) -> tuple[Tensor, Tensor | None]:
        """Soft assignments (B, C) and, with the decoder, the reconstruction (B, D)."""
        embedding_BE = self.autoencoder.hidden(scaled_BD, len(self.autoencoder.encoder))
        q_BC = soft_assignment.student_t(embedding_BE, self.centers_CE, self._dof)
        return q_BC, self.autoencoder.decode(embedding_BE) if self._keeps_decoder else None


class ClusterModel(nn.Module):
    """An encoder and its centers behind the values of a data set, images or features."""

    def __init__(self, clustering: EmbeddedClustering, dof: float) -> None:
        super().__init__()
        self.clustering = clustering
        self._dof = dof
        self.eval()

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) as they lie in the data set, to (B, C) soft assignments in float32."""
        whole = self.clustering.autoencoder
        embedding_BE = whole.hidden(whole.scaled(images_BCHW), len(whole.encoder))
        q_BC = soft_assignment.student_t(embedding_BE.double(), self.clustering.centers_CE.double(), self._dof)
        return q_BC.float()


def built(facts: Mapping[str, Any], seed: int) -> Autoencoder:
    """The untrained autoencoder of these facts."""
    widths = [int(width) for width in facts["widths"].split("-")]
    num_values = facts["num_values"]
    num_scales = num_values if facts["scaling"] == "columns" else 1
    return Autoencoder(num_values, widths, facts["embed_dim"], num_scales=num_scales, seed=seed)


@torch.no_grad()
def embedded(model: Autoencoder, split: Split, batch_size: int = 4096, precision: str = "float32") -> Tensor:
    """(N, E) float32 embeddings of a split. precision: format of the forward pass (see ``precision.ComputeConfig``)."""
    device, parts = model.offset.device, []
    with torch.autocast(device.type, torch.bfloat16, enabled=is_bf16(precision, device)):
        for start in range(0, len(split), batch_size):
            scaled_BD = model.scaled(split.images_NCHW[start : start + batch_size])
            parts.append(model.hidden(scaled_BD, len(model.encoder)).float())
    return torch.cat(parts)
