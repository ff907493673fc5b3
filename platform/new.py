"""``python -m platform.new FOLDER``: write a study page for a folder of images, with settings for it and this machine.

Exit codes: 0 done, 2 the folder cannot be used or the page is there already, and nothing was written.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from trainables.data.loaded import DataError

from .console import OK, WRONG, leave
from .study.errors import StudyErrors
from .study.starting_page import page, recipe
from .study.starting_page.survey import Survey, surveyed

PAGES = Path("search_spaces")


class Refused(Exception):
    """The page is not written. The text is for the user."""


def parser() -> argparse.ArgumentParser:
    """The command line of ``python -m platform.new``."""
    parse = argparse.ArgumentParser(
        prog="python -m platform.new",
        description="Look at the images of FOLDER and write a commented study page that clusters them.",
    )
    add = parse.add_argument
    add("folder", metavar="FOLDER", type=Path, help="images, nested to any depth")
    add("--clusters", metavar="K", type=int, default=0,
        help=f"how many clusters (default: one for each class folder, or else {recipe.DEFAULT_CLUSTERS})")  # fmt: skip
    add("--out", metavar="FILE", type=Path, help=f"the page (default: {PAGES}/<folder>.yaml)")
    add("--force", action="store_true", help="replace a page that is there")
    add("--no-forecast", action="store_true", help="do not run a few steps to forecast the time")
    return parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; None takes the arguments of the process. Returns the exit code."""
    given = parser().parse_args(arguments)
    name = page.name_of(given.folder)
    out: Path = given.out or PAGES / f"{name}.yaml"
    try:
        if out.exists() and not given.force:
            raise Refused(f"{out} is there already. Add --force to replace it, or name another file with --out.")
        if given.out is not None and out.suffix not in (".yaml", ".yml"):
            raise Refused(f"--out {out}: a study page ends in .yaml. Write {out.with_suffix('.yaml')}.")
        survey = surveyed(given.folder)
        machine = recipe.Machine(os.cpu_count() or 1, torch.cuda.is_available())
        chosen = recipe.chosen(survey, machine, given.clusters)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page.text(survey, chosen, name, out), encoding="utf-8")
    except (Refused, DataError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return WRONG
    print(_seen(survey, chosen))
    print(f"{'page':<10} {out}", flush=True)
    try:
        if not given.no_forecast:
            print(_forecast(out), flush=True)
    except (Refused, StudyErrors) as error:
        print(f"The page needs a correction before it runs:\n{error}", file=sys.stderr)
        return WRONG
    print(f"{'run':<10} {shlex.join(['python', '-m', 'platform.sweep', str(out)])}")
    print(f"{'answer':<10} {Path('runs') / name / 'gallery.html'} and assignments.csv beside it")
    return OK


def _seen(survey: Survey, chosen: recipe.Recipe) -> str:
    kind = "gray" if survey.is_gray else "in color"
    labels = f"{len(survey.class_folders)} class folders" if survey.class_folders else "no labels"
    return (
        f"{'images':<10} {survey.num_images:,}, {kind}, about {survey.side_px} px, {labels}\n"
        f"{'chosen':<10} {chosen.num_clusters} clusters, {chosen.image_size_px} px, network {chosen.network}, "
        f"{chosen.pretext_epochs} epochs, {len(chosen.seeds)} seeds"
    )


def _forecast(path: Path) -> str:
    """The line of ``--dry-run --profile`` that says how long the study takes here."""
    from trainables.data import synthetic

    from . import sweep
    from .study import estimate
    from .study.study import load_study

    study = load_study(path)
    try:
        data, _ = sweep.checked_data(study)
    except sweep.Refused as error:
        raise Refused(str(error)) from error
    return estimate.rows(estimate.forecast(study, synthetic.real(data)))[-1]


if __name__ == "__main__":
    leave(main)
