"""The hosted run of continuous integration calls the script that a laptop calls, on every Python that is promised."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# BaseLoader keeps every scalar as text: PyYAML's others read the key `on` as True.
JOBS: dict[str, Any] = yaml.load((ROOT / ".github" / "workflows" / "ci.yml").read_text(), Loader=yaml.BaseLoader)[
    "jobs"
]


def matrix(job: str) -> dict[str, Any]:
    return dict(JOBS[job]["strategy"]["matrix"])


def test_there_are_a_job_with_pinned_versions_and_one_at_the_bounds() -> None:
    assert set(JOBS) == {"pinned", "bounds"}


@pytest.mark.parametrize("job", JOBS)
def test_a_job_checks_out_and_calls_the_script_and_nothing_else(job: str) -> None:
    checkout, script = JOBS[job]["steps"]
    assert checkout["uses"].startswith("actions/checkout@")
    assert script == {"run": ".ci/run"}


@pytest.mark.parametrize("job", JOBS)
def test_a_job_runs_on_the_python_of_its_matrix_on_debian(job: str) -> None:
    assert JOBS[job]["container"]["image"] == "python:${{ matrix.python }}-bookworm"
    assert JOBS[job]["env"]["PYTHON"] == "python3"


def test_the_pinned_versions_run_on_every_python_that_the_project_names() -> None:
    prefix = "Programming Language :: Python :: "
    named = [each.removeprefix(prefix) for each in PROJECT["project"]["classifiers"] if each.startswith(prefix)]
    assert matrix("pinned") == {"python": named}
    assert PROJECT["project"]["requires-python"] == f">={named[0]}"


def test_the_oldest_versions_run_on_the_oldest_python_and_the_newest_on_the_newest() -> None:
    pythons = matrix("pinned")["python"]
    assert matrix("bounds")["include"] == [
        {"python": pythons[0], "versions": "oldest"},
        {"python": pythons[-1], "versions": "newest"},
    ]
    assert JOBS["bounds"]["env"]["VERSIONS"] == "${{ matrix.versions }}"


def test_lint_and_types_are_checked_for_the_oldest_python() -> None:
    oldest = matrix("pinned")["python"][0]
    assert PROJECT["tool"]["mypy"]["python_version"] == oldest
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")
    makefile = (ROOT / "Makefile").read_text()
    assert re.findall(r"--python-version (\S+)", makefile) == [oldest]
    assert f"sys.version_info < ({oldest.replace('.', ', ')})" in makefile
