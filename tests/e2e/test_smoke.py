"""Every page of search_spaces/ run with --smoke from end to end: real Ray, real stages, on the embedded data."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "search_spaces"
PAGES = sorted(str(page.relative_to(FOLDER)) for page in FOLDER.rglob("*.yaml"))
LIMIT_S = 1200


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all pages: those that begin alike share their stages."""
    return tmp_path_factory.mktemp("smoke")


def test_pages_are_found() -> None:
    assert len(PAGES) >= 40
    assert {"spc.yaml", "papers/scan_table1.yaml", "papers/an_table3_dec.yaml"} <= set(PAGES)


@pytest.mark.smoke
@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_under_smoke(page: str, storage: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "platform.sweep",
        str(FOLDER / page),
        "--smoke",
        "--json",
        "--storage",
        str(storage),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["status"] == "done"
    assert said["trials"] and all(trial["status"] == "done" for trial in said["trials"])
