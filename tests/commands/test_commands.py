"""The commands around the platform: the Makefile, the script of continuous integration, and the README's words."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
TARGETS = ("sweep", "test", "e2e", "chaos", "smoke", "check", "bench", "constraints", "newest", "oldest")

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
needs_readme = pytest.mark.skipif(not README.exists(), reason="there is no README.md")


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    # A make that runs these tests hands its flags on, and whatever was set on its command line.
    theirs = ("MFLAGS", "ARGS", "STUDY", "PYTHON", "VENV", "VERSIONS")
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name not in theirs}
    return subprocess.run(["make", *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


def installed(folder: Path) -> Path:
    """A folder that the Makefile takes for an installed environment."""
    folder.mkdir()
    (folder / ".installed").touch()
    return folder


@needs_make
@pytest.mark.parametrize("target", TARGETS)
def test_the_makefile_has_the_target(target: str) -> None:
    assert make("-n", target).returncode == 0


@needs_make
def test_a_second_call_installs_nothing(tmp_path: Path) -> None:
    planned = make("-n", "sweep", f"VENV={installed(tmp_path / 'venv')}").stdout
    assert planned.split() == [f"{tmp_path}/venv/bin/python", "-m", "platform.sweep", "search_spaces/spc.yaml"]


@needs_make
def test_the_first_call_installs_the_project_with_its_tools(tmp_path: Path) -> None:
    assert "pip install" in (planned := make("-n", "sweep", f"VENV={tmp_path / 'venv'}").stdout)
    assert "-e '.[dev]'" in planned


@needs_make
def test_a_change_of_the_pinned_versions_installs_again(tmp_path: Path) -> None:
    venv = installed(tmp_path / "venv")
    os.utime(venv / ".installed", (0, 0))
    assert "pip install" in make("-n", "sweep", f"VENV={venv}").stdout
    newer = max((ROOT / name).stat().st_mtime for name in ("pyproject.toml", "constraints.txt"))
    os.utime(venv / ".installed", (newer + 1, newer + 1))
    assert "pip install" not in make("-n", "sweep", f"VENV={venv}").stdout
    both = make("-p", "-n", f"{venv}/.installed", f"VENV={venv}").stdout
    assert f"{venv}/.installed: pyproject.toml constraints.txt\n" in both


@needs_make
@pytest.mark.parametrize(
    ("versions", "venv", "options"),
    [
        ("pinned", ".venv", "-c constraints.txt"),
        ("newest", ".venv-newest", "--upgrade --upgrade-strategy eager"),
        ("oldest", ".venv-oldest", "-c build/oldest.txt"),
    ],
)
def test_each_set_of_versions_has_an_environment_of_its_own(versions: str, venv: str, options: str) -> None:
    # As if pyproject.toml had just been written: what an earlier run has installed does not count.
    planned = make("-n", "-W", "pyproject.toml", "test", f"VERSIONS={versions}").stdout
    (install,) = [line for line in planned.splitlines() if "-e '.[dev]'" in line]
    assert install.startswith(f"{venv}/bin/python -m pip install ")
    assert f" {options} -e '.[dev]'" in install
    (tests,) = [line for line in planned.splitlines() if line.startswith(f"{venv}/bin/python -m pytest")]
    assert ("-W default" in tests) == (versions == "oldest")


@needs_make
@pytest.mark.parametrize("versions", ["newest", "oldest"])
def test_a_set_of_versions_is_tested_by_its_name(versions: str) -> None:
    assert f"test VERSIONS={versions}" in make("-n", versions).stdout


@needs_make
def test_args_go_to_the_sweep(tmp_path: Path) -> None:
    planned = make("-n", "sweep", f"VENV={installed(tmp_path / 'venv')}", "ARGS=--trials 3").stdout
    assert planned.strip().endswith("search_spaces/spc.yaml --trials 3")


@needs_make
def test_an_old_python_is_refused_with_its_version_and_the_way_out(tmp_path: Path) -> None:
    old = script(tmp_path / "old", 'case "$1" in --version) echo Python 3.9.2;; *) exit 1;; esac\n')
    done = make("sweep", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}")
    assert done.returncode != 0
    assert f"{old} is Python 3.9.2, but Python 3.11 or newer is needed" in done.stderr
    assert "PYTHON=python3.12" in done.stderr
    assert not (tmp_path / "venv").exists()


@needs_make
def test_a_failed_installation_shows_what_pip_said_and_is_tried_again(tmp_path: Path) -> None:
    pip = script(tmp_path / "pip", "echo 'ERROR: no such package'; exit 1\n")
    made = f'if [ "$1" = -m ]; then mkdir -p "$3/bin" && cp {pip} "$3/bin/python"; fi\n'
    done = make("sweep", f"PYTHON={script(tmp_path / 'python', made)}", f"VENV={tmp_path / 'venv'}")
    assert done.returncode != 0
    assert "ERROR: no such package" in done.stderr
    assert not (tmp_path / "venv" / ".installed").exists()


# The continuous-integration script, in a folder where make and the system's programs are stand-ins.


PASSED = '<testsuites><testsuite tests="3" skipped="1"/></testsuites>'


def ci(folder: Path, *, test: str, report: str = PASSED, **settings: str) -> str:
    """Run a copy of .ci/run whose ``make test`` writes ``report`` and then does ``test``; the code and all it says."""
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", folder / ".ci" / "run")
    for name in ("initdb", "chromium", "chromedriver"):
        script(folder / "bin" / name, "exit 0\n")
    for name in ("python3", "python3.99"):
        (folder / "bin" / name).symlink_to(sys.executable)
    write = f"for each in $2; do case $each in --junitxml=*) echo '{report}' > ${{each#--junitxml=}};; esac; done\n"
    told = 'echo "with $PYTHON, $VERSIONS versions"\n'
    script(folder / "bin" / "make", f'{told}set -- "$1" "${{2#ARGS=}}"\n[ "$1" = check ] && exit 0\n{write}{test}\n')
    given = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "VERSIONS")}
    env = {**given, "PATH": f"{folder}/bin:{os.environ['PATH']}", **settings}
    done = subprocess.run([folder / ".ci" / "run"], env=env, capture_output=True, text=True, timeout=60)
    return f"{done.returncode}\n{done.stdout}{done.stderr}"


def test_ci_passes_when_the_tests_pass_and_says_how_many_ran(tmp_path: Path) -> None:
    said = ci(tmp_path, test="exit 0")
    assert said.startswith("0\n")
    assert said.count("2 tests ran, 1 were skipped") == 3
    assert said.index("make test") < said.index("make gpu-pretend") < said.index("make e2e")


def test_ci_takes_the_pinned_versions_and_checks_types_by_itself(tmp_path: Path) -> None:
    said = ci(tmp_path, test="exit 0")
    assert said.count("with python3, pinned versions") == 4
    assert said.index("make check") < said.index("make test")


def test_ci_takes_the_python_and_the_versions_it_is_given_and_then_checks_no_types(tmp_path: Path) -> None:
    said = ci(tmp_path, test="exit 0", PYTHON="python3.99", VERSIONS="oldest")
    assert said.startswith("0\n")
    assert said.count("with python3.99, oldest versions") == 3
    assert "make check" not in said


def test_ci_fails_when_a_test_fails(tmp_path: Path) -> None:
    assert not ci(tmp_path, test="exit 1").startswith("0\n")


def test_ci_fails_when_every_test_was_skipped(tmp_path: Path) -> None:
    report = '<testsuites><testsuite tests="3" skipped="3"/></testsuites>'
    said = ci(tmp_path, test="exit 0", report=report)
    assert not said.startswith("0\n")
    assert "no test ran" in said


# The README


def commands() -> list[str]:
    """The README's indented and fenced lines that start a program of ours."""
    lines = [line.strip().removeprefix("$ ") for line in README.read_text().splitlines()]
    return [line for line in lines if re.match(r"(make|python -m platform\.)", line)]


@needs_readme
def test_the_readme_shows_commands() -> None:
    assert commands()


@needs_readme
def test_every_make_target_of_the_readme_exists() -> None:
    named = {line.split()[1] for line in commands() if line.startswith("make ")}
    assert named <= {"help", *TARGETS}


@needs_readme
def test_every_platform_command_of_the_readme_exists() -> None:
    named = {line.split()[2].removeprefix("platform.") for line in commands() if line.startswith("python")}
    assert [name for name in sorted(named) if not (ROOT / "platform" / f"{name}.py").exists()] == []


@needs_readme
def test_every_study_file_of_the_readme_exists() -> None:
    named = re.findall(r"search_spaces/[\w/.-]+\.yaml", README.read_text())
    written = re.findall(r"platform\.new (?:\S*/)?([\w-]+) .*writes (search_spaces/\1\.yaml)", README.read_text())
    assert len(written) == 1
    there = [name for name in named if name not in {page for _, page in written}]
    assert there and [name for name in there if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_reader_that_goes_away_is_no_error(more: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "platform.sweep", "search_spaces/spc.yaml", "--dry-run", *more],
            cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, timeout=120,
        )  # fmt: skip
    finally:
        os.close(write)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr
    assert done.returncode == 141
