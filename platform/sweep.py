"""``python -m platform.sweep FILE``: run a study, or go on with it.

Exit codes: 0 all trials done, 1 some failed, 2 the file or the command is wrong and nothing was started, 130 and 143
interrupted by SIGINT and SIGTERM with everything kept.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from trainables.data import datasets, loaded, synthetic
from trainables.interfaces import ImageData
from trainables.registry import BrokenStage
from trainables.settings import Plain

from .console import OK, WRONG, in_words, leave
from .ledger.storage import Storage, named
from .study import checkpoints, memory, placement
from .study.data_limits import data_errors, probe_data_errors
from .study.errors import StudyErrors, redacted
from .study.plan import rows
from .study.smoke import smoke_study
from .study.study import Study, configs, load_study

SMOKE_FOLDER = "smoke"
"""Below the storage; holds everything of the studies that ran under ``--smoke``."""


class Refused(Exception):
    """The command cannot be carried out, and nothing was started. Its text is for the user."""


def parser() -> argparse.ArgumentParser:
    """The command line of ``python -m platform.sweep``."""
    parse = argparse.ArgumentParser(
        prog="python -m platform.sweep",
        description="Run the study in FILE; started again, it goes on where it stopped.",
    )
    add = parse.add_argument
    add("file", metavar="FILE", type=Path, help="a study file, such as search_spaces/spc.yaml")
    add("--set", metavar="KEY=VALUE", action="append", default=[], help="override one key of the file")
    add("--trials", metavar="N", help="number of settings, each run with every seed")
    add("--seeds", metavar="0,1,2", help="the seeds")
    add("--storage", metavar="DIR|URI", default="runs", help="where everything is kept (default: runs)")
    # Ray names the cluster that a submitted job runs on in the environment of the job.
    joined = os.environ.get("RAY_ADDRESS", "")
    add("--address", metavar="ADDR", default=joined, help="join a running Ray cluster (default: RAY_ADDRESS, or none)")
    add("--grow", metavar="N:CPUS:GPUS", type=placement.machines, default=(), help="what its autoscaler may add")
    add("--fresh", action="store_true", help="begin a new launch; stages in the store are still used")
    add("--smoke", action="store_true", help="try it on the embedded data, with a few epochs and settings")
    add("--dry-run", action="store_true", help="check everything, print the plan, start nothing")
    add("--profile", action="store_true", help="with --dry-run: also run a few steps of each stage, and forecast")
    add("--price", metavar="X", type=float, help="with --profile: what an hour of this machine costs")
    add("--json", action="store_true", help="one JSON object as the only line on stdout")
    return parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; None takes the arguments of the process. Returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    given = parser().parse_args(arguments)
    overrides = list(given.set)
    overrides += [f"trials={given.trials}"] if given.trials is not None else []
    overrides += [f"seeds=[{given.seeds}]"] if given.seeds is not None else []
    try:
        if given.grow and not given.address:
            raise Refused("--grow is for a cluster that is joined: add --address, or leave it out")
        if given.profile and not given.dry_run or given.price is not None and not given.profile:
            raise Refused("--profile belongs to --dry-run, and --price to --profile: add what is missing")
        storage = storage_of(given.storage)
        study = load_study(given.file, overrides, partial(best_of, storage))
        if given.smoke:
            study, storage = smoke_study(study), storage.below(SMOKE_FOLDER)
        if given.dry_run:
            return dry_run(study, given)
        data, probed = checked_data(study)
        make_writable(storage)
    except (StudyErrors, Refused, BrokenStage) as error:
        print(error, file=sys.stderr)
        return WRONG
    except BrokenPipeError:
        raise
    except Exception as error:  # nothing has been started yet
        print(f"{given.file}: {in_words(error)}", file=sys.stderr)
        return WRONG
    from . import end_of_sweep
    from .run import launch

    request = launch.Request(
        study=study,
        fingerprint=data.fingerprint,
        probe_fingerprint=probed.fingerprint if probed else "",
        storage=storage,
        address=given.address,
        grows=given.grow,
        fresh=given.fresh,
        facts={**end_of_sweep.circumstances(), "smoke": given.smoke, "data": list(data.remarks)},
    )
    again = shlex.join(["python", "-m", "platform.sweep", *(word for word in arguments if word != "--fresh")])
    return end_of_sweep.carry_out(request, data, again=redacted(again), as_json=given.json)


def best_of(storage: Storage, study: str) -> Mapping[str, Plain]:
    """The swept values of the best configuration of a study that has run in this storage, by full name.

    Raises:
        LookupError: the study has not run there, or has no ranked configuration.
    """
    from .reports import best_setting  # only few ablations ask for it

    return best_setting.params(storage, study)


def dry_run(study: Study, given: argparse.Namespace) -> int:
    """Print what would run and what it needs, and start no sweep.

    With ``--profile`` a few steps of each stage are run here; on generated images, if a published set's are missing.

    Args:
        given: the parsed command line.

    Returns:
        The exit code.

    Raises:
        Refused: the machines can never give the resources that the study asks for, or images are missing.
        StudyErrors: a setting that this data set cannot carry.
    """
    shown, probed = _shown(study, may_generate=given.profile)
    nodes = _machines(given.address, given.grow)
    study = replace(study, resources=placement.with_gpus(study.resources, nodes))
    lines = rows(study)
    lines.append(f"{'images':<10} {shown.shape.num_train:,} to train on, {shown.shape.num_eval:,} to judge")
    lines += [f"{'':<10} {remark}" for remark in shown.images.remarks]
    if probed is not None:
        lines.append(
            f"{'probes':<10} {probed.shape.num_train:,} images to learn from, {probed.shape.num_eval:,} to judge"
        )
    lines += checkpoints.rows(configs(*study.bounds[0]), shown.shape)
    if not shown.is_generated:
        needs = [
            memory.need(part.stages, configs(part, changes), shown.images, probed) for part, changes in study.bounds
        ]
        lines += memory.rows(max(needs, key=lambda estimated: estimated.total), study.resources.trial.gpu)
    if not given.json:
        print("\n".join(lines), flush=True)
    sentences = placement.unplaceable(study.resources, nodes)
    if sentences:
        raise Refused("\n".join(f"{study.file}: {sentence}" for sentence in sentences))
    profile = None
    if given.profile:
        from .study import estimate  # FAISS, which no other plan needs

        profile = estimate.forecast(study, shown, given.price)
        if not given.json:
            print("\n".join(estimate.rows(profile)))
    if given.json:
        answer = {"study": study.name, "status": "planned", "plan": lines, "profile": profile and profile.as_dict()}
        print(json.dumps(answer, allow_nan=False))
    return OK


def _shown(study: Study, may_generate: bool) -> tuple[synthetic.Shown, ImageData | None]:
    """The study's images and those of its probes; generated images in the place of a published set that is missing."""
    try:
        data, probed = checked_data(study)
        return synthetic.real(data), probed
    except Refused:
        shown = synthetic.instead(datasets.Spec(**study.dataset)) if may_generate else None
        if shown is None:
            raise
    if errors := data_errors(study, shown.shape):
        raise StudyErrors(errors)
    return shown, None


def _machines(address: str, grows: Sequence[placement.Node]) -> Sequence[placement.Node]:
    if not address:
        return [placement.Node(float(os.cpu_count() or 1), float(torch.cuda.device_count()))]
    from .run import cluster

    try:
        return cluster.size(address, grows).nodes
    except ValueError as error:
        raise Refused(str(error)) from error


def storage_of(text: str) -> Storage:
    """The storage that ``--storage`` names.

    Args:
        text: a folder, or a URI of an object store.

    Raises:
        Refused: the URI has an unknown scheme or holds credentials.
    """
    try:
        return named(text)
    except ValueError as error:
        raise Refused(str(error)) from error


def make_writable(storage: Storage) -> None:
    """Create the storage folder and try it, and the object store.

    Raises:
        Refused: it cannot be written.
    """
    try:
        storage.make_writable()
    except ValueError as error:
        raise Refused(str(error)) from error


def checked_data(study: Study) -> tuple[ImageData, ImageData | None]:
    """Read the images once, so that a bad file or an impossible setting is found before a trial starts.

    Returns:
        The study's images, and those of its probes; None where the probes use the study's.

    Raises:
        StudyErrors: a setting that this data set cannot carry.
        Refused: files are missing or damaged.
    """
    data, probed = _read(study, "dataset"), None
    errors = []
    if study.probe_dataset:
        probed = _read(study, "probe_dataset")
        errors += probe_data_errors(study, data.shape, probed.shape)
    errors += data_errors(study, data.shape, probed.shape if probed else None)
    if errors:
        raise StudyErrors(errors)
    return data, probed


def _read(study: Study, section: str) -> ImageData:
    try:
        return datasets.load(datasets.Spec(**getattr(study, section)))
    except loaded.DataError as error:
        raise Refused(f"{study.file}: {section}: {error}") from error


if __name__ == "__main__":
    leave(main)
