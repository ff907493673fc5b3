"""The files of a clustering: assignments.csv, assignments.parquet and gallery.html, each whole or not at all."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..output import write_whole
from . import gallery, table, thumbnails
from .arrangement import arranged
from .files import CSV, GALLERY, PARQUET
from .table import Assignments
from .thumbnails import Pixels


def write(
    assignments: Assignments, pixels: Pixels | None, folder: Path, title: str, notes: Sequence[str] = ()
) -> list[Path]:
    """Write the three files; the gallery last, so that one that is up to date says the same of the tables.

    Args:
        pixels: gives the images; None where there are none (a matrix of features).
        folder: is made where it is missing.
        title: of the gallery.
        notes: sentences for the top of the gallery.

    Returns:
        The files.
    """
    arrangement = arranged(assignments.top_two, assignments.num_clusters)
    drawn = thumbnails.NONE if pixels is None else thumbnails.draw(arrangement, pixels)
    contents: Iterable[tuple[str, bytes]] = (
        (CSV, table.as_csv(assignments)),
        (PARQUET, table.as_parquet(assignments)),
        (GALLERY, gallery.page(assignments, arrangement, drawn, title, notes).encode()),
    )
    return [write_whole(folder / name, content) for name, content in contents]
