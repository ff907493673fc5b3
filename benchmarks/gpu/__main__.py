"""Check the project on a CUDA machine, measure it there, and write benchmarks/GPU.md.

Run: make gpu [ARGS="--minutes 10"]     or, without Ray and make,  python -m benchmarks.gpu
     make gpu ARGS=--pretend            on a pretend GPU: the same path with tiny sizes, and no speed is written

What was done is kept in build/gpu.json, by commit and device, so that a run that ends early goes on where it ended.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from . import checks, rates

ROOT = Path(__file__).resolve().parents[2]
KEPT, TABLE = ROOT / "build" / "gpu.json", ROOT / "benchmarks" / "GPU.md"
"""What was done, and the page that says so."""
Part = Callable[[], Mapping[str, str]]


def main() -> int:
    args = _arguments()
    if not args.pretend and not torch.cuda.is_available():
        driver = torch.version.cuda or "none: this is a build for CPUs"
        print(
            f"PyTorch {torch.__version__} (CUDA {driver}) sees no GPU; install a driver for it, or take --pretend",
            file=sys.stderr,
        )
        return 2
    with _pretend() if args.pretend else nullcontext():
        return _run(args.pretend, args.minutes, args.kept)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10, help="start nothing new after so long (10)")
    parser.add_argument("--pretend", action="store_true", help="on a pretend GPU, with tiny sizes")
    parser.add_argument("--kept", type=Path, default=KEPT, help="where it is kept what was done (build/gpu.json)")
    return parser.parse_args()


def _pretend() -> Any:
    # The pretend GPU belongs to the tests, which a machine with a GPU need not have.
    from tests.pretend_gpu import device

    return device.on()


def _run(pretend: bool, minutes: float, file: Path) -> int:
    began, where = time.perf_counter(), _where()
    kept = json.loads(file.read_text()) if file.exists() else {}
    done: dict[str, dict[str, str]] = kept.get("done", {}) if kept.get("where") == where else {}
    parts = _parts(pretend)
    for name, part in parts.items():
        if name in done:
            continue
        if time.perf_counter() - began > 60 * minutes:
            break
        try:
            done[name] = dict(part())
        except (RuntimeError, TypeError, ValueError, ImportError) as error:
            done[name] = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
        print(name, done[name], flush=True)
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"where": where, "done": done}, indent=1))
    if not pretend:
        TABLE.write_text(_page(where, done))
    left = len(parts) - len(done)
    failed = [name for name, row in done.items() if "failed" in row]
    print(f"{len(done)} parts done, {len(failed)} of them failed; {left} left" + ("; run it again" if left else ""))
    return 1 if failed else 0


def _parts(pretend: bool) -> Mapping[str, Part]:
    size = "tiny" if pretend else "usual"
    measured = {f"speed: {name}": rates.part(name, size) for name in rates.MEASURED}
    checked = {f"check: {name}": checks.part(name) for name in checks.stages()}
    return {"check: devices": checks.devices, **checked, **measured}


def _where() -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    device = torch.cuda.get_device_name()
    return f"{device}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}, {commit.stdout.strip() or 'no commit'}"


def _page(where: str, done: Mapping[str, Mapping[str, str]]) -> str:
    lines = ["# On a GPU", "", f"Written by `make gpu`. {where}.", "", "| part | result |", "|---|---|"]
    for name, row in done.items():
        lines.append(f"| {name} | " + ", ".join(f"{key} {value}" for key, value in row.items()) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
