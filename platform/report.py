"""``python -m platform.report STUDY|FILE ...``: write the report of a study anew and print it; several side by side.

Exit codes: 0 done, 2 a study is not in the ledger or there is no ledger.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.settings import Plain

from .console import OK, WRONG, leave
from .ledger.ledger import Ledger, place_of
from .ledger.schema import LedgerError
from .ledger.storage import Storage, named
from .study.errors import StudyErrors, did_you_mean
from .study.resolved_types import Mode
from .study.yaml_reader import read

if TYPE_CHECKING:
    from .reports.summary import Summary


class Unknown(Exception):
    """A study or ledger that the user named does not exist. The text is for the user."""


def parser() -> argparse.ArgumentParser:
    """The command line of ``python -m platform.report``."""
    parse = argparse.ArgumentParser(
        prog="python -m platform.report",
        description="Write the report of a study anew and print it; several studies are put side by side.",
    )
    add = parse.add_argument
    add("studies", metavar="STUDY|FILE", nargs="+", help="a study's name, or its file")
    add("--storage", metavar="DIR|URI", default="runs", help="where everything is kept (default: runs)")
    return parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; None takes the arguments of the process. Returns the exit code."""
    given = parser().parse_args(arguments)
    try:
        names = list(dict.fromkeys(study_name(study) for study in given.studies))
        print(reported(names, named(given.storage)))
    except (Unknown, StudyErrors, ValueError) as error:
        print(error, file=sys.stderr)
        return WRONG
    return OK


def study_name(study: str) -> str:
    """The name of a study.

    Args:
        study: a name, which comes back as it is, or the path of a study file (.yaml or .yml).

    Raises:
        StudyErrors: the file cannot be read.
        Unknown: what stands under ``name`` in the file is not text.
    """
    path = Path(study)
    if path.suffix not in (".yaml", ".yml"):
        return study
    name = read(path).data.get("name", path.stem)
    if not isinstance(name, str):
        raise Unknown(f"{study}: name must be text, but is {name!r}. Correct it, or give the study's name.")
    return name


def reported(names: Sequence[str], place: Storage) -> str:
    """Write the report of one study, or the comparison of several, into the storage.

    Returns:
        The text to print.

    Raises:
        Unknown: there is no ledger, a study is not in it, or it used a method that does not exist any more.
    """
    storage = place.folder
    try:
        where = place_of(place, new=False)
    except (LookupError, ValueError) as error:
        raise Unknown(str(error)) from None
    from trainables import pipeline

    from .reports import terminal, writer  # what they load takes seconds, and is not needed to refuse
    from .reports.summarize import summarize

    try:
        ledger = Ledger(where)
    except LedgerError as error:
        raise Unknown(str(error)) from error
    try:
        newest = {launch.study: launch for launch in ledger.launches()}
        for name in names:
            if name not in newest:
                raise Unknown(f"study {name!r} is not in {where}. {did_you_mean(name, sorted(newest))}")
            method = newest[name].resolved["method"]
            if not pipeline.is_method(method):
                raise Unknown(f"study {name!r} used method {method!r}. {did_you_mean(method, list(pipeline.METHODS))}")
        summaries = [summarize(ledger, newest[name].id) for name in names]
        if len(summaries) > 1:
            written = writer.write_comparison(summaries, storage)
            places = f"report   {written[1]} (also {written[0].name}, {written[2].name})"
            return "\n".join([terminal.side_by_side(summaries), "", places, *_copied(place, written)])
        summary = _with_cluster_numbers(summaries[0], place)
        written = [*writer.write(_with_importances(summary), storage), *_clustering(summary, storage)]
        return "\n".join([terminal.end_of_sweep(summary, storage), *_copied(place, written)])
    finally:
        ledger.close()


def _with_cluster_numbers(summary: "Summary", place: Storage) -> "Summary":
    from .reports.num_clusters import words

    if not words.parameter(summary):
        return summary
    from .reports.num_clusters import evidence  # it reads clusterings, by torch

    return evidence.with_cluster_numbers(summary, evidence.reader(place.results))


def _clustering(summary: "Summary", storage: Path) -> list[Path]:
    if not (storage / "stages").is_dir():
        return []
    from .reports.assignments import best_trial  # it draws images, by torch

    return best_trial.of_study(summary, storage)


def _with_importances(summary: "Summary") -> "Summary":
    from .reports import importance

    return importance.with_importances(summary, _importances)


def _importances(
    search: Mapping[str, Mapping[str, Any]], points: Sequence[tuple[Mapping[str, Plain], float]], mode: Mode
) -> Mapping[str, Mapping[str, float]]:
    from .search.importances import importances  # Optuna and its forest, which small reports do without

    return importances(search, points, mode)


def _copied(place: Storage, written: Sequence[Path]) -> list[str]:
    line = place.copy(written)
    return [line] if line else []


if __name__ == "__main__":
    leave(main)
