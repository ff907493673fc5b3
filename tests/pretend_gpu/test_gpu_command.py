"""``make gpu`` on the pretend GPU, on a machine without Ray."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_RAY = """
import runpy, sys
sys.modules["ray"] = None
runpy.run_module("benchmarks.gpu", run_name="__main__")
"""


def run(kept: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_RAY, "--kept", str(kept), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


def test_every_part_passes_and_a_part_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    first = run(kept, "--pretend", "--minutes", "0")
    assert first.returncode == 0 and "run it again" in first.stdout, first.stderr
    whole = run(kept, "--pretend", "--minutes", "8")
    assert whole.returncode == 0 and "0 of them failed; 0 left" in whole.stdout, whole.stdout + whole.stderr
    done = json.loads(kept.read_text())["done"]
    assert len(done) > 20
    again = run(kept, "--pretend")
    assert "check:" not in again.stdout


def test_a_machine_without_a_gpu_is_told_so(tmp_path: Path) -> None:
    found = run(tmp_path / "kept.json")
    assert found.returncode == 2
    assert "sees no GPU" in found.stderr and "Traceback" not in found.stderr
