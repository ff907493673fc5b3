"""Run every benchmark and keep what came out in benchmarks/RESULTS.md.

Run: python -m benchmarks [NAME ...]             (from the root; without names all of them, about half an hour)

A claim that no longer holds by half, compared with the table as it was, is named at the end, and the exit code is 1.
Rows of benchmarks that were not run stay as they are.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "RESULTS.md"
COLUMNS = ("script", "claim", "ratio", "ours", "baseline", "unit", "machine", "date", "commit")
HEAD = """\
# What was measured

Written by `make bench`; every row is one script of this folder, ours against its baseline in one run.

"""


@dataclass(frozen=True)
class Row:
    """One line of the table, all of it text but the ratio."""

    script: str
    ratio: float
    rest: Mapping[str, str]

    def line(self) -> str:
        told = {"script": self.script, "ratio": f"{self.ratio:g}", **self.rest}
        return "| " + " | ".join(told[column].replace("|", "/") for column in COLUMNS) + " |"


def scripts() -> list[str]:
    """Every benchmark of the folder, by letter."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def run(script: str, commit: str) -> Row:
    """Run one benchmark, its output passing through; its last line is the record.

    Raises:
        SystemExit: the script failed, or its last line is no record.
    """
    command = [sys.executable, "-m", f"benchmarks.{script}"]
    process = subprocess.Popen(command, cwd=FOLDER.parent, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        print(line, end="", flush=True)
        last = line
    if process.wait() != 0:
        raise SystemExit(f"benchmarks/{script}.py ended with {process.returncode}")
    try:
        record = json.loads(last)
        told = {key: str(record[key]) for key in ("claim", "ours", "baseline", "unit", "machine")}
        return Row(script, float(record["ratio"]), told | {"date": date.today().isoformat(), "commit": commit})
    except (ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"benchmarks/{script}.py: its last line is no record ({error!r}): {last!r}") from error


def read(text: str) -> dict[str, Row]:
    """The rows of a table by script; lines that are none are passed over."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == len(COLUMNS) and cells[0] not in ("script", "---"):
            told = dict(zip(COLUMNS, cells, strict=True))
            found[cells[0]] = Row(told.pop("script"), float(told.pop("ratio")), told)
    return found


def table(rows: Mapping[str, Row]) -> str:
    """The whole file."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "| " + " | ".join("---" for _ in COLUMNS) + " |"]
    return HEAD + "\n".join([*lines, *(rows[script].line() for script in sorted(rows))]) + "\n"


def broken(before: Mapping[str, Row], now: Mapping[str, Row]) -> list[str]:
    """A sentence for each claim whose ratio fell below half of what the table had."""
    return [
        f"{script}: the ratio was {before[script].ratio:g} and is {row.ratio:g}"
        for script, row in now.items()
        if script in before and row.ratio < before[script].ratio / 2
    ]


def main() -> int:
    parse = argparse.ArgumentParser(description="Run the benchmarks and write benchmarks/RESULTS.md.")
    parse.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(scripts())}; none: all")
    given = parse.parse_args()
    if unknown := sorted(set(given.names) - set(scripts())):
        parse.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(scripts())}")
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, cwd=FOLDER, capture_output=True, text=True, check=False).stdout.strip()
    before = read(RESULTS.read_text()) if RESULTS.exists() else {}
    now: dict[str, Row] = {}
    for script in given.names or scripts():
        print(f"benchmarks/{script}.py", flush=True)
        now[script] = run(script, commit)
        # After each one: a later failure must not cost the minutes before it.
        RESULTS.write_text(table(before | now))
    lost = broken(before, now)
    print("\n".join(lost) or f"all claims hold; see {RESULTS.relative_to(FOLDER.parent)}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
