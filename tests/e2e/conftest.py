"""Whole sweeps on a few hundred digits, each in a process of its own, and what they left in the ledger."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 240.0
"""For what takes seconds on a quiet machine."""

RAY_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent", "ray/dashboard/agent.py", "runtime_env/agent/main.py")
"""As they call themselves, and as they are called before."""

PAGE = """\
name: tiny
method: spc
dataset: {name: digits, train_limit: 200, eval_limit: 100}
seeds: [0, 1]
fixed:
  pretext.augmentation: affine
  pretext.batch_size: 100
  pretext.epochs: 3
  pretext.optimizer.lr: 0.05
  neighbors.num_neighbors: 10
  scan.num_neighbors: 5
  scan.augmentation: affine
  scan.batch_size: 100
  scan.optimizer.lr: 0.001
  scan.epochs: 3
  spc.strong_augmentation: affine
  spc.weak_augmentation: affine
  spc.top_fraction_per_class: 0.02
  spc.batch_size: 64
  spc.epochs: 3
search:
  spc.strong_threshold: {uniform: [0.15, 0.3]}
  spc.graph_neighbors: {choice: [5, 10]}
sampler: {name: tpe, seed: 0, startup: 2}
trials: 4
"""


@dataclass(frozen=True)
class Row:
    """What the ledger says of one trial, without its times."""

    kind: str
    setting: int | None
    seed: int
    state: str
    attempts: int
    error: str
    metrics: dict[str, float]
    sequence: int | None
    ended: float | None


@dataclass
class Sweep:
    """A storage folder and the sweeps started on it. ray: where Ray puts its sessions.

    diary: what its processes note of trials that begin and end; see trainables/event_log.py.
    """

    page: Path
    storage: Path
    ray: Path
    processes: list["subprocess.Popen[str]"] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: str, output: IO[str] | None = None) -> "subprocess.Popen[str]":
        """output: where it writes, for one that says more than a pipe holds."""
        command = [sys.executable, "-m", "platform.sweep", str(self.page), "--storage", str(self.storage), *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "RAY_TMPDIR": str(self.ray)}
        environment |= {"CLUSTERSWEEP_DIARY": str(self.diary)} | self.environment
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=output or subprocess.PIPE,
            stderr=output or subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        process = self.start(*arguments)
        out, error = process.communicate(timeout=PATIENCE_S)
        return subprocess.CompletedProcess(process.args, process.returncode, out, error)

    def run_for(self, patience_s: float, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """The same for a long one; what it wrote is in stderr."""
        with self.page.with_name("log").open("w+") as log:
            process = self.start(*arguments, output=log)
            process.wait(patience_s)
            log.seek(0)
            return subprocess.CompletedProcess(process.args, process.returncode, "", log.read())

    def rows(self) -> dict[str, Row]:
        """The trials of the newest launch by key; none while there is no ledger."""
        path = self.storage / "ledger.db"
        if not path.exists():
            return {}
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
        connection.row_factory = sqlite3.Row
        try:
            found = connection.execute(
                "SELECT * FROM trials WHERE launch = (SELECT MAX(id) FROM launches) ORDER BY setting, seed"
            ).fetchall()
        except sqlite3.OperationalError:
            return {}  # the tables are just being made
        finally:
            connection.close()
        return {row["key"]: _row(row) for row in found}

    def trials(self, state: str = "DONE") -> dict[str, Row]:
        return {key: row for key, row in self.rows().items() if row.kind == "trial" and row.state == state}

    def all(self, query: str) -> list[Any]:
        """What a query finds in the ledger."""
        connection = sqlite3.connect(f"file:{self.storage / 'ledger.db'}?mode=ro", uri=True, timeout=30)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def value(self, query: str) -> Any:
        """The first value of the one row that a query finds."""
        ((found, *_),) = self.all(query)
        return found

    def metrics(self) -> dict[str, dict[str, float]]:
        """Final metrics of every finished trial by key; times left out."""
        return {key: row.metrics for key, row in self.trials().items()}

    def wait_until(self, true: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
        """Wait for something that a running sweep brings about."""
        until = time.monotonic() + PATIENCE_S
        while not true():
            if process.poll() is not None and not true():
                out, error = process.communicate()
                raise AssertionError(f"the sweep ended with {process.returncode} too early:\n{out}\n{error}")
            assert time.monotonic() < until, "the sweep did not come that far"
            time.sleep(0.05)

    def wait_until_gone(self, processes: Mapping[int, str]) -> dict[int, str]:
        """Those of ``processes`` (id -> command line) that still live after 30 s."""
        # Ray's two agents wait a minute for the return of their cluster's head before they end; they hold nothing.
        held = {pid: text for pid, text in processes.items() if not any(name in text for name in RAY_AGENTS)}
        until = time.monotonic() + 30
        while (left := {pid: text for pid, text in held.items() if is_alive(pid)}) and time.monotonic() < until:
            time.sleep(0.2)
        return left

    def below(self, process: "subprocess.Popen[str]") -> dict[int, str]:
        """Process id -> command line of everything that a sweep has started."""
        return descendants(process.pid)

    @property
    def diary(self) -> Path:
        return self.page.with_name("diary")

    @property
    def ray_sessions(self) -> int:
        return len(list(self.ray.rglob("session_*")))


def _row(row: sqlite3.Row) -> Row:
    metrics = {key: value for key, value in json.loads(row["metrics"]).items() if "seconds" not in key}
    names = ("kind", "setting", "seed", "state", "attempts", "error")
    return Row(*(row[name] for name in names), metrics, row["sequence"], row["ended"])


def descendants(pid: int) -> dict[int, str]:
    """Process id -> command line of every living process below ``pid``."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                status = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended meanwhile
            if status[0] != "Z":
                parents[int(folder.name)] = int(status[1])
    found: dict[int, str] = {}
    level = {pid}
    while level := {child for child, parent in parents.items() if parent in level}:
        found |= {child: _command(child) for child in level}
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def new_sweep(tmp_path: Path) -> Iterator[Callable[[str], Sweep]]:
    """new_sweep(name): an empty storage; whatever a test leaves running there is ended."""
    made: list[Sweep] = []

    def new(name: str = "runs") -> Sweep:
        made.append(_new(tmp_path / name))
        return made[-1]

    yield new
    for sweep in made:
        _end(sweep)


@pytest.fixture(scope="module")
def kept_sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Sweep]]:
    """kept_sweep(): an empty storage for all tests of a file."""
    made: list[Sweep] = []

    def new() -> Sweep:
        made.append(_new(tmp_path_factory.mktemp("kept")))
        return made[-1]

    yield new
    for sweep in made:
        _end(sweep)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    """The undisturbed sweep that every other is held against."""
    sweep = _new(tmp_path_factory.mktemp("reference"))
    done = sweep.run()
    assert done.returncode == 0, done.stderr
    yield sweep
    _end(sweep)


def _new(folder: Path) -> Sweep:
    folder.mkdir(exist_ok=True)
    page = folder / "tiny.yaml"
    page.write_text(PAGE)
    # Ray makes sockets below its folder, whose paths may have 107 letters: pytest's own folders are too long.
    return Sweep(page, folder / "storage", Path(tempfile.mkdtemp(prefix="ray")))


def _end(sweep: Sweep) -> None:
    for process in sweep.processes:
        if process.poll() is None:
            for pid in [*descendants(process.pid), process.pid]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
    shutil.rmtree(sweep.ray, ignore_errors=True)


@pytest.fixture(scope="session")
def tiny_sweep() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """tiny_sweep(storage, *arguments, **environment): search_spaces/spc.yaml with one seed and a few epochs."""

    def run(storage: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        page, storage = ROOT / "search_spaces" / "spc.yaml", storage.resolve()
        command = [sys.executable, "-m", "platform.sweep", str(page), "--storage", str(storage), "--seeds", "0"]
        for short in ("pretext.epochs=2", "scan.epochs=2", "spc.epochs=1"):
            command += ["--set", short]
        return subprocess.run(
            [*command, *arguments],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE_S,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def small_storage(
    tiny_sweep: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The storage of a finished sweep of five settings, only to be looked at."""
    storage = tmp_path_factory.mktemp("runs")
    done = tiny_sweep(storage, "--trials", "5")
    assert done.returncode == 0, done.stdout + done.stderr
    return storage
