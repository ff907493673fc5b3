"""The saved epochs of unfinished stages: the newest save and the one before it, each behind its digest."""

import io
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..interfaces import State
from . import damage, manifest, written
from .artifacts import Store

_SHA_LENGTH = 64
_SAVES = ("newest", "previous", "fresh")
_SAVE_SHARE = 0.05
"""Saving an unfinished stage may cost this share of its time; an epoch shorter than that is not saved by itself."""


@dataclass(frozen=True)
class Progress:
    """The last saved epoch of an unfinished stage, and the metrics of all epochs up to it."""

    state: State
    epochs: Sequence[Mapping[str, float]]


class ProgressFile:
    """The saved epochs of one unfinished stage: the newest save and the one before it, each behind its digest."""

    def __init__(self, store: Store, name: str) -> None:
        self._root, self._folder = store.root, store.root / ".progress" / name
        self._name, self._remote = name, store.remote
        self._cost_s = 0.0
        self._saved_at = time.monotonic()

    def load(self) -> Progress | None:
        """Read the newest save that is not damaged; None if there is none."""
        for path, content in self._saves():
            noted, payload = content[:_SHA_LENGTH], content[_SHA_LENGTH:]
            if manifest.digest(payload).encode() != noted:
                warnings.warn(f"{path} is damaged (its sha256 differs); going back to the save before it", stacklevel=2)
                continue
            saved = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
            return Progress(saved["state"], saved["epochs"])
        return None

    def _saves(self) -> Iterator[tuple[str, bytes]]:
        # The store's first: another node may have gone on from where this one was.
        if self._remote is not None and (content := self._remote.progress(self._name)) is not None:
            yield f"the store's progress of {self._name}", content
        self._clear()
        for path in (self._folder / "newest", self._folder / "previous"):
            try:
                yield str(path), damage.read_file(path)
            except (OSError, damage.Damaged):
                continue  # it is not there, or was replaced in this moment

    def _clear(self) -> None:
        """Move aside whatever is no folder, or no file, where one belongs."""
        damage.make_folder(self._folder, self._root)
        for name in _SAVES:
            damage.clear_unless_file(self._folder / name)

    def save(self, state: Callable[[], State], epochs: Sequence[Mapping[str, float]]) -> None:
        """Save after an epoch, unless the last save is too recent for what saving costs.

        Args:
            state: called only if a save is due.
            epochs: the metrics of all epochs so far.
        """
        started = time.monotonic()
        if started - self._saved_at < self._cost_s / _SAVE_SHARE:
            return
        payload = _to_bytes({"state": dict(state()), "epochs": [dict(epoch) for epoch in epochs]})
        self._clear()
        fresh = self._folder / "fresh"
        content = manifest.digest(payload).encode() + payload
        written.write(fresh, content)
        if (self._folder / "newest").exists():
            (self._folder / "newest").rename(self._folder / "previous")
        fresh.rename(self._folder / "newest")
        written.sync_folder(self._folder)
        if self._remote is not None:
            self._remote.save_progress(self._name, content)
        self._saved_at = time.monotonic()
        self._cost_s = self._saved_at - started


def _to_bytes(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()
