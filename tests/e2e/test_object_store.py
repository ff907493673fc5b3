"""A sweep whose storage is a bucket, on a server that speaks S3; each "machine" is a local folder of its own."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from platform import sweep
from typing import Any

import pytest
from pyarrow import fs

from trainables.store import object_store

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 240.0
SECRET = "a-secret-that-nobody-may-see"
URI = "s3://bucket/some/folder"

PAGE = """\
name: tiny
method: scan
dataset: {name: digits, train_limit: 200, eval_limit: 100}
seeds: [0]
fixed: {pretext.augmentation: affine, pretext.batch_size: 100, pretext.epochs: 2, neighbors.num_neighbors: 10,
        scan.num_neighbors: 5, scan.augmentation: affine, scan.batch_size: 100, scan.epochs: 2,
        selflabel.augmentation: affine, selflabel.batch_size: 100, selflabel.epochs: 1,
        selflabel.confidence_threshold: 0.15}
search: {selflabel.optimizer.lr: {choice: [0.0001, 0.001]}}
sampler: grid
"""

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Server:
    """A running server with an empty bucket. environment: of whoever uses it."""

    address: str
    environment: dict[str, str]
    process: "subprocess.Popen[bytes]"

    def ask_for_credentials(self, after: int | str) -> None:
        """From so many requests on, refuse those with credentials that nobody was given."""
        # As plain bytes: what comes as a form, urllib's default, is read away before the server looks at it.
        plain = {"Content-Type": "application/octet-stream"}
        asked = urllib.request.Request(f"{self.address}/moto-api/reset-auth", str(after).encode(), plain, method="POST")
        urllib.request.urlopen(asked, timeout=30).close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    address = f"http://127.0.0.1:{port}"
    environment = {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": SECRET}
    environment |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + PATIENCE_S
        while not _listens(port):
            assert process.poll() is None and time.monotonic() < until, "the server did not start"
            time.sleep(0.1)
        made = urllib.request.Request(f"{address}/bucket", method="PUT")
        urllib.request.urlopen(made, timeout=30).close()
        yield Server(address, environment, process)
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(autouse=True)
def _environment(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(object_store.LOCAL, str(tmp_path / "machine"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def bucket() -> dict[str, bytes]:
    system, base = fs.FileSystem.from_uri(URI)
    found = system.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=True))
    files = [info.path for info in found if info.type == fs.FileType.File]
    return {path.removeprefix(f"{base}/"): system.open_input_stream(path).read() for path in files}


def write(path: str, content: bytes) -> None:
    system, base = fs.FileSystem.from_uri(URI)
    with system.open_output_stream(f"{base}/{path}") as stream:
        stream.write(content)


def run(machine: Path, page: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """What a sweep from that machine says: its JSON, and everything else."""
    ray = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "platform.sweep", str(page), "--storage", URI, "--json", *arguments],
            cwd=ROOT,
            env=os.environ | {object_store.LOCAL: str(machine), "OMP_NUM_THREADS": "1", "RAY_TMPDIR": ray},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    finally:
        shutil.rmtree(ray, ignore_errors=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout), done.stdout + done.stderr


def metrics(said: dict[str, Any]) -> list[dict[str, float]]:
    return [{key: value for key, value in trial["metrics"].items() if "seconds" not in key} for trial in said["trials"]]


def cached(said: dict[str, Any]) -> list[dict[str, bool]]:
    return [{stage["name"]: stage["cached"] for stage in trial["stages"]} for trial in said["trials"]]


def test_a_sweep_in_a_bucket_is_found_by_another_machine_and_mended_where_it_is_damaged(tmp_path: Path) -> None:
    page = tmp_path / "tiny.yaml"
    page.write_text(PAGE)
    first, log = run(tmp_path / "first", page)
    held = bucket()
    assert sum(path.endswith("/manifest.json") for path in held) == 6
    assert {"tiny/report.html", "tiny/trials.csv", "tiny/study.yaml"} <= set(held)
    assert not any(path.startswith("progress/") for path in held)
    pictures = {path for path in held if path.startswith("stages/") and path.endswith("/figures/clusters.png")}
    assert any(path.count("/") == 3 for path in pictures), "the best trial's picture is where the report looks for it"
    assert f"copied   to {URI}" in log
    _nobody_saw_the_secret([log.encode(), *held.values()], tmp_path / "first")

    second, _ = run(tmp_path / "second", page)
    assert metrics(second) == metrics(first)
    assert all(all(stages.values()) for stages in cached(second))

    (weights,) = (path for path in held if path.startswith("stages/scan-") and path.endswith("weights.pt"))
    write(weights, held[weights][:-1] + bytes([held[weights][-1] ^ 1]))
    third, _ = run(tmp_path / "third", page)
    assert metrics(third) == metrics(first)
    # One trial computed scan anew; nothing else was lost.
    assert sum(not stages["scan"] for stages in cached(third)) == 1
    assert all(stages["simclr"] and stages["neighbors"] and stages["selflabel"] for stages in cached(third))
    assert bucket()[weights] == held[weights]


def _nobody_saw_the_secret(texts: list[bytes], folder: Path) -> None:
    texts += [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert len(texts) > 20
    assert not any(SECRET.encode() in text for text in texts)


def refused(uri: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> str:
    page = tmp_path / "tiny.yaml"
    page.write_text(PAGE)
    assert sweep.main([str(page), "--storage", uri]) == sweep.WRONG
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_a_bucket_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = refused("s3://nowhere/runs", capsys, tmp_path)
    assert said.startswith("--storage s3://nowhere/runs: cannot be used: ")
    assert said.endswith("; create the bucket first, or correct its name\n")


def test_credentials_that_nobody_was_given_are_refused_and_not_shown(
    server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    server.ask_for_credentials(0)
    try:
        said = refused(URI, capsys, tmp_path)
    finally:
        server.ask_for_credentials("inf")
    assert said.startswith(f"--storage {URI}: cannot be used: ")
    assert "credentials" in said and SECRET not in said


def test_a_server_that_is_down_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        said = refused(URI, capsys, tmp_path)
    assert said.endswith("; look at the network and at AWS_ENDPOINT_URL\n")


def test_a_check_leaves_nothing_in_the_bucket(tmp_path: Path) -> None:
    before = bucket()
    sweep.make_writable(sweep.storage_of(URI))
    assert bucket() == before
