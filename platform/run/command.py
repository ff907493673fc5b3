"""From a checked request to an exit code: Ray, the tracker and the screen around a launch, and what is said at the end."""

import os
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trainables.contract import ImageData

from ..study.resolve import difference
from . import cluster, launch
from .ledger import Ledger, LedgerBusy, StudyChanged, StudyHeld

OK, SOME_FAILED, WRONG = 0, 1, 2


def circumstances() -> dict[str, Any]:
    """Where and from what this launch was started: commit, dirty flag, host, versions."""
    root = Path(__file__).resolve().parents[2]
    names = ("ray", "torch", "optuna", "mlflow", "numpy")
    return {
        "commit": _git(root, "rev-parse", "HEAD"),
        "dirty": bool(_git(root, "status", "--porcelain")),
        "host": socket.gethostname(),
        "versions": {name: version(name) for name in names},
    }


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def carry_out(request: launch.Request, data: ImageData, *, again: str, as_json: bool) -> int:
    """Run the launch and say what came of it; ``again`` is the command that goes on."""
    size = cluster.local_size()
    try:
        cluster.refuse_infeasible(request.study, size)
        ledger = Ledger(request.storage / launch.LEDGER)
        opened = launch.open_launch(ledger, request, size)
    except StudyChanged as changed:
        lines = difference(changed.known, changed.given)
        print(
            f"{request.study.file}: {changed}:",
            *lines,
            "Give it another name, or add --fresh.",
            sep="\n  ",
            file=sys.stderr,
        )
        return WRONG
    except (StudyHeld, LedgerBusy, cluster.Infeasible) as refused:
        print(f"{request.study.file}: {refused}", file=sys.stderr)
        return WRONG
    from trainables import service

    try:
        with launch.course(ledger, request, opened, size) as course:
            if not course.board.finished:
                with cluster.running(request.address):
                    held = service.start()
                    launch.run(request, course)
                    print(held.stats())
            for t in course.board.trials:
                print(
                    t.kind,
                    t.setting,
                    t.seed,
                    t.state,
                    t.error[:300],
                    {k: round(v, 4) for k, v in t.metrics.items() if k in ("acc", "spc/selection_loss")},
                    [(s["slot"], s["cached"], round(s["seconds"], 1)) for s in t.stages],
                )
            print(course.seconds, course.status)
    except launch.Interrupted as signal:
        print(f"interrupted; go on with: {again}", file=sys.stderr)
        return 128 + signal.number
    return OK if course.status == "done" else SOME_FAILED
