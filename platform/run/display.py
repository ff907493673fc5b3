"""What is on screen while a sweep runs: a table that is redrawn on a terminal, plain lines everywhere else.

Nothing here may harm the sweep: an error stops the display, once and in words, and nothing else.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live as Screen
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..ledger.formatting import format_number, format_seconds, format_spread

_DRAW_EVERY_S = 0.25
_PRINT_EVERY_S = 10.0
_MOST_RUNNING, _MOST_ENDED = 12, 4
_LONGEST_ERROR = 160


@dataclass(frozen=True)
class Running:
    """A running trial. epoch: the last finished one of ``total`` in stage ``slot``; slot "" before the first."""

    label: str
    slot: str
    epoch: int
    total: int
    seconds: float


@dataclass(frozen=True)
class Ended:
    """A trial that ended in this run of the command. place, of: its number among all of its kind."""

    label: str
    place: int
    of: int
    status: str
    values: Mapping[str, float]
    seconds: float
    error: str = ""


@dataclass(frozen=True)
class Best:
    """The best configuration so far: mean, deviation (None for one seed) and number of seeds of the objective."""

    label: str
    metric: str
    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Snapshot:
    """A sweep at one moment. done, failed: trials out of ``total``. prepared, prepare: shared stages, done and in all.

    ended: in the order of ending, never shrinking. unsent: trials that the tracker fails to take.
    time_left_s: None while unknown.
    """

    total: int
    done: int
    failed: int
    running: tuple[Running, ...] = ()
    ended: tuple[Ended, ...] = ()
    best: Best | None = None
    prepared: int = 0
    prepare: int = 0
    unsent: int = 0
    time_left_s: float | None = None


Look = Snapshot | Callable[[], Snapshot]
"""A snapshot, or a function that takes one: it is called only when something is to be shown."""


class Display(Protocol):
    """Where snapshots are shown."""

    def show(self, snapshot: Snapshot) -> None: ...

    def stop(self) -> None: ...


@dataclass
class LiveDisplay:
    """Shows snapshots while it is entered; ``update`` may be called at any rate and never raises.

    quiet: plain lines on stderr even on a terminal (stdout belongs to ``--json``).
    """

    title: str
    quiet: bool = False
    clock: Callable[[], float] = time.monotonic
    _display: Display | None = field(default=None, init=False)
    _look: Look | None = field(default=None, init=False)
    _shown_at: float = field(default=float("-inf"), init=False)

    def __enter__(self) -> "LiveDisplay":
        terminal = None if self.quiet else _terminal()
        try:
            self._display = OnScreen(self.title, terminal) if terminal else InLines(sys.stderr, self.clock)
        except Exception as error:
            self._give_up(error)
        return self

    def update(self, look: Look) -> None:
        """Show the snapshot, unless something was shown a moment ago; then a later call, or the end, shows it."""
        self._look = look
        if self.clock() - self._shown_at >= _DRAW_EVERY_S:
            self._show()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._show()
        finally:
            self._stop()

    def _show(self) -> None:
        if self._display is None or self._look is None:
            return
        self._shown_at = self.clock()
        try:
            self._display.show(self._look() if callable(self._look) else self._look)
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._stop()
        try:
            print(f"the display stopped ({type(error).__name__}: {error}); the sweep goes on", file=sys.stderr)
        except Exception:
            pass  # stderr is gone, so nobody can read it

    def _stop(self) -> None:
        display, self._display = self._display, None
        try:
            if display is not None:
                display.stop()
        except Exception:
            pass  # a terminal that went away cannot be tidied up


class OnScreen:
    """Redraws one table in place; what others print appears above it."""

    def __init__(self, title: str, stream: TextIO) -> None:
        self._title = title
        self._screen = Screen(
            console=Console(file=stream),
            auto_refresh=False,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
        )
        self._screen.start()

    def show(self, snapshot: Snapshot) -> None:
        self._screen.update(drawn(self._title, snapshot), refresh=True)

    def stop(self) -> None:
        self._screen.stop()


class InLines:
    """A line for every trial that ends, and now and then one on how far the sweep is."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._num_ended = 0
        self._last_line, self._printed_at = "", clock()

    def show(self, snapshot: Snapshot) -> None:
        lines = [ended_line(each) for each in snapshot.ended[self._num_ended :]]
        self._num_ended = len(snapshot.ended)
        now = status_line(snapshot)
        if lines:
            self._printed_at = self._clock()
        elif now != self._last_line and self._clock() - self._printed_at >= _PRINT_EVERY_S:
            lines, self._last_line, self._printed_at = [now], now, self._clock()
        if lines:
            print("\n".join(lines), file=self._stream, flush=True)

    def stop(self) -> None:
        """Nothing is left open."""


def ended_line(ended: Ended) -> str:
    """ "[ 12/36] δ=0.95 k2=20 r=0.03 seed 1  done  spc/selection_loss -2.281  acc 0.958  6.2 s"."""
    values = [f"{name} {format_number(value)}" for name, value in ended.values.items()]
    error = " ".join(ended.error.split())
    shown = error if len(error) <= _LONGEST_ERROR else error[: _LONGEST_ERROR - 1] + "…"
    place = f"[{ended.place:>{len(str(ended.of)) + 1}}/{ended.of}]"
    parts = [
        f"{place} {ended.label}",
        ended.status,
        *values,
        format_seconds(ended.seconds),
        *([shown] if shown else []),
    ]
    return "  ".join(parts)


def status_line(snapshot: Snapshot) -> str:
    """How far the sweep is, on one line; without the times that change at every look."""
    parts = [f"{snapshot.done} of {snapshot.total} trials done", f"{len(snapshot.running)} running"]
    if snapshot.prepared < snapshot.prepare:
        parts.insert(0, f"shared stages {snapshot.prepared} of {snapshot.prepare}")
    if snapshot.failed:
        parts.append(f"{snapshot.failed} failed")
    if snapshot.running and snapshot.running[0].slot:
        first = snapshot.running[0]
        parts.append(f"{first.label}: {first.slot} epoch {first.epoch}/{first.total}")
    if snapshot.time_left_s is not None:
        parts.append(f"about {_about(snapshot.time_left_s)} left")
    if snapshot.unsent:
        parts.append(f"{snapshot.unsent} not in MLflow yet")
    return ", ".join(parts)


def drawn(title: str, snapshot: Snapshot) -> RenderableType:
    """The snapshot as a block of a terminal."""
    ended = snapshot.done + snapshot.failed
    counts = f"{snapshot.done} of {snapshot.total} done, {len(snapshot.running)} running, {snapshot.failed} failed"
    head = f"{title}   {counts}"
    if snapshot.time_left_s is not None:
        head += f"   about {_about(snapshot.time_left_s)} left"
    parts: list[RenderableType] = [Text(head, style="bold")]
    bar = Table.grid()  # a bar by itself does not end its line
    bar.add_row(ProgressBar(total=max(1, snapshot.total), completed=ended, width=60))
    parts.append(bar)
    if snapshot.prepared < snapshot.prepare:
        parts.append(Text(f"shared stages: {snapshot.prepared} of {snapshot.prepare} seeds"))
    if snapshot.best is not None:
        best = snapshot.best
        parts.append(Text(f"best   {best.label}   {best.metric} {format_spread(best.mean, best.std, best.n)}"))
    if snapshot.running:
        parts.append(_running_table(snapshot.running))
    style = {"failed": "red"}
    parts += [Text(ended_line(each), style=style.get(each.status, "dim")) for each in snapshot.ended[-_MOST_ENDED:]]
    if snapshot.unsent:
        parts.append(Text(f"MLflow does not have {snapshot.unsent} trials yet; nothing is lost", style="yellow"))
    return Group(*parts)


def _running_table(running: Sequence[Running]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("running", "stage", "epoch", "for"):
        table.add_column(column, no_wrap=True, justify="right" if column == "for" else "left")
    for each in running[:_MOST_RUNNING]:
        epoch = f"{each.epoch}/{each.total}" if each.slot else ""
        table.add_row(Text(each.label), Text(each.slot), epoch, format_seconds(each.seconds))
    if len(running) > _MOST_RUNNING:
        table.add_row(f"and {len(running) - _MOST_RUNNING} more")
    return table


def _about(seconds: float) -> str:
    """Coarse: an estimate must not flicker, nor look exact."""
    return f"{5 * max(1, round(seconds / 5))} s" if seconds < 90 else f"{round(seconds / 60)} min"


def _terminal() -> TextIO | None:
    """Where a table can be redrawn, if anywhere; stderr first, because stdout is for results."""
    return next((stream for stream in (sys.stderr, sys.stdout) if stream.isatty() and _can_move(stream)), None)


def _can_move(stream: TextIO) -> bool:
    return not Console(file=stream).is_dumb_terminal
