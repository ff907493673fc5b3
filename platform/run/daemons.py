"""Whether Ray's own processes live, asked by the driver: none of Ray's waiting calls ends when they die.

A cluster that was started here is watched by its processes, a cluster that was joined by the answers of its head.
"""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import Popen
from types import FrameType
from typing import Any

from ..ledger.deferred_signals import deliver
from . import environment

EVERY_S = 1.0
SILENT_S = 30.0
"""How long a joined cluster's head may give no answer."""

_PATIENCE_S = 30.0
"""For the main thread, which may be in a call of Ray's that hears no signal."""


class ClusterDied(KeyboardInterrupt):
    """Ray's own processes have died under a launch. Its text is for the user.

    A KeyboardInterrupt, as ``launch.Interrupted`` is: Ray's waiting calls let nothing else pass.
    """


class Watch:
    """A thread that looks after Ray; when Ray is dead, ``ClusterDied`` is raised in the main thread.

    Args:
        why_dead: called again and again; a sentence once Ray is dead, else an empty text.
        roots: the processes of Ray's that were started here; they and what they started are ended by ``end_all``.
    """

    def __init__(self, why_dead: Callable[[], str], roots: Sequence[int] = ()) -> None:
        self.died = ""
        self._why_dead, self._roots = why_dead, roots
        self._known: set[tuple[int, str]] = set()
        self._stop, self._noticed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="ray-watch", daemon=True)
        self._handler: Any = None

    def start(self) -> None:
        """Begin. Call it in the main thread."""
        # Tune takes SIGUSR1 for itself while it runs, and then ends without a word.
        self._handler = signal.signal(signal.SIGUSR2, self._interrupt)
        self._thread.start()

    def stop(self) -> None:
        """End. Nothing is raised from here on."""
        self._noticed.set()
        self._stop.set()
        signal.signal(signal.SIGUSR2, self._handler)

    def end_all(self) -> None:
        """Kill what is left of Ray here: without its head it would wait for a minute, or for ever."""
        self._look()
        for known in self._known:
            if _started(known[0]) == known[1]:  # else the number is another process's by now
                with suppress(OSError):
                    os.kill(known[0], signal.SIGKILL)

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            self._look()
            self.died = self._why_dead()
            if not self.died:
                continue
            if self._stop.is_set():
                return
            os.kill(os.getpid(), signal.SIGUSR2)
            if not self._noticed.wait(_PATIENCE_S):
                print(self.died, file=sys.stderr, flush=True)
                self.end_all()
                os._exit(1)
            return

    def _look(self) -> None:
        self._known |= descendants(self._roots)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if not self._noticed.is_set():
            deliver(ClusterDied(self.died))


def why_dead_here(processes: Mapping[str, Sequence[Popen[bytes]]]) -> str:
    """A sentence if one of these processes of Ray's has ended; their kinds are Ray's names for them."""
    for kind, each in processes.items():
        for process in each:
            if process.poll() is not None:
                end = process.returncode
                how = f"was ended by {signal.Signals(-end).name}" if end < 0 else f"ended with code {end}"
                return f"Ray's {kind} {how} while the sweep ran, for want of memory or by somebody's hand"
    return ""


def silence_of(address: str, clock: Callable[[], float]) -> Callable[[], str]:
    """A ``why_dead`` for a cluster that was joined: a sentence once its head has been silent for ``SILENT_S``."""
    heard_s = clock()

    def why_dead() -> str:
        nonlocal heard_s
        try:
            environment.refuse_dead_address(address)
            heard_s = clock()
        except environment.Unusable:
            if clock() - heard_s >= SILENT_S:
                return f"the head of the Ray cluster at {address} has given no answer for {SILENT_S:g} s"
        return ""

    return why_dead


def descendants(roots: Sequence[int]) -> set[tuple[int, str]]:
    """(number, time of start) of living processes and of everything that they started, by the kernel's list."""
    parents, started = dict[int, int](), dict[int, str]()
    for folder in Path("/proc").iterdir() if roots else ():
        if folder.name.isdecimal() and (fields := _fields(int(folder.name))):
            parents[int(folder.name)], started[int(folder.name)] = int(fields[1]), fields[19]
    family = {pid for pid in roots if pid in parents}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return {(pid, started[pid]) for pid in family}


def _started(pid: int) -> str:
    fields = _fields(pid)
    return fields[19] if fields else ""


def _fields(pid: int) -> list[str]:
    """What the kernel says of a process, from its state on (proc(5), stat); empty if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def forget_ray() -> None:
    """Keep Ray's own ends from waiting at this process's exit for a head that is gone."""
    import ray

    from . import tune_internals

    atexit.unregister(ray.shutdown)
    tune_internals.forget_exit()
