"""Stage results on disk: found by content address, published whole, computed once.

    stages/<stage>-<address>/   meta.json  weights.pt  arrays/*.npy  epochs.json  figures/*.png
    stages/.progress/           the last saved epochs of unfinished stages (``progress``)
    stages/.flight/             one lock file per address: who holds it computes, everybody else waits
    stages/.new/                results being written; renamed into place when complete
    stages/.evicted-*/          results on their way out of a node's folder (``eviction``)

A lock is an ``flock``: the kernel takes it from a dead process at once, so a killed trial never blocks its successors.
In a storage by URI the folder is this node's own, and every result is in the object store before it is here (see
``object_store``); the nodes of one cluster then take turns by leases. Every file's sha256 stands in meta.json, and so
does that of meta.json itself (``manifest``), because a flipped bit in a tensor file loads without a word. Whatever is
found where a result, a save or a lock belongs is read as such or moved aside (``damage``).
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from ..interfaces import Result
from . import damage, eviction, manifest, object_store, written

_FOLDERS = (".progress", ".flight", ".new")
_MEMORY_BYTES = 1 << 30
"""Results kept in memory between the trials of one warm process."""


def address(
    stage: str,
    version: int,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    fingerprint: str,
    seed: int,
) -> str:
    """The content address of a stage's result: a digest of all that decides its numbers, and of nothing else.

    Args:
        stage: name.
        version: of the stage.
        config: the settings that have an effect.
        inputs: slot -> address of the results that the stage reads.
        fingerprint: of the data set.
        seed: of the stage.

    Returns:
        16 hexadecimal digits.
    """
    meaning = {
        "stage": stage,
        "version": version,
        "config": dict(config),
        "inputs": dict(inputs),
        "data": fingerprint,
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(meaning, sort_keys=True, allow_nan=False).encode()).hexdigest()[:16]


Draw = Callable[[Path], Mapping[str, Any] | None]
"""Writes figures into the folder that it is given; what it returns is said of the result."""


class Leases(Protocol):
    """Turns between nodes: which of them may compute a result."""

    def hold(self, name: str) -> AbstractContextManager[None]:
        """Hold the right to compute ``name``; waits while another process has it."""
        ...


def local(storage: str | Path) -> Path:
    """The folder of a storage on this machine.

    Args:
        storage: a folder, which comes back as it is, or a URI of an object store.
    """
    return object_store.local_folder(str(storage)) if object_store.is_uri(str(storage)) else Path(storage)


def figures(storage: str | Path, name: str) -> list[Path]:
    """The figures of one result, fetched without the rest of it if the storage is an object store.

    Args:
        storage: a folder or a URI.
        name: ``<stage>-<address>``.

    Returns:
        PNG files, sorted; empty, with a warning, if they cannot be fetched.
    """
    here = local(storage) / "stages" / name
    if object_store.is_uri(str(storage)) and not here.exists():
        here = local(storage) / "stages" / ".figures" / name
        if not here.exists():
            fresh = here.with_name(f"{name}.{uuid.uuid4().hex[:8]}")
            fresh.mkdir(parents=True)
            try:
                object_store.Remote(str(storage)).fetch(name, fresh, "figures/")
                fresh.rename(here)
            except (OSError, ValueError) as error:
                warnings.warn(f"the figures of {name} were not fetched: {error}", stacklevel=2)
                shutil.rmtree(fresh, ignore_errors=True)
    return sorted(path for path in (here / "figures").glob("*.png") if path.is_file())


class Store:
    """The stage results of one storage.

    Args:
        storage: a folder or a URI.
        leases: for a storage by URI that several nodes share.
    """

    def __init__(self, storage: str | Path, leases: Leases | None = None) -> None:
        self.root = local(storage) / "stages"
        self.remote = object_store.Remote(str(storage)) if object_store.is_uri(str(storage)) else None
        self._leases = leases
        for name in _FOLDERS:
            damage.make_folder(self.root / name, self.root, written=False)
        self._memory: OrderedDict[str, tuple[Result, int]] = OrderedDict()

    def folder(self, name: str) -> Path:
        """The folder where the result ``<stage>-<address>`` is or will be."""
        return self.root / name

    def __contains__(self, name: str) -> bool:
        return self._is_here(name) or (self.remote is not None and name in self.remote)

    def get(self, name: str) -> Result | None:
        """Read a result and check it against its digests.

        Args:
            name: ``<stage>-<address>``.

        Returns:
            The result; None if there is none, or if it is damaged: then it is set aside with a warning.
        """
        if name in self._memory:
            self._memory.move_to_end(name)
            return self._memory[name][0]
        result = self._read_here(name)
        if result is None and self.remote is not None and self._fetch(self.remote, name):
            result = self._read_here(name)
        if result is not None:
            self._remember(name, result)
        return result

    def _is_here(self, name: str) -> bool:
        return os.path.exists(self.root / name / manifest.FILE)  # Path.exists raises where a folder cannot be searched

    def _read_here(self, name: str) -> Result | None:
        folder = self.root / name
        try:
            inode = folder.lstat().st_ino
        except OSError:
            return None
        try:
            meta = manifest.read(folder)
            files = manifest.check_files(folder, meta)
            if self.remote is not None:
                eviction.used(folder)
            return _read(folder, files, meta)
        # A damaged file may raise anything in the library that reads it.
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, EOFError) as error:
            self._set_aside(folder, inode, error)
            return None

    def _set_aside(self, folder: Path, inode: int, why: Exception) -> None:
        """Move a damaged result aside, unless another process has evicted or replaced it meanwhile."""
        try:
            replaced = folder.lstat().st_ino != inode
        except OSError:
            replaced = True
        if not replaced:
            damage.move_aside(folder, why)

    def _fetch(self, source: object_store.Remote, name: str) -> bool:
        """Bring a result from the object store here, once for all processes of this node."""
        with self._lock(f"{name}.fetch", 0.1):
            if self._is_here(name):
                return True
            fresh = self._fresh(name, "fetched")
            try:
                if not source.fetch(name, fresh):
                    return False
                self._settle(fresh, name)
                return True
            except ValueError as error:
                warnings.warn(
                    f"stage result {name} is damaged in the store and is computed again: {error}", stacklevel=3
                )
                return False
            finally:
                shutil.rmtree(fresh, ignore_errors=True)

    def _fresh(self, name: str, how: str) -> Path:
        """An empty folder for a result; what a writer of the same one left who was killed goes. Under its lock."""
        damage.make_folder(self.root / ".new", self.root)
        for left in (self.root / ".new").glob(f"{name}.{how}-*"):
            written.remove(left)
        fresh = self.root / ".new" / f"{name}.{how}-{uuid.uuid4().hex[:8]}"
        (fresh / "arrays").mkdir(parents=True)
        return fresh

    def _settle(self, fresh: Path, name: str) -> None:
        """Give a complete folder its name; if another one has it meanwhile, that one stays."""
        written.sync_folder(fresh)
        try:
            fresh.rename(self.root / name)
        except OSError as error:
            if not self._is_here(name):
                # No result, and yet something is there: a file, or a folder without a manifest.
                if not damage.move_aside(self.root / name, error):
                    raise
                fresh.rename(self.root / name)
        written.sync_folder(self.root)
        if self.remote is not None:  # which has it too
            eviction.make_room(self.root)

    def meta(self, name: str) -> dict[str, Any]:
        """What meta.json says of a finished stage; empty where it cannot be read, as after it had to make room."""
        try:
            return manifest.read(self.root / name)
        except (OSError, ValueError):
            return {}

    def forget(self, name: str) -> None:
        """Read the result anew when it is asked for again."""
        self._memory.pop(name, None)

    def discard(self, name: str) -> None:
        """Take a result out of the folder, where it is there, to be computed again. Within ``flight``."""
        self.forget(name)
        aside = self.root / f".evicted-{name}-{uuid.uuid4().hex[:8]}"
        try:
            (self.root / name).rename(aside)
        except FileNotFoundError:
            return
        written.remove(aside)

    def epochs(self, name: str) -> list[dict[str, float]]:
        """Metrics of every epoch of a finished stage."""
        rows: list[dict[str, float]] = json.loads((self.root / name / "epochs.json").read_text())
        return rows

    def put(
        self,
        name: str,
        result: Result,
        meta: Mapping[str, Any],
        epochs: Sequence[Mapping[str, float]],
        draw: Draw | None = None,
    ) -> None:
        """Publish a result, all of it or nothing. Call it within ``flight`` of the same name.

        Without that, the files that another process is writing under this name would be taken for those of a dead one.

        Args:
            name: ``<stage>-<address>``.
            result: weights, arrays, facts and metrics.
            meta: further content of meta.json.
            epochs: the metrics of every epoch.
            draw: writes figures into the folder that it is given; what it returns is further content of meta.json.
        """
        fresh = self._fresh(name, "computed")
        try:
            digests = written.result_files(fresh, result, epochs)
            drawn: Mapping[str, Any] | None = None
            if draw is not None:
                (fresh / "figures").mkdir()
                drawn = draw(fresh / "figures")
            content = {**meta, **(drawn or {}), "facts": dict(result.facts), "metrics": dict(result.metrics)}
            written.write(fresh / manifest.FILE, manifest.to_bytes(fresh, content, digests))
            if self.remote is not None:
                # Before it is here, so that whatever one node has, all nodes find.
                self.remote.publish(name, fresh)
            self._settle(fresh, name)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        written.remove(self.root / ".progress" / name)
        if self.remote is not None:
            self.remote.drop_progress(name)
        # As if it had been read: nothing stays on a GPU until the next trial of this process.
        on_cpu = {part: _on_cpu(values) for part, values in result.weights.items()}
        self._remember(name, replace(result, weights=on_cpu))

    @contextmanager
    def flight(self, name: str, patience_s: float = 0.1) -> Iterator[None]:
        """Context: hold the right to compute a result; waits while another process has it.

        Args:
            name: ``<stage>-<address>``.
            patience_s: pause between two attempts.
        """
        with self._lock(name, patience_s), self._leases.hold(name) if self._leases else nullcontext():
            yield

    @contextmanager
    def _lock(self, name: str, patience_s: float) -> Iterator[None]:
        path = self.root / ".flight" / name
        damage.make_folder(path.parent, self.root)
        damage.clear_unless_file(path)
        with open(path, "a") as handle:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(patience_s)
            yield

    def _remember(self, name: str, result: Result) -> None:
        size = sum(array.nbytes for array in result.arrays.values())
        size += sum(
            value.numel() * value.element_size()
            for part in result.weights.values()
            for value in part.values()
            if isinstance(value, torch.Tensor)
        )
        self._memory[name] = (result, size)
        while sum(kept for _, kept in self._memory.values()) > _MEMORY_BYTES and len(self._memory) > 1:
            self._memory.popitem(last=False)


def _on_cpu(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.detach().cpu() if isinstance(value, torch.Tensor) else value for name, value in values.items()}


def _read(folder: Path, files: Sequence[Path], meta: Mapping[str, Any]) -> Result:
    weights = torch.load(folder / "weights.pt", map_location="cpu", weights_only=True)
    arrays = {
        path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in files if path.parent.name == "arrays"
    }
    return Result(weights=weights, arrays=arrays, facts=meta["facts"], metrics=meta["metrics"])
