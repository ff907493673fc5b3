"""A small pipeline with made-up settings, so that these tests do not move with the methods' defaults."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainables import pipeline, registry, settings
from trainables.interfaces import DataShape


@dataclass(frozen=True, kw_only=True)
class Pretext:
    epochs: int = settings.setting(500, "passes over the images", low=1, unit="epochs")
    lr: float = settings.setting(0.4, "learning rate", above=0)
    views: str = settings.setting("simclr", "how a view is drawn", choices=("simclr", "affine"))
    crop: float = settings.setting(0.2, "smallest crop", above=0, high=1, when={"views": ("simclr",)})

    def __post_init__(self) -> None:
        settings.check(self)


@dataclass(frozen=True, kw_only=True)
class Mining:
    k: int = settings.setting(20, "neighbors mined", low=1)

    def __post_init__(self) -> None:
        settings.check(self)


@dataclass(frozen=True, kw_only=True)
class Refine:
    refine: bool = settings.setting(True, "false leaves the model as it is")
    epochs: int = settings.setting(50, "passes over the images", low=1, unit="epochs")
    threshold: float = settings.setting(
        0.95, "a prediction above it is sure", above=0, below=1, when={"refine": (True,)}
    )
    batch_size: int = settings.setting(256, "images in a step", low=4)
    sure_size: int = settings.setting(48, "sure images within the batch", low=1)

    def __post_init__(self) -> None:
        settings.check(self)
        if self.sure_size >= self.batch_size:
            sentence = f"sure_size must be below batch_size ({self.batch_size}), but is {self.sure_size}"
            raise settings.SettingsError([("sure_size", sentence)])


def limits(config: Any, shape: DataShape) -> Iterator[tuple[str, str]]:
    for name in ("k", "batch_size"):
        value = getattr(config, name, 0)
        if value > shape.num_train:
            yield name, f"{name} must be at most {shape.num_train}, but is {value}"


def _stage(config: type[Any], metrics: tuple[str, ...], criterion: tuple[str, str] | None) -> Any:
    return SimpleNamespace(Config=config, METRICS=metrics, CRITERION=criterion, INPUTS=(), VERSION=1, limits=limits)


STAGES = {
    "pretext": _stage(Pretext, ("loss",), None),
    "neighbors": _stage(Mining, ("purity_5",), None),
    "spc": _stage(Refine, ("loss", "agreement", "acc", "nmi"), ("agreement", "max")),
}


@pytest.fixture(autouse=True)
def _small_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    methods = {
        "spc": ("simclr", "neighbors", "spc"),
        "mining": ("simclr", "neighbors"),
        "bare": ("spc",),
        "coded": ("coder", "spc"),
    }
    slots = {"spc": tuple(STAGES), "mining": ("pretext", "neighbors"), "bare": ("spc",), "coded": ("pretext", "spc")}
    monkeypatch.setattr(pipeline, "METHODS", methods)
    monkeypatch.setattr(registry, "pretexts", lambda: ("simclr", "rotnet"))
    monkeypatch.setattr(
        pipeline, "stages", lambda method, pretext="", probes=(): {slot: STAGES[slot] for slot in slots[method]}
    )


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes a study file and gives its name, relative as a user would type it."""
    monkeypatch.chdir(tmp_path)

    def to_file(text: str, name: str = "spc.yaml") -> Path:
        Path(name).write_text(text, encoding="utf-8", newline="")
        return Path(name)

    return to_file
