"""The table of benchmark results: written, read back, and compared with what it was."""

import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as bench

REST = dict.fromkeys(("claim", "ours", "baseline", "unit", "machine", "date", "commit"), "x")


def row(script: str, ratio: float) -> bench.Row:
    return bench.Row(script, ratio, REST)


def test_a_table_is_read_back_as_it_was_written() -> None:
    rows = {"b": row("b", 2.5), "a": row("a", 100)}
    assert bench.read(bench.table(rows)) == rows
    assert bench.table(rows).index("| a |") < bench.table(rows).index("| b |")


def test_a_claim_is_broken_below_half_of_what_it_was() -> None:
    before = {"a": row("a", 10), "b": row("b", 10)}
    assert bench.broken(before, {"a": row("a", 5), "b": row("b", 4.9), "c": row("c", 0.1)}) == [
        "b: the ratio was 10 and is 4.9"
    ]


def test_every_benchmark_is_found() -> None:
    assert {"augment", "stage_sharing", "trial_overhead", "propagation"} <= set(bench.scripts())
    assert not any(name.startswith("_") for name in bench.scripts())


def test_every_benchmark_has_its_row_with_a_target() -> None:
    rows = [line for line in (bench.FOLDER / "README.md").read_text().splitlines() if line.startswith("| `")]
    assert [line.split("`")[1].removesuffix(".py") for line in rows] == sorted(bench.scripts())
    assert all(line.split("|")[4].strip() for line in rows)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of benchmarks."""
    made = tmp_path / "benchmarks"
    made.mkdir()
    monkeypatch.setattr(bench, "FOLDER", made)
    monkeypatch.setattr(bench, "RESULTS", made / "RESULTS.md")
    return made


RECORD = '{"claim": "c", "ratio": %s, "ours": 1, "baseline": 2, "unit": "s", "machine": "m"}'


def test_a_run_writes_the_table_and_says_what_broke(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "fast.py").write_text(f"print('hello')\nprint('{RECORD % 8}')\n")
    monkeypatch.setattr(sys, "argv", ["benchmarks"])
    assert bench.main() == 0
    assert "hello" in capfd.readouterr().out
    (folder / "fast.py").write_text(f"print('{RECORD % 3}')\n")
    assert bench.main() == 1
    assert "fast: the ratio was 8 and is 3" in capfd.readouterr().out
    assert bench.read(bench.RESULTS.read_text())["fast"].ratio == 3


@pytest.mark.parametrize("code", ["print('no record')", "raise SystemExit(3)"], ids=["text", "failed"])
def test_a_script_without_a_record_stops_the_run(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    (folder / "bad.py").write_text(code)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "bad"])
    with pytest.raises(SystemExit, match="bad.py"):
        bench.main()


def test_an_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "nothing"])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert ended.value.code == 2 and "there are an, " in capsys.readouterr().err
