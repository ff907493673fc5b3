"""The last words of a command that could not go on."""

import errno
from collections.abc import Callable
from pathlib import Path
from platform import end_of_sweep
from platform.ledger.schema import LedgerDamaged
from platform.run.launch import Request, Stopped
from platform.study.study import Study
from typing import Any

import pytest

ENDS = {
    "a ledger that cannot be written any more": (Stopped("ledger.db cannot be written"), 1, "ledger.db cannot be"),
    "a report that has no room": (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left on device; make"),
    "a ledger that is damaged": (LedgerDamaged("ledger.db is damaged"), 2, "page.yaml: ledger.db is damaged"),
}


@pytest.mark.parametrize("kind", ENDS)
def test_what_stops_a_sweep_is_said_in_one_text(
    make_study: Callable[[str], Study],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    error, code, text = ENDS[kind]

    def stop(*_: Any) -> int:
        raise error

    monkeypatch.setattr(end_of_sweep, "_carry_out", stop)
    request = Request(study=make_study("method: spc\n"), fingerprint="f", storage=tmp_path)
    data: Any = None
    assert end_of_sweep.carry_out(request, data, again="python -m platform.sweep page.yaml", as_json=False) == code
    said = capsys.readouterr().err
    assert text in said
    assert "Traceback" not in said
    assert ("python -m platform.sweep page.yaml" in said) == (code == 1)


def test_another_error_is_no_want_of_room(
    make_study: Callable[[str], Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> int:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(end_of_sweep, "_carry_out", stop)
    request = Request(study=make_study("method: spc\n"), fingerprint="f", storage=tmp_path)
    data: Any = None
    with pytest.raises(PermissionError):
        end_of_sweep.carry_out(request, data, again="", as_json=False)
