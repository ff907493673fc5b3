"""How far views of an image go: the group ``views`` of a Config with a setting ``augmentation``."""

from dataclasses import dataclass

from .. import settings
from ..data import augment


@dataclass(frozen=True, kw_only=True)
class AffineConfig:
    """For a stage whose views have a strength only where they are affine."""

    affine_scale: float = settings.setting(
        1.0, "multiplies the ranges of the affine views", low=0, high=2, when={"augmentation": ("affine",)}
    )

    def __post_init__(self) -> None:
        settings.check(self)

    def strength(self) -> augment.Strength:
        return augment.Strength(affine=self.affine_scale)


@dataclass(frozen=True, kw_only=True)
class ViewsConfig:
    """For a stage with an ``augmentation`` that can be simclr or affine."""

    crop_min_area: float = settings.setting(
        0.2, "smallest share of the image that a crop covers", above=0, high=1, when={"augmentation": ("simclr",)}
    )
    jitter_scale: float = settings.setting(
        1.0, "multiplies the strengths of color jitter", low=0, high=2, when={"augmentation": ("simclr",)}
    )
    affine_scale: float = settings.setting(
        1.0, "multiplies the ranges of the affine views", low=0, high=2, when={"augmentation": ("affine",)}
    )

    def __post_init__(self) -> None:
        settings.check(self)

    def strength(self) -> augment.Strength:
        return augment.Strength(crop_min_area=self.crop_min_area, jitter=self.jitter_scale, affine=self.affine_scale)
