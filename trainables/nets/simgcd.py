"""What SimGCD trains: a backbone, a projection to the unit sphere, and a classifier of prototypes on the features.

Axes: B batch, C categories, D feature width, E embedding width.
"""

import itertools
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import models
from .backbones import Backbone

_INITIAL_STD = 0.02


class CategoryModel(models.ContrastiveModel):
    """Backbone, projection and prototypes (Wen et al. 2023, SimGCD).

    The projection is Linear D to hidden_dim, GELU, Linear to hidden_dim, GELU, Linear to feature_dim. Weights are drawn
    from the backbone's seed.
    """

    def __init__(self, backbone: Backbone, feature_dim: int, hidden_dim: int, num_categories: int) -> None:
        super().__init__(backbone, feature_dim, "linear")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(backbone.seed)
            widths = (backbone.width, hidden_dim, hidden_dim, feature_dim)
            linears = [nn.Linear(width, after) for width, after in itertools.pairwise(widths)]
            for linear in linears:
                nn.init.trunc_normal_(linear.weight, std=_INITIAL_STD)
                nn.init.zeros_(linear.bias)
            self.head = nn.Sequential(linears[0], nn.GELU(), linears[1], nn.GELU(), linears[2])
            self.prototypes = nn.Linear(backbone.width, num_categories, bias=False)

    def forward(self, images_BCHW: Tensor, what: str = "embeddings") -> Tensor | tuple[Tensor, Tensor]:
        """What a ContrastiveModel gives, and ``trained``: (embeddings (B, E), cosines (B, C) to the prototypes)."""
        if what != "trained":
            return super().forward(images_BCHW, what)
        embeddings_BE, features_BD = cast(tuple[Tensor, Tensor], super().forward(images_BCHW, "both"))
        return embeddings_BE, self.cosines(features_BD)

    def cosines(self, features_BD: Tensor) -> Tensor:
        """(B, C): of features, of any length, and every prototype."""
        unit_BD, unit_CD = (
            functional.normalize(rows, dim=1, eps=models.SMALLEST_NORM)
            for rows in (features_BD, self.prototypes.weight)
        )
        return unit_BD @ unit_CD.T
