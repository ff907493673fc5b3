"""Sweeps of hundreds of trials under faults at random: nothing acknowledged is lost, nothing done is done again.

``make chaos`` runs this. CHAOS_S, CHAOS_TRIALS and CHAOS_SEED in the environment make it longer, or another one.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import views
from tests.chaos.nemesis import SEARCH, TRIAL, Disk, Nemesis, kill, pause
from tests.chaos.study import METRIC, STUDY, faults, page

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

NewSweep = Callable[..., Any]

CHAOS_S = float(os.environ.get("CHAOS_S", "600"))
TRIALS = int(os.environ.get("CHAOS_TRIALS", "300"))
SEED = int(os.environ.get("CHAOS_SEED", "0"))
MENDING_S = 600.0
"""After the last fault a sweep must come to its end within this time."""
MOST_STARTS = 60


class Mlflow:
    """A real MLflow server on a file of its own, killed and started again at will."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self._folder / 'server.db'}"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def is_up(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def wait(self) -> None:
        until = time.monotonic() + 240
        while not self.is_up():
            assert time.monotonic() < until, (self._folder / "log").read_text()[-2000:]
            time.sleep(0.5)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@pytest.fixture
def mlflow(tmp_path: Path) -> Iterator[Mlflow]:
    server = Mlflow(tmp_path / "mlflow")
    server.start()
    server.wait()
    yield server
    server.kill()


class Disturbed:
    """A sweep that is started again until it is done, while something disturbs it."""

    def __init__(self, sweep: Any, nemesis: Nemesis, disk: Disk, server: Mlflow) -> None:
        self._sweep, self._nemesis, self._disk, self._server = sweep, nemesis, disk, server
        self.starts = 0
        self.codes: list[int] = []
        self.driver = self._started()

    def _started(self) -> "subprocess.Popen[str]":
        self.starts += 1
        assert self.starts <= MOST_STARTS, self.codes
        with self._sweep.page.with_name(f"log-{self.starts}").open("w") as log:
            driver: subprocess.Popen[str] = self._sweep.start(output=log)
        return driver

    def is_done(self) -> bool:
        """Whether it has come to its end; a driver that ended before is replaced."""
        code = self.driver.poll()
        if code is None:
            return False
        self.codes.append(code)
        # 2 is "wrong file or command": no fault may be taken for one, except a disk that is full at the start.
        assert code in (0, 1, 2, -signal.SIGKILL), self.codes
        if code == 0:
            return True
        self._disk.empty()
        self.driver = self._started()
        return False

    def suffer(self, act: str) -> None:
        below = self._sweep.below(self.driver)
        if act == "kill trial":
            kill(self._nemesis.one_of(below, TRIAL))
        elif act == "kill search":
            kill(self._nemesis.one_of(below, SEARCH))
        elif act == "pause trial":
            pause(self._nemesis.one_of(below, TRIAL), self._nemesis.seconds(1, 5))
        elif act == "pause driver":
            pause(self.driver.pid, self._nemesis.seconds(1, 8))
        elif act == "kill driver":
            kill(self.driver.pid)
            self.driver.wait()
            left = self._sweep.wait_until_gone(below)
            assert left == {}, left
        elif act == "mlflow down":
            self._server.kill()
            time.sleep(self._nemesis.seconds(2, 15))
            self._server.start()
        elif act == "disk full":
            self._disk.fill()
            until = time.monotonic() + 20
            while self.driver.poll() is None and time.monotonic() < until:
                time.sleep(0.2)
            self._disk.empty()


WEIGHTS = {
    "kill trial": 40.0,
    "kill search": 15.0,
    "pause trial": 15.0,
    "pause driver": 10.0,
    "mlflow down": 8.0,
    "kill driver": 8.0,
    "disk full": 4.0,
}


@pytest.fixture(scope="module")
def calm(kept_sweep: NewSweep) -> Any:
    """The undisturbed sweep."""
    sweep = page(kept_sweep(), TRIALS)
    began = time.monotonic()
    undisturbed = sweep.run_for(2 * MENDING_S)
    assert undisturbed.returncode == 0, undisturbed.stderr
    assert len(sweep.trials()) == TRIALS
    print(f"undisturbed: {TRIALS} trials in {time.monotonic() - began:.0f} s")
    return sweep


def test_ten_minutes_of_faults_at_random_change_no_result(
    new_sweep: NewSweep, calm: Any, mlflow: Mlflow, tmp_path: Path
) -> None:
    best = views.of_ledger(calm.storage, STUDY, METRIC)
    disk = Disk(tmp_path / "disk", size_mib=2048)
    sweep = page(new_sweep("stormy"), TRIALS, f"tracking: {{uri: {mlflow.uri}}}\n")
    sweep.storage = disk.folder / "storage"
    nemesis = Nemesis(SEED, WEIGHTS if disk.is_small else {k: v for k, v in WEIGHTS.items() if k != "disk full"})
    try:
        began = time.monotonic()
        disturbed = Disturbed(sweep, nemesis, disk, mlflow)
        done = False
        while not done and time.monotonic() - began < CHAOS_S:
            act, pause_s = nemesis.draw()
            time.sleep(pause_s)
            done = disturbed.is_done()
            if not done:
                disturbed.suffer(act)
        storm_s = time.monotonic() - began
        mlflow.wait()
        while not done:
            assert time.monotonic() - began < storm_s + MENDING_S, disturbed.codes
            done = disturbed.is_done()
            time.sleep(0.5)
        # Whatever the tracker could not send while its server was down, the same command sends.
        assert sweep.run_for(MENDING_S).returncode == 0
        said = {"faults": dict(nemesis.done), "starts": disturbed.starts, "codes": disturbed.codes}
        print(json.dumps(said | {"storm_s": round(storm_s), "all_s": round(time.monotonic() - began)}))
        assert faults(sweep, mlflow.uri, best) == []
        assert len(sweep.trials()) == TRIALS
        assert not list((sweep.storage / "stages" / ".new").iterdir())
    finally:
        disk.close()


def memory_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def test_hundreds_of_trials_leave_the_driver_as_it_was(calm: Any) -> None:
    """A launch of trials whose stages are all there: its trials cost nothing but their administration."""
    sweep = calm
    sweep.environment["CLUSTERSWEEP_DIARY"] = str(sweep.diary) + "-again"
    with sweep.page.with_name("log-again").open("w") as log:
        driver = sweep.start("--fresh", output=log)
    seen: list[tuple[int, int, int]] = []
    sweep.wait_until(lambda: sweep.value("SELECT COUNT(*) FROM launches") == 2, driver)
    while driver.poll() is None:
        done = len(sweep.trials())
        if TRIALS // 10 < done < TRIALS:  # what comes after the last one, the reports, is no matter of trials
            open_files = len(list(Path(f"/proc/{driver.pid}/fd").iterdir()))
            seen.append((done, memory_kib(driver.pid), open_files))
        time.sleep(0.5)
    assert driver.returncode == 0
    assert len(sweep.trials()) == TRIALS
    first, last = seen[0], seen[-1]
    assert last[0] > first[0], seen
    print(f"driver from trial {first[0]} to {last[0]}: {first[1]} to {last[1]} KiB, {first[2]} to {last[2]} open files")
    assert last[1] < 1.2 * first[1]
    assert last[2] <= first[2] + 20
