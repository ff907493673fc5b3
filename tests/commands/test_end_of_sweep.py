"""The last words of a command that could not go on: one sentence, a way out, and the right exit code for each end."""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from platform import end_of_sweep
from platform.ledger.schema import LedgerDamaged
from platform.run.daemons import ClusterDied
from platform.run.environment import Unusable
from platform.run.launch import Request, Stopped
from platform.study.study import Study
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
AGAIN = "python -m platform.sweep page.yaml"

BEFORE: dict[str, tuple[BaseException, str]] = {
    "a ledger that is damaged": (LedgerDamaged("ledger.db is damaged"), "page.yaml: ledger.db is damaged"),
    "a machine that cannot run Ray": (Unusable("no folder can hold Ray's sockets"), "no folder can hold"),
    "a disk that is read-only": (OSError(errno.EROFS, "Read-only file system"), "make the disk writable again"),
}
AFTER: dict[str, tuple[BaseException, str]] = {
    "a ledger that cannot be written any more": (Stopped("ledger.db cannot be written"), "ledger.db cannot be"),
    "a report that has no room": (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; make"),
    "a limit of file sizes": (OSError(errno.EFBIG, "File too large"), "ulimit -f"),
    "too many open files": (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
    "a file in the place of a folder": (FileExistsError(errno.EEXIST, "File exists", "runs/x"), "move away what"),
    "a folder in the place of a file": (IsADirectoryError(errno.EISDIR, "Is a directory", "r.md"), "move away the"),
    "no memory": (MemoryError(), "not enough memory"),
    "a library that cannot be loaded": (ImportError("libtorch.so: cannot map"), "install the project anew"),
    "Ray's own process dead": (ClusterDied("Ray's raylet was ended by SIGKILL"), "Ray's raylet was ended"),
    "a terminal that lacks a letter": (UnicodeEncodeError("latin-1", "–", 0, 1, "no"), "Unexpected UnicodeEncodeError"),
    "what nobody expected": (KeyError("acc"), "Unexpected KeyError"),
}


def carried_out(
    make_study: Callable[[str], Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: Any
) -> int:
    def stop(*_: Any) -> int:
        raise error

    monkeypatch.setattr(end_of_sweep, "_opened", lambda request: None)
    monkeypatch.setattr(end_of_sweep, where, stop)
    request = Request(study=make_study("method: spc\n"), fingerprint="f", storage=tmp_path)  # type: ignore[arg-type]
    data: Any = None
    return end_of_sweep.carry_out(request, data, again=AGAIN, as_json=False)


@pytest.mark.parametrize("kind", BEFORE)
def test_what_stops_a_sweep_before_its_start_is_refused_in_one_text(
    make_study: Callable[[str], Study],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    error, text = BEFORE[kind]
    assert carried_out(make_study, tmp_path, monkeypatch, "_opened", error) == 2
    said = capsys.readouterr().err
    assert text in said and "Traceback" not in said and AGAIN not in said


@pytest.mark.parametrize("kind", AFTER)
def test_what_stops_a_sweep_after_its_start_is_said_with_the_command_that_goes_on(
    make_study: Callable[[str], Study],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    error, text = AFTER[kind]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert carried_out(make_study, tmp_path, monkeypatch, "_carry_out", error) == 1
    said = capsys.readouterr().err
    assert text in said and "Traceback" not in said and said.endswith(f"{AGAIN}\n")
    # Only what nobody expected has a file with all of it.
    logs = list(tmp_path.glob("clustersweep-error-*.log"))
    assert len(logs) == int("Unexpected" in text)
    if logs:
        assert str(logs[0]) in said and "Traceback" in logs[0].read_text()


COMMANDS: dict[str, tuple[str, int, str]] = {
    "an expected error": ("raise PermissionError(13, 'Permission denied', 'runs')", 1, "give yourself the right to it"),
    "an unexpected error": ("raise KeyError('key-of-32-letters-0123456789')", 1, "Unexpected KeyError"),
    "a Ctrl-C": ("raise KeyboardInterrupt", 130, ""),
    "a letter that the terminal lacks": ("print('\\u2013 \\u03b4 0.9') or 0", 0, ""),
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_no_command_leaves_a_traceback(kind: str, tmp_path: Path) -> None:
    body, code, text = COMMANDS[kind]
    program = (
        "from platform.console import leave\n"
        "def main():\n"
        f"    {body if body.startswith('raise') else 'return ' + body}\n"
        "leave(main)\n"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "TMPDIR": str(tmp_path), "MY_TOKEN": "0123456789"}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, check=False)
    said = done.stderr.decode("latin-1")
    assert done.returncode == code, said
    assert text in said and "Traceback" not in said
    assert "0123456789" not in said and not any("0123456789" in path.read_text() for path in tmp_path.iterdir())
    if code == 0:
        assert re.fullmatch(rb"\? \? 0\.9\n", done.stdout)


LOADING: dict[str, tuple[str, int, str]] = {
    "a limit of memory": ("raise ImportError('libtorch.so: cannot map')", 2, "raise a limit of memory (ulimit -v)"),
    "no memory": ("raise MemoryError", 2, "not enough memory"),
    "too many open files": ("raise OSError(24, 'Too many open files')", 2, "ulimit -n"),
    "what nobody expected": ("raise KeyError('torch')", 2, "Unexpected KeyError"),
    "a Ctrl-C": ("raise KeyboardInterrupt", 130, ""),
}


@pytest.mark.parametrize("kind", LOADING)
@pytest.mark.parametrize("command", sorted(path.stem for path in (ROOT / "platform").glob("[a-z]*.py")))
def test_a_library_that_cannot_be_loaded_is_no_traceback(command: str, kind: str, tmp_path: Path) -> None:
    body, code, text = LOADING[kind]
    (tmp_path / "torch.py").write_text(f"{body}\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "TMPDIR": str(tmp_path)}
    words = [sys.executable, "-m", f"platform.{command}", "--help"]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    if "torch" in done.stderr or done.returncode:  # some of them load it later, if at all
        assert (done.returncode, text in done.stderr) == (code, True), done.stderr


def test_a_limit_of_memory_that_torch_does_not_fit_into_is_refused_in_one_sentence() -> None:
    limited = f"ulimit -v 1500000; exec {sys.executable} -m platform.sweep search_spaces/spc.yaml --dry-run"
    done = subprocess.run(["bash", "-c", limited], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "raise a limit of memory (ulimit -v)" in done.stderr
