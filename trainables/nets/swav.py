"""What SwAV trains: a backbone, a projection to the unit sphere, and prototypes on it.

Axes: B batch, V crops, D feature width, E embedding width, K prototypes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import models
from .backbones import Backbone


class PrototypeModel(models.ContrastiveModel):
    """Backbone, projection and prototypes (Caron et al. 2020, SwAV, section 3.1).

    The projection is Linear D to hidden_dim, batch norm, ReLU, Linear to feature_dim; or one Linear, if hidden_dim
    is 0. Weights are drawn from the backbone's seed.
    """

    def __init__(self, backbone: Backbone, feature_dim: int, hidden_dim: int, num_prototypes: int) -> None:
        super().__init__(backbone, feature_dim, "linear")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(backbone.seed)
            if hidden_dim:
                self.head = nn.Sequential(
                    nn.Linear(backbone.width, hidden_dim),
                    nn.BatchNorm1d(hidden_dim),
                    nn.ReLU(inplace=True),
                    nn.Linear(hidden_dim, feature_dim),
                )
            self.prototypes = nn.Linear(feature_dim, num_prototypes, bias=False)
        self.normalize_prototypes()

    @torch.no_grad()
    def normalize_prototypes(self) -> None:
        """Make every prototype's length one again, in place."""
        self.prototypes.weight.copy_(functional.normalize(self.prototypes.weight))

    def forward(self, images: Tensor | Sequence[Tensor], what: str = "embeddings") -> Tensor | tuple[Tensor, Tensor]:
        """Of one batch of images, what a ContrastiveModel gives.

        Of a list of V crops, each (B, C, H, W), in any sizes: (embeddings, scores) of shapes (V B, E) and (V B, K),
        crop after crop. Neighboring crops of one size pass the backbone together, and all crops the projection.
        """
        if isinstance(images, Tensor):
            return super().forward(images, what)
        groups: list[list[Tensor]] = []
        for crop_BCHW in images:
            if groups and groups[-1][0].shape == crop_BCHW.shape:
                groups[-1].append(crop_BCHW)
            else:
                groups.append([crop_BCHW])
        features_XD = torch.cat([self.backbone(torch.cat(group)) for group in groups])
        embeddings_XE = functional.normalize(self.head(features_XD), dim=1, eps=models.SMALLEST_NORM)
        return embeddings_XE, self.prototypes(embeddings_XE)


class CropQueue:
    """Embeddings of earlier batches, one first-in-first-out row of them for each crop that codes are computed of.

    It serves once it is full. Give it the rows of the whole batch on every rank.
    """

    def __init__(self, num_crops: int, length: int, width: int, device: torch.device) -> None:
        self._rows_ALE = torch.zeros(num_crops, length, width, device=device)
        self._held = 0

    @property
    def is_full(self) -> bool:
        return 0 < self._rows_ALE.shape[1] <= self._held

    def rows(self, crop: int) -> Tensor:
        """(L, E), newest first."""
        return self._rows_ALE[crop]

    def put(self, embeddings_ABE: Tensor) -> None:
        """The newest B rows of each crop take the place of the oldest."""
        count = embeddings_ABE.shape[1]
        kept_ALE = self._rows_ALE[:, : self._rows_ALE.shape[1] - count]
        self._rows_ALE = torch.cat((embeddings_ABE.detach().to(self._rows_ALE), kept_ALE), dim=1)
        self._held += count

    def state_dict(self) -> dict[str, Tensor | int]:
        return {"rows": self._rows_ALE, "held": self._held}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        rows_ALE = state["rows"]
        assert isinstance(rows_ALE, Tensor)
        self._rows_ALE, self._held = rows_ALE.to(self._rows_ALE), int(state["held"])
