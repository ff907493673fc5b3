"""Images that stay in their files, decoded by other processes when their rows are asked for, or ahead if announced.

``FileImages`` stands where a stage has a Tensor. Rows come as ``images[rows]``; who knows the coming rows tells them by
``announce`` (``data.batches.batches`` does for an epoch), and slices are read on as they are. Decoded images wait in a
ring of memory that owner and workers share, at most half of it for images that nobody has asked for yet.

Why processes: measured on two cores with 256 px JPEGs, two threads decoded slower than one, because Pillow holds the
interpreter's lock. They are started as fresh programs, never forked, so they may be used beside CUDA and in Ray's
actors; each ends when its stdin does, which the system closes however the owner ends.

Axes: N images, B rows asked for, C channels, H height, W width, S slots of the ring.
"""

import json
import mmap
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from ..loaded import DataError, shortened
from . import cache, decoder
from .cache import Kept
from .decoder import AS_PUBLISHED, How

RING_BYTES = 256 * 2**20
SMALLEST_RING = 64
JOIN_TIMEOUT_S = 5.0
MANY = 2000
"""Files from which on other processes decode them even where they are all read at once."""

CHUNK = 16
"""Files in one message to a worker."""


class FileImages:
    """The images of files as squares of ``size_px`` pixels; see ``interfaces.Images``.

    Asking for rows raises a DataError that names the files among them which cannot be decoded.
    """

    ndim = 4
    dtype = torch.uint8

    def __init__(self, paths: Sequence[str], decoders: "Decoders", device: torch.device | None = None) -> None:
        self.paths = paths
        self.decoders = decoders
        self.device = device or torch.device("cpu")

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> torch.Size:
        """(N, 3, size_px, size_px)."""
        return torch.Size((len(self), 3, self.decoders.size_px, self.decoders.size_px))

    def __getitem__(self, rows: Tensor | slice, /) -> Tensor:
        if isinstance(rows, slice):
            paths = self.paths[rows]
            images_BCHW = self.decoders.take(paths)
            end = rows.indices(len(self))[1]
            self.decoders.announce(self.paths[end : end + len(paths)])
        else:
            images_BCHW = self.decoders.take([self.paths[row] for row in rows.tolist()])
        return images_BCHW.to(self.device)

    def parts(self, rows: Tensor, numbers_BX: Tensor, size_px: int) -> Tensor:
        """Parts of the whole pictures, decoded when they are asked for: uint8 (B, 3, size_px, size_px).

        Args:
            rows: int64 (B,).
            numbers_BX: what of each picture (see ``decoder.part_name``).
        """
        numbered = zip(rows.tolist(), numbers_BX.tolist(), strict=True)
        names = [decoder.part_name(self.paths[row], numbers) for row, numbers in numbered]
        return self.decoders.of_parts(size_px).take(names).to(self.device)

    def announce(self, rows: Tensor) -> None:
        """Decode these rows next, in this order, as far as there is room; an earlier announcement is forgotten.

        Args:
            rows: int64.
        """
        self.decoders.announce([self.paths[row] for row in rows.tolist()])

    def to(self, device: torch.device, /) -> "FileImages":
        return FileImages(self.paths, self.decoders, device)

    def whole(self, device: torch.device) -> Tensor:
        """All images on a device, without a second copy of them anywhere."""
        images_NCHW = torch.empty(self.shape, dtype=torch.uint8, device=device)
        step = self.decoders.num_slots // 4
        for first in range(0, len(self), step):
            images_NCHW[first : first + step] = self[first : first + step].to(device)
        return images_NCHW

    def picked(self, rows_N: Tensor) -> "FileImages":
        """The images of these int64 rows, with the same workers."""
        return FileImages([self.paths[row] for row in rows_N.tolist()], self.decoders, self.device)

    def joined(self, other: "FileImages") -> "FileImages":
        """These images and then those of ``other``, with the same workers."""
        return FileImages([*self.paths, *other.paths], self.decoders, self.device)


class Decoders:
    """The worker processes of one data set; they start with the first request and end with this object.

    Args:
        size_px: side of the decoded images; 0 where images keep their sizes, and then nothing can be decoded here.
        num_workers: 0 takes as many as torch has threads at the first request, which is what a trial's CPUs are.
        how: they become squares and RGB.
        is_whole: whether who can shall take parts of the whole pictures instead (see ``training.whole_pictures``).
    """

    def __init__(self, size_px: int, num_workers: int = 0, *, how: How = AS_PUBLISHED, is_whole: bool = False) -> None:
        self.size_px = size_px
        self.how = how
        self.is_whole = is_whole
        self._of_parts: Decoders | None = None
        self.num_workers = num_workers
        self._kept: Kept | None = None
        self._work: _Work | None = None

    def keep(self, paths: Sequence[str]) -> None:
        """Keep the decoded pixels of these files for all processes of this machine (see ``cache``).

        Args:
            paths: all files of the data set; the cache is opened with the first request.
        """
        assert self._work is None
        # The name of an older cache stays what it was.
        how = "" if self.how == AS_PUBLISHED else " ".join((*self.how.words(), ""))
        self._kept = cache.opened(paths, self.size_px, how)
        if self._kept is not None:
            weakref.finalize(self, self._kept.close)

    def of_parts(self, size_px: int) -> "Decoders":
        """Those of the parts of the same pictures, with workers of their own."""
        if self._of_parts is None or self._of_parts.size_px != size_px:
            self._of_parts = Decoders(size_px, self.num_workers, how=self.how)
        return self._of_parts

    @property
    def num_slots(self) -> int:
        """Number of images that the shared ring holds."""
        return max(SMALLEST_RING, RING_BYTES // (3 * self.size_px * self.size_px))

    def take(self, paths: Sequence[str]) -> Tensor:
        """Return decoded images, and wait for those that are not decoded yet.

        Args:
            paths: B files.

        Returns:
            uint8 (B, 3, H, W) on the CPU; in memory channels come last, as decoders write them.

        Raises:
            DataError: a file cannot be decoded.
            RuntimeError: a worker process has ended.
        """
        images_BHWC = torch.empty((len(paths), self.size_px, self.size_px, 3), dtype=torch.uint8)
        missing = [row for row, path in enumerate(paths) if not self._is_kept(path)]
        step = self.num_slots // 2
        for first in range(0, len(missing), step):
            rows = missing[first : first + step]
            self._started().take([paths[row] for row in rows], rows, images_BHWC)
        if self._kept is not None:
            for row in sorted(set(range(len(paths))) - set(missing)):
                self._kept.read(paths[row], images_BHWC[row])
        return images_BHWC.permute(0, 3, 1, 2)

    def unreadable(self, paths: Sequence[str]) -> dict[str, str]:
        """Read all these files once, and say for each that cannot be decoded why, in a sentence."""
        step = max(1, self.num_slots // 4) if self.size_px else len(paths)
        found: dict[str, str] = {}
        for first in range(0, len(paths), max(1, step)):
            part = paths[first : first + step]
            if self.size_px and len(paths) >= MANY:
                try:
                    self.take(part)
                    continue
                except DataError:
                    pass  # one of them; it does not say which
            for path in part:
                try:
                    decoder.decoded(path, self.size_px, self.how)
                except decoder.Unreadable as error:
                    found[path] = str(error)
        if self._work is not None:
            self._work.close()  # they may start again with a cache
            self._work = None
        return found

    def announce(self, paths: Sequence[str]) -> None:
        """Decode these files next, in this order, as far as there is room."""
        missing = [path for path in paths if not self._is_kept(path)]
        if missing or self._work is not None:
            self._started().announce(missing)

    def _is_kept(self, path: str) -> bool:
        return self._kept is not None and self._kept.has(path)

    def _started(self) -> "_Work":
        if self._work is None:
            num_workers = self.num_workers or torch.get_num_threads()
            self._work = _Work(self, num_workers, self._kept)
            weakref.finalize(self, self._work.close)
        return self._work


class _Work:
    """Ring, worker processes, and a thread for each that hands it one chunk after another. One consumer."""

    def __init__(self, like: Decoders, num_workers: int, keep: Kept | None) -> None:
        size_px, num_slots = like.size_px, like.num_slots
        self._kept = keep
        self._changed = threading.Condition()
        self._slots: dict[str, int] = {}  # of every file that is being decoded, or waits decoded
        self._ready: set[str] = set()
        self._forgotten: set[str] = set()  # being decoded, but nobody wants them any more
        self._errors: dict[str, Exception] = {}
        self._free = list(range(num_slots))
        self._asked: deque[str] = deque()
        self._coming: Iterator[str] = iter(())
        self._most_ahead = num_slots // 2
        self._closed = False
        with _shared_file() as ring:
            ring.truncate(num_slots * 3 * size_px * size_px)
            memory = mmap.mmap(ring.fileno(), 0)
            self._ring_SHWC = torch.frombuffer(memory, dtype=torch.uint8).view(num_slots, size_px, size_px, 3)
            command = [sys.executable, "-I", str(Path(decoder.__file__))]
            command += [str(ring.fileno()), str(size_px), *like.how.words()]
            passed = [ring.fileno()]
            if keep is not None:
                command += [str(keep.fd), str(keep.first_byte)]
                passed.append(keep.fd)
            self.processes = [
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=passed)
                for _ in range(num_workers)
            ]
        self._threads = [
            threading.Thread(target=self._serve, args=(process,), daemon=True) for process in self.processes
        ]
        for thread in self._threads:
            thread.start()

    def take(self, paths: Sequence[str], rows: Sequence[int], out_BHWC: Tensor) -> None:
        """The images of these paths into these rows of ``out_BHWC``."""
        wanted = dict.fromkeys(paths)
        with self._changed:
            for path in wanted:
                self._forgotten.discard(path)
                if path not in self._slots:
                    self._slots[path] = self._free.pop()
                    self._asked.append(path)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._ready.issuperset(wanted) or not self._alive())
            if not self._ready.issuperset(wanted):
                raise RuntimeError("every process that decodes images has ended; is the machine out of memory?")
            errors = [self._errors[path] for path in wanted if path in self._errors]
            slots_B = torch.tensor([self._slots[path] for path in paths])
        if not errors:
            # Outside the lock: these slots are nobody else's until they are released.
            if len(rows) == len(out_BHWC):
                torch.index_select(self._ring_SHWC, 0, slots_B, out=out_BHWC)
            else:
                out_BHWC[torch.tensor(rows)] = self._ring_SHWC[slots_B]
        with self._changed:
            for path in wanted:
                self._release(path)
            self._changed.notify_all()
        if errors:
            raise type(errors[0])(shortened([str(error) for error in errors]))

    def announce(self, paths: Sequence[str]) -> None:
        with self._changed:
            self._forgotten = set(self._slots) - self._ready
            for path in list(self._ready):
                self._release(path)
            self._coming = iter(paths)
            self._changed.notify_all()

    def close(self) -> None:
        """End the worker processes."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for process, thread in zip(self.processes, self._threads, strict=True):
            process.terminate()
            process.wait()
            # A thread that still runs while the interpreter is taken down can take the process with it.
            thread.join(timeout=JOIN_TIMEOUT_S)
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                with suppress(OSError):  # what was written and not sent has no reader any more
                    pipe.close()

    def _alive(self) -> bool:
        return any(process.poll() is None for process in self.processes)

    def _release(self, path: str) -> None:
        self._ready.discard(path)
        self._errors.pop(path, None)
        self._free.append(self._slots.pop(path))

    def _next(self) -> list[str]:
        """The next files to decode, those that are waited for first; each has its slot."""
        chunk = [self._asked.popleft() for _ in range(min(CHUNK, len(self._asked)))]
        room = min(CHUNK, len(self._free) - self._most_ahead)
        if not chunk and room > 0:
            for path in islice(self._coming, room):
                self._forgotten.discard(path)
                if path not in self._slots:
                    self._slots[path] = self._free.pop()
                    chunk.append(path)
        return chunk

    def _serve(self, process: "subprocess.Popen[bytes]") -> None:
        while chunk := self._wait_for_work():
            errors = self._decode(process, chunk)
            with self._changed:
                for _, path, _ in chunk:
                    self._ready.add(path)
                    if path in errors:
                        self._errors[path] = errors[path]
                    if path in self._forgotten:
                        self._forgotten.discard(path)
                        self._release(path)
                self._changed.notify_all()
            if process.poll() is not None:
                return

    def _wait_for_work(self) -> list[tuple[int, str, int]]:
        """The next chunk as (slot, path, place among the kept ones); empty when everything is over."""
        with self._changed:
            while not self._closed:
                if paths := self._next():
                    return [(self._slots[path], path, self._place(path)) for path in paths]
                self._changed.wait()
        return []

    def _place(self, path: str) -> int:
        return -1 if self._kept is None else self._kept.number(path)

    @staticmethod
    def _decode(process: "subprocess.Popen[bytes]", chunk: list[tuple[int, str, int]]) -> dict[str, Exception]:
        """What went wrong, by path."""
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(chunk).encode() + b"\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except OSError:
            answer = b""
        if not answer:
            ended = RuntimeError(f"a process that decodes images has ended with code {process.wait()}")
            return dict.fromkeys((path for _, path, _ in chunk), ended)
        return {path: DataError(sentence) for path, sentence in json.loads(answer)}


def _shared_file() -> IO[bytes]:
    """Memory as a file without a name, so that nothing is left of it when the last process with it has ended."""
    # /dev/shm would do on Linux, but is 64 MB in many containers.
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("decoded-images"), "r+b")
    return tempfile.TemporaryFile()
