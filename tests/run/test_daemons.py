"""Ray's own processes: their death ends the launch in the main thread, and nothing of theirs is left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from platform.run import daemons, environment
from platform.run.daemons import ClusterDied, Watch

import pytest

# A process that has started another one, as Ray's raylet has its workers.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def raylet() -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """A process in the place of Ray's, and the number of what it has started."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        yield process, child
        process.kill()
        for pid in (child,):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def is_running(pid: int) -> bool:
    """A zombie, which nobody has asked for its end, does not run."""
    fields = daemons._fields(pid)
    return bool(fields) and fields[0] != "Z"


def test_a_death_of_ray_s_interrupts_the_main_thread_and_leaves_no_process(
    raylet: tuple["subprocess.Popen[bytes]", int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemons, "EVERY_S", 0.05)
    process, child = raylet
    watch = Watch(partial(daemons.why_dead_here, {"raylet": [process]}), [process.pid])
    watch.start()
    try:
        with pytest.raises(ClusterDied, match="Ray's raylet was ended by SIGKILL while the sweep ran"):
            time.sleep(0.3)
            process.kill()
            time.sleep(30)
    finally:
        watch.stop()
    assert is_running(child)
    watch.end_all()
    deadline = time.monotonic() + 10
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(child)


def test_while_ray_lives_nothing_happens_and_the_handler_of_before_is_put_back(
    raylet: tuple["subprocess.Popen[bytes]", int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemons, "EVERY_S", 0.02)
    before = signal.getsignal(signal.SIGUSR2)
    watch = Watch(partial(daemons.why_dead_here, {"raylet": [raylet[0]]}), [raylet[0].pid])
    watch.start()
    time.sleep(0.2)
    watch.stop()
    assert watch.died == "" and signal.getsignal(signal.SIGUSR2) is before


def test_an_end_by_itself_is_named_with_its_code() -> None:
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as process:
        process.wait()
    assert "Ray's gcs_server ended with code 3" in daemons.why_dead_here({"raylet": [], "gcs_server": [process]})


def test_a_joined_cluster_is_dead_when_its_head_was_silent_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now, answers = [0.0], [True]

    def ask(address: str) -> None:
        if not answers[0]:
            raise environment.Unusable("no answer")

    monkeypatch.setattr(environment, "refuse_dead_address", ask)
    why_dead = daemons.silence_of("head:6379", lambda: now[0])
    for now[0], answers[0], dead in [(5, True, False), (20, False, False), (34, False, False), (36, False, True)]:
        assert bool(why_dead()) == dead, now
    answers[0] = True
    assert why_dead() == ""
