"""``python -m platform.assign STUDY|RUN FOLDER``: which cluster each new image is in, by a study's model or a run's.

Writes assignments.csv, assignments.parquet and gallery.html. Needs neither Ray nor the images of the study.
Exit codes: 0 done, 2 there is no such model, or the images are not as it takes them, and nothing was written.
"""

import argparse
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from trainables import pipeline
from trainables.data import datasets
from trainables.data.loaded import DataError
from trainables.inference import folder, model_input, predict
from trainables.inference.model_input import ModelInput
from trainables.interfaces import Images, Split
from trainables.maths.assignments import top_two
from trainables.seeds import label as seed_label
from trainables.store.artifacts import Store

from .console import OK, WRONG, leave
from .ledger.ledger import Ledger, place_of
from .ledger.outcomes import closing_stages
from .ledger.rows import DONE, Trial
from .ledger.schema import LedgerError
from .ledger.storage import Storage, named
from .report import Unknown, study_name
from .reports.assignments import names, written
from .reports.assignments.table import Assignments
from .reports.assignments.thumbnails import Pixels
from .study.errors import StudyErrors, did_you_mean

FOLDER = "assigned"
"""Below the storage: the answers of this command, by model and folder of images."""
_RUN = re.compile(r"[0-9a-f]{32}")
_MODEL_URIS = ("runs:/", "models:/")
_SHORTEST_KEY = 4


@dataclass(frozen=True)
class Opened:
    """A model ready for use. title: whose it is. result: the stage result that holds it. name: of its folder.

    beside: a folder that may hold names of its clusters. device: where it is.
    """

    model: predict.Model
    wanted: ModelInput
    title: str
    result: str
    name: str
    beside: Path
    device: torch.device


def parser() -> argparse.ArgumentParser:
    """The command line of ``python -m platform.assign``."""
    parse = argparse.ArgumentParser(
        prog="python -m platform.assign",
        description="Say in which cluster each image of FOLDER is, by the best model of STUDY or an MLflow RUN.",
    )
    add = parse.add_argument
    add("model", metavar="STUDY|RUN", help="a study's name or file, an MLflow run's id, or runs:/<id>/model")
    add("folder", metavar="FOLDER", type=Path, help="images, nested to any depth, or a zip of them")
    add("--out", metavar="DIR", type=Path, help=f"where the files go (default: <storage>/{FOLDER}/<model>/<folder>)")
    add("--storage", metavar="DIR|URI", default="runs", help="where the study is kept (default: runs)")
    add("--trial", metavar="KEY", default="", help="a trial of the study instead of its best, by its id in trials.csv")
    add("--tracking", metavar="URI", default="", help="where MLflow keeps the run (default: as for a sweep)")
    add("--resize", action="store_true", help="bring images of another size to the model's")
    add("--batch", metavar="N", type=int, default=predict.BATCH, help=f"images at a time (default: {predict.BATCH})")
    return parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; None takes the arguments of the process. Returns the exit code."""
    given = parser().parse_args(arguments)
    try:
        if given.batch < 1:
            raise Unknown(f"--batch must be at least 1, but is {given.batch}.")
        opened = _opened(given)
        root = folder.opened(given.folder)
        images = folder.read(root, opened.wanted, resize=given.resize)
        out = given.out or named(given.storage).folder / FOLDER / opened.name / given.folder.absolute().name
        known = _names((out, opened.beside), opened.result)
        images = images.to(opened.device)
        probabilities_NK, seconds = _predicted(opened.model, images, given.batch)
        assignments = Assignments(
            images.names,
            ["new"] * len(images),
            top_two(probabilities_NK),
            [""] * len(images),
            probabilities_NK.shape[1],
            opened.result,
            str(root.absolute()),
            {cluster: name for cluster, name in known.items() if cluster < probabilities_NK.shape[1]},
        )
        files = written.write(
            assignments, _pixels(images.images_NCHW), out, opened.title, [f"New images: {given.folder}."]
        )
    except (
        Unknown,
        StudyErrors,
        DataError,
        FloatingPointError,
        LedgerError,
        ValueError,
        LookupError,
        OSError,
    ) as error:
        print(error, file=sys.stderr)
        return WRONG
    rate = len(images) / seconds
    print(f"{len(images):,} images in {seconds:,.1f} s: {rate:,.0f} images/s, {opened.title}")
    print(f"gallery  {files[2]}\ntable    {files[0]} (also {files[1].name})")
    return OK


def _opened(given: argparse.Namespace) -> Opened:
    place = named(given.storage)
    if _RUN.fullmatch(given.model) or given.model.startswith(_MODEL_URIS):
        if given.trial:
            raise Unknown("--trial names a trial of a study, and a run of MLflow is one trial; leave it out.")
        return _of_run(given.model, given.tracking, place)
    return _of_study(study_name(given.model), given.trial, place)


def _of_run(run: str, tracking: str, place: Storage) -> Opened:
    from .tracking import mlflow_model  # MLflow takes seconds, and a study's model needs none

    uri = tracking or os.environ.get("MLFLOW_TRACKING_URI", "") or mlflow_model.database(place.folder)
    model, wanted, result = mlflow_model.opened(run, uri)
    name = run if _RUN.fullmatch(run) else re.sub(r"\W+", "-", run).strip("-")
    # An exported program stays on the device that it was exported on.
    return Opened(model, wanted, f"model of {run}", result, name, place.folder, torch.device("cpu"))


def _of_study(study: str, key: str, place: Storage) -> Opened:
    try:
        where = place_of(place, new=False)
    except LookupError as error:
        raise Unknown(str(error)) from None
    ledger = Ledger(where)
    try:
        trial = _trial(ledger, study, key, where)
    finally:
        ledger.close()
    last, store = closing_stages(trial)[0], Store(place.results)
    result, build = store.get(last.result_name), getattr(pipeline.load(last.name), "classifier", None)
    if result is None:
        raise Unknown(
            f"the result {last.result_name} of trial {trial.key} is not in {place.results}. Start the sweep again: it"
            " computes what is missing."
        )
    if build is None:
        raise Unknown(
            f"stage {last.name} leaves no network (it has no classifier), so it has no clusters for new images."
            " Take a study whose method trains a clustering, such as scan."
        )
    wanted = _wanted(store.meta(last.result_name), trial)
    model: torch.nn.Module = build(result, model_input.stand_in(wanted))
    title = f"{study}, seed {seed_label(trial.seed)}"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Opened(model.eval().to(device), wanted, title, last.result_name, study, place.folder / study, device)


def _trial(ledger: Ledger, study: str, key: str, where: object) -> Trial:
    """The trial that is named, or the best one of the study's last launch."""
    from .reports.figures import best_trial
    from .reports.summarize import summarize

    launches = ledger.launches(study)
    if not launches:
        known = sorted({launch.study for launch in ledger.launches()})
        raise Unknown(f"study {study!r} is not in {where}. {did_you_mean(study, known)}")
    summary = summarize(ledger, launches[-1].id)
    if not key:
        best = best_trial(summary)
        if best is None:
            raise Unknown(
                f"no trial of study {study!r} is ranked yet. Start its sweep again, or name one with --trial."
            )
        return best
    done = [trial for trial in summary.trials if trial.kind == "trial" and trial.state == DONE]
    fitting = [trial for trial in done if trial.key == key or len(key) >= _SHORTEST_KEY and trial.key.startswith(key)]
    if len(fitting) != 1:
        many = "no finished trial has" if not fitting else f"{len(fitting)} finished trials have"
        shown = ", ".join(trial.key for trial in (fitting or done)[:5])
        raise Unknown(f"{many} the key {key!r} in study {study!r}. There are {shown or 'none'}.")
    return fitting[0]


def _wanted(meta: dict[str, object], trial: Trial) -> ModelInput:
    """What the model takes, as noted beside its result; of an older result as the study's images have it."""
    noted = meta.get("input")
    if isinstance(noted, dict):
        return model_input.from_dict(noted)
    fields = trial.trial_spec["dataset"]
    return model_input.of_data(datasets.load(datasets.Spec(**fields)), fields)


def _names(folders: Sequence[Path], result: str) -> dict[int, str]:
    """Names of the clusters, of the first folder that has some."""
    for place in folders:
        if (place / names.FILE).exists():
            try:
                return dict(names.read(place, result, sys.maxsize))
            except names.NamesError as error:
                warnings.warn(str(error), stacklevel=2)
    return {}


def _predicted(model: predict.Model, images: Split, batch_size: int) -> tuple[NDArray[np.float32], float]:
    """(probabilities, seconds)."""
    started = time.perf_counter()
    with _progress(len(images)) as done:
        rows_NK = predict.probabilities(model, images.images_NCHW, batch_size=batch_size, done=done)
    return rows_NK, time.perf_counter() - started


@contextmanager
def _progress(total: int) -> Iterator[predict.Done]:
    """A bar on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("assigning"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("assign", total=total)
        yield lambda num: progress.advance(task, num)


def _pixels(images: Images) -> Pixels:
    def of_rows(rows_B: NDArray[np.int64]) -> torch.Tensor:
        return images[torch.from_numpy(rows_B.copy())].cpu()

    return of_rows


if __name__ == "__main__":
    leave(main)
