import io
import time
from platform.run.display import (
    Best,
    Ended,
    InLines,
    LiveDisplay,
    OnScreen,
    Running,
    Snapshot,
    drawn,
    ended_line,
    status_line,
)

import pytest
from rich.console import Console

DONE = Ended("δ=0.95 k2=20 r=0.03 seed 1", 12, 36, "done", {"spc/selection_loss": -2.2809, "acc": 0.958}, 6.2)
LOST = Ended("δ=0.9 seed 0", 13, 36, "failed", {}, 1.0, "Diverged: spc: loss is nan\nlower spc.optimizer.lr")
RUNNING = Running("δ=0.98 seed 2", "spc", 3, 15, 4.0)
BUSY = Snapshot(
    total=36,
    done=12,
    failed=1,
    running=(RUNNING,),
    ended=(DONE, LOST),
    best=Best("δ=0.95", "spc/selection_loss", -2.281, 0.01, 3),
    prepared=1,
    prepare=3,
    unsent=4,
    time_left_s=170.0,
)


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _screen_text(state: Snapshot, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as captured:
        console.print(drawn("spc", state))
    return captured.get()


def test_a_finished_trial_is_one_line() -> None:
    assert ended_line(DONE) == (
        "[ 12/36] δ=0.95 k2=20 r=0.03 seed 1  done  spc/selection_loss -2.281  acc 0.958  6.2 s"
    )


def test_a_failed_trial_says_why_on_the_same_line() -> None:
    assert ended_line(LOST) == "[ 13/36] δ=0.9 seed 0  failed  1.0 s  Diverged: spc: loss is nan lower spc.optimizer.lr"


def test_a_status_line_has_no_time_that_changes_by_itself() -> None:
    assert status_line(BUSY) == (
        "shared stages 1 of 3, 12 of 36 trials done, 1 running, 1 failed, δ=0.98 seed 2: spc epoch 3/15, "
        "about 3 min left, 4 not in MLflow yet"
    )


def test_the_screen_shows_progress_best_running_and_unsent() -> None:
    lines = [" ".join(line.split()) for line in _screen_text(BUSY).splitlines()]
    assert lines[0] == "spc 12 of 36 done, 1 running, 1 failed about 3 min left"
    assert "shared stages: 1 of 3 seeds" in lines
    assert "best δ=0.95 spc/selection_loss -2.281 ± 0.010 (3)" in lines
    assert "δ=0.98 seed 2 spc 3/15 4.0 s" in lines
    assert "MLflow does not have 4 trials yet; nothing is lost" in lines


def test_time_left_is_not_shown_while_unknown() -> None:
    assert "left" not in _screen_text(Snapshot(total=3, done=0, failed=0))


def test_a_long_list_of_running_trials_is_cut_and_counted() -> None:
    text = _screen_text(Snapshot(total=99, done=0, failed=0, running=(RUNNING,) * 20))
    assert "and 8 more" in text
    assert text.count("δ=0.98 seed 2") == 12


def test_names_are_not_taken_for_markup() -> None:
    text = _screen_text(Snapshot(total=1, done=0, failed=0, running=(Running("[red]row[/red]", "spc", 1, 2, 0.0),)))
    assert "[red]row[/red]" in text


def test_each_ended_trial_is_said_once() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = InLines(stream, clock)
    lines.show(Snapshot(total=36, done=1, failed=0, ended=(DONE,)))
    lines.show(Snapshot(total=36, done=1, failed=1, ended=(DONE, LOST)))
    assert stream.getvalue() == f"{ended_line(DONE)}\n{ended_line(LOST)}\n"


def test_between_trials_a_status_line_comes_every_ten_seconds_if_anything_changed() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = InLines(stream, clock)
    first, second = (Snapshot(total=2, done=0, failed=0, running=(Running("a", "spc", n, 9, 0.0),)) for n in (1, 2))
    for now, state in ((1.0, first), (10.0, first), (19.0, second), (25.0, second), (40.0, second)):
        clock.now = now
        lines.show(state)
    assert stream.getvalue() == f"{status_line(first)}\n{status_line(second)}\n"


def test_at_most_four_updates_a_second_are_shown() -> None:
    clock, looks = Clock(), []

    def look() -> Snapshot:
        looks.append(clock.now)
        return Snapshot(total=1, done=0, failed=0)

    with LiveDisplay("spc", quiet=True, clock=clock) as live:
        for step in range(100):
            clock.now = step / 100
            live.update(look)
        assert looks == [0.0, 0.25, 0.5, 0.75]


def test_what_came_too_soon_is_shown_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveDisplay("spc", quiet=True, clock=Clock()) as live:
        live.update(Snapshot(total=36, done=0, failed=0))
        live.update(Snapshot(total=36, done=12, failed=0, ended=(DONE,)))
    assert capsys.readouterr().err == f"{ended_line(DONE)}\n"


def test_quiet_leaves_stdout_alone_even_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    with LiveDisplay("spc", quiet=True) as live:
        live.update(BUSY)
    assert stream.getvalue() == f"{ended_line(DONE)}\n{ended_line(LOST)}\n"
    assert capsys.readouterr().out == ""


def test_a_terminal_gets_a_table_and_its_cursor_back(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    with LiveDisplay("spc") as live:
        live.update(BUSY)
    assert "12 of 36 done" in stream.getvalue()
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    with LiveDisplay("spc") as live:
        live.update(Snapshot(total=36, done=12, failed=0, ended=(DONE,)))
    assert stream.getvalue() == f"{ended_line(DONE)}\n"


def test_an_error_while_looking_stops_the_display_and_not_the_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    def look() -> Snapshot:
        raise KeyError("scan")

    with LiveDisplay("spc", quiet=True) as live:
        live.update(look)
        live.update(look)
    assert capsys.readouterr().err == "the display stopped (KeyError: 'scan'); the sweep goes on\n"


def test_a_closed_stderr_does_not_end_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr("sys.stderr", stream)
    with LiveDisplay("spc", quiet=True) as live:
        live.update(BUSY)


def test_an_interrupt_passes_through_and_the_terminal_is_tidied(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    with pytest.raises(KeyboardInterrupt), LiveDisplay("spc") as live:
        live.update(BUSY)
        raise KeyboardInterrupt
    assert "\x1b[?25h" in stream.getvalue()


def test_drawing_takes_less_than_five_milliseconds() -> None:
    stream = Terminal()
    screen = OnScreen("spc", stream)
    times = []
    for _ in range(20):
        began = time.process_time()
        screen.show(BUSY)
        times.append(time.process_time() - began)
    screen.stop()
    assert sorted(times)[10] < 0.005
