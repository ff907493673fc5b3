"""What disturbs a sweep: at random, by a seed, for a while.

Each act breaks one thing and mends it, if it is not what the sweep itself must mend. Jepsen calls it the nemesis.
"""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

Below = Callable[[], Mapping[int, str]]
"""Process id -> command line of everything below the driver; the driver's own id is not among them."""

PAUSE_S = 3.0, 12.0
"""Before an act: a process needs some seconds to start, and is to do something before it is disturbed again."""
TRIAL, SEARCH = "ray::ImplicitFunc", "ray::SearchActor"


class Disk:
    """A small file system, which can be filled to the last byte and emptied again. Only root may mount one."""

    def __init__(self, folder: Path, size_mib: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)]
        self.is_small = subprocess.run(mount, capture_output=True, check=False).returncode == 0

    def fill(self) -> None:
        with (self.folder / "filler").open("wb") as file, suppress(OSError):
            while True:
                file.write(bytes(1 << 20))
                file.flush()

    def empty(self) -> None:
        (self.folder / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        if self.is_small:
            subprocess.run(["umount", "-l", str(self.folder)], check=False)


class Nemesis:
    """Acts one after another, each drawn by its weight; ``done`` counts them."""

    def __init__(self, seed: int, weights: Mapping[str, float]) -> None:
        self._chance = random.Random(seed)
        self._weights = dict(weights)
        self.done: Counter[str] = Counter()

    def draw(self) -> tuple[str, float]:
        """The next act, and how many seconds to wait before it."""
        names = sorted(self._weights)
        (name,) = self._chance.choices(names, [self._weights[each] for each in names])
        self.done[name] += 1
        return name, self._chance.uniform(*PAUSE_S)

    def seconds(self, low: float, high: float) -> float:
        return self._chance.uniform(low, high)

    def one_of(self, below: Mapping[int, str], prefix: str) -> int | None:
        """One process, drawn from those whose command line begins so."""
        found = sorted(pid for pid, command in below.items() if command.startswith(prefix))
        return self._chance.choice(found) if found else None


def kill(pid: int | None) -> None:
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def pause(pid: int | None, seconds: float) -> None:
    """Stop a process for a while."""
    if pid is None:
        return
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)
