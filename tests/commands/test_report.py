from pathlib import Path
from platform import report
from typing import Any

import pytest


def test_one_study_is_printed_and_its_files_are_written(sweep: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["spc", "--storage", str(sweep.storage)]) == 0
    assert capsys.readouterr().out.startswith("spc: spc on digits (union), 7 of 9 trials done, 1 failed\n")
    assert (sweep.storage / "spc" / "report.html").exists()


def test_a_study_may_be_named_by_its_file(sweep: Any, tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("name: spc\nmethod: spc\n")
    assert report.main([str(file), "--storage", str(sweep.storage)]) == 0


def test_a_file_without_a_name_is_named_like_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("method: spc\n")
    assert report.study_name(str(file)) == "mine"


def test_several_studies_come_in_one_table(sweep: Any, ablation: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["spc", "ablation", "--storage", str(sweep.storage)]) == 0
    assert capsys.readouterr().out.startswith("Studies side by side\n")


def test_the_newest_launch_is_reported(sweep: Any, capsys: pytest.CaptureFixture[str]) -> None:
    sweep.ledger.open_launch("spc", {}, sweep.launch.resolved, lookahead=1, fresh=True)
    assert report.main(["spc", "--storage", str(sweep.storage)]) == 0
    assert "0 of 0 trials done" in capsys.readouterr().out


def test_an_unknown_study_is_refused_with_the_nearest_one(sweep: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["spk", "--storage", str(sweep.storage)]) == 2
    ledger = sweep.storage / "ledger.db"
    assert capsys.readouterr().err == f"study 'spk' is not in {ledger}. Did you mean 'spc'?\n"


def test_a_storage_without_a_ledger_is_refused_and_left_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main(["spc", "--storage", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"--storage {tmp_path}: there is no ledger.db. Run a study there first, or name another folder.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_method_that_is_gone_is_refused(book: Any, capsys: pytest.CaptureFixture[str]) -> None:
    made = book(method="scann")
    assert report.main(["spc", "--storage", str(made.storage)]) == 2
    assert capsys.readouterr().err == "study 'spc' used method 'scann'. Did you mean 'scan'?\n"


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err
