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
from functools import partial
from pathlib import Path

import torch

from trainables.data import datasets, loaded, synthetic
from trainables.interfaces import ImageData
from trainables.settings import Plain

from .console import leave
from .ledger.storage import Storage, named
from .study import memory, placement
from .study.data_limits import data_faults, probe_data_faults
from .study.errors import StudyErrors, redacted
from .study.plan import rows
from .study.smoke import rehearsal
from .study.study import Study, configs, load_study

OK, WRONG = 0, 2
REHEARSALS = "rehearsals"


class Refused(Exception):
    """The command cannot be carried out, and nothing was started. Its text is for the user."""


def parser() -> argparse.ArgumentParser:
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
    add("--smoke", action="store_true", help="rehearse on the embedded data, with a few epochs and settings")
    add("--dry-run", action="store_true", help="check everything, print the plan, start nothing")
    add("--profile", action="store_true", help="with --dry-run: also run a few steps of each stage, and forecast")
    add("--price", metavar="X", type=float, help="with --profile: what an hour of this machine costs")
    add("--json", action="store_true", help="one JSON object as the only line on stdout")
    return parse


def main(arguments: Sequence[str] | None = None) -> int:
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
            study, storage = rehearsal(study), storage.below(REHEARSALS)
        if given.dry_run:
            return rehearse_plan(study, given)
        data, probed = checked_data(study)
        make_writable(storage)
    except (StudyErrors, Refused) as fault:
        print(fault, file=sys.stderr)
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
        facts={**end_of_sweep.circumstances(), "rehearsal": given.smoke},
    )
    again = shlex.join(["python", "-m", "platform.sweep", *(each for each in arguments if each != "--fresh")])
    return end_of_sweep.carry_out(request, data, again=redacted(again), as_json=given.json)


def best_of(storage: Storage, study: str) -> Mapping[str, Plain]:
    """The best setting of a study that has run in this storage; see ``reports.best``."""
    from .reports import best_setting  # only few ablations ask for it

    return best_setting.params(storage, study)


def rehearse_plan(study: Study, given: argparse.Namespace) -> int:
    """Print what would run and what it needs; refuse what the machines can never carry. No sweep is started.

    With ``--profile`` a few steps of each stage are run here; on generated images, if a published set's are missing.

    Raises:
        Refused: see above; the sentences name the resources. StudyErrors: as ``checked_data``.
    """
    shown, probed = _shown(study, may_generate=given.profile)
    lines = rows(study)
    lines.append(f"{'images':<10} {shown.shape.num_train:,} to train on, {shown.shape.num_eval:,} to judge")
    if probed is not None:
        lines.append(
            f"{'probes':<10} {probed.shape.num_train:,} images to learn from, {probed.shape.num_eval:,} to judge"
        )
    if not shown.is_generated:
        needs = [memory.need(configs(part, changes), shown.images, probed) for part, changes in study.bounds]
        lines += memory.rows(max(needs, key=lambda each: each.total), study.resources.trial.gpu)
    if not given.json:
        print("\n".join(lines), flush=True)
    sentences = placement.unplaceable(study.resources, _machines(given.address, given.grow))
    if sentences:
        raise Refused("\n".join(f"{study.file}: {sentence}" for sentence in sentences))
    found = None
    if given.profile:
        from .study import estimate  # FAISS, which no other plan needs

        found = estimate.forecast(study, shown, given.price)
        if not given.json:
            print("\n".join(estimate.rows(found)))
    if given.json:
        told = {"study": study.name, "status": "planned", "plan": lines, "profile": found and found.as_dict()}
        print(json.dumps(told, allow_nan=False))
    return OK


def _shown(study: Study, may_generate: bool) -> tuple[synthetic.Shown, ImageData | None]:
    """The study's images, and its probes'; generated ones in the place of a published set that is not there.

    Raises:
        As ``checked_data``.
    """
    try:
        data, probed = checked_data(study)
        return synthetic.real(data), probed
    except Refused:
        shown = synthetic.instead(datasets.Spec(**study.dataset)) if may_generate else None
        if shown is None:
            raise
    if faults := data_faults(study, shown.shape):
        raise StudyErrors(faults)
    return shown, None


def _machines(address: str, grows: Sequence[placement.Node]) -> Sequence[placement.Node]:
    if not address:
        return [placement.Node(float(os.cpu_count() or 1), float(torch.cuda.device_count()))]
    from .run import cluster

    return cluster.size(address, grows).nodes


def storage_of(text: str) -> Storage:
    """Where everything is kept.

    Raises:
        Refused: a URI that is none of an object store's, or has credentials in it.
    """
    try:
        return named(text)
    except ValueError as fault:
        raise Refused(str(fault)) from fault


def make_writable(storage: Storage) -> None:
    """Create the storage folder and try it, and the object store.

    Raises:
        Refused: it cannot be written.
    """
    try:
        storage.make_writable()
    except ValueError as fault:
        raise Refused(str(fault)) from fault


def checked_data(study: Study) -> tuple[ImageData, ImageData | None]:
    """The study's images and those of its probes, where theirs are others.

    They are read once here, so that a bad file or an impossible setting is found before a trial is.

    Raises:
        StudyErrors: a setting that this data set cannot carry. Refused: files are missing or damaged.
    """
    data, probed = _read(study, "dataset"), None
    faults = []
    if study.probe_dataset:
        probed = _read(study, "probe_dataset")
        faults += probe_data_faults(study, data.shape, probed.shape)
    faults += data_faults(study, data.shape, probed.shape if probed else None)
    if faults:
        raise StudyErrors(faults)
    return data, probed


def _read(study: Study, section: str) -> ImageData:
    try:
        return datasets.load(datasets.Spec(**getattr(study, section)))
    except loaded.DataError as error:
        raise Refused(f"{study.file}: {section}: {error}") from error


if __name__ == "__main__":
    leave(main)
