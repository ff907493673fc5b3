"""How the store writes: what is written is on the disk when a call returns, with the digest that the manifest lists."""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch

from ..interfaces import Result


class _Digesting(io.RawIOBase):
    """A new file that keeps the sha256 of what is written: nothing is held in memory or read again for it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = open(path, "xb", buffering=0)
        self._sha = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        left = memoryview(content).cast("B")
        size = left.nbytes
        self._sha.update(left)
        while left.nbytes:  # the system may take a part of it
            left = left[self._file.write(left) :]
        return size

    def close(self) -> None:
        """Close the file once it is on the disk."""
        if self.closed:
            return
        super().close()
        with self._file:
            os.fsync(self._file.fileno())

    def hexdigest(self) -> str:
        return self._sha.hexdigest()


def result_files(folder: Path, result: Result, epochs: Sequence[Mapping[str, float]]) -> dict[Path, str]:
    """Write a result's files, all but the figures and the manifest. Returns path -> sha256."""
    digests = {}
    with _Digesting(path := folder / "weights.pt") as file:
        torch.save(dict(result.weights), cast(IO[bytes], file))
    digests[path] = file.hexdigest()
    for name, array in result.arrays.items():
        with _Digesting(path := folder / "arrays" / f"{name}.npy") as file:
            np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
        digests[path] = file.hexdigest()
    with _Digesting(path := folder / "epochs.json") as file:
        file.write(json.dumps([dict(epoch) for epoch in epochs]).encode())
    digests[path] = file.hexdigest()
    return digests


def remove(path: Path) -> None:
    """Delete a folder with all it holds, or whatever else is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()


def write(path: Path, content: bytes) -> None:
    with open(path, "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
