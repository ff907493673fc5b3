"""The gallery: one HTML file that shows a clustering from disk, without a network.

A sheet per cluster, the least certain images, sizes, a search box, and names to edit. Data stand in the page as JSON,
thumbnails as sprites in base64 (``thumbnails``); the script makes a page of tiles when it is seen.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .arrangement import Arrangement
from .table import Assignments, as_text
from .thumbnails import COLUMNS, Thumbnails

VERSION = 1
"""Raised whenever the page changes, so that a report writes it anew."""

_POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'"
)
_PROBABILITY_STEPS = 10_000
_KEY = '<meta name="clustersweep-gallery" content="'


def key(result: str, names: Mapping[int, str]) -> str:
    """Stands in a gallery, and says of which result and with which names it was made."""
    meaning = json.dumps([VERSION, result, sorted(names.items())])
    return hashlib.sha256(meaning.encode()).hexdigest()[:32]


def key_in(path: Path) -> str:
    """The key of a gallery; empty where there is none."""
    try:
        with path.open(encoding="utf-8") as file:
            beginning = file.read(2_000)
    except (OSError, ValueError):
        return ""
    return beginning.partition(_KEY)[2].partition('"')[0]


def page(
    assignments: Assignments,
    arrangement: Arrangement,
    thumbnails: Thumbnails,
    title: str,
    notes: Sequence[str] = (),
) -> str:
    """The whole page.

    Args:
        title: whose clusters they are.
        notes: sentences below the first one.
    """
    folder = Path(__file__).parent
    style, script = ((folder / f"gallery.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    data = _data(assignments, arrangement, thumbnails)
    names = {str(cluster): name for cluster, name in assignments.cluster_names.items()}
    sentences = "\n".join(
        f'<p class="soft">{escape(text)}</p>' for text in (*notes, *_about(assignments, arrangement, thumbnails))
    )
    sprites = "\n".join(
        f'<script type="text/plain" id="{kind}{place}" data-rows="{rows}">{sprite}</script>'
        for kind, all_of, num in (
            ("c", thumbnails.of_clusters, sum(thumbnails.counts)),
            ("u", thumbnails.of_uncertain, len(arrangement.uncertain_U) if thumbnails.of_uncertain else 0),
        )
        for place, (sprite, rows) in enumerate(zip(all_of, _rows(num), strict=True))
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{_KEY}{key(assignments.result, assignments.cluster_names)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}: clusters</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#sheets">To the images</a>
<h1>{escape(title)}</h1>
<p>{len(assignments):,} images in {len(arrangement.clusters):,} clusters.</p>
{sentences}
<div class="bar" role="search">
<input id="query" type="search" placeholder="Search files, labels, names ( / )"
 aria-label="Search images by file, label or cluster name">
<a href="#uncertain">Least certain</a>
</div>
<section id="results" hidden></section>
<div id="overview">
<ul id="sizes" class="sizes" aria-label="Clusters by size"></ul>
<div class="names"><button type="button" id="download">Download names</button>
<button type="button" id="copy">Copy names</button> <span id="saved" class="soft" role="status"></span></div>
</div>
<main id="sheets" tabindex="-1"></main>
<script type="application/json" id="data">{_in_script(data)}</script>
<script type="application/json" id="names">{_in_script(names)}</script>
{sprites}
<script>{script}</script>
</body>
</html>
"""


def _about(assignments: Assignments, arrangement: Arrangement, thumbnails: Thumbnails) -> list[str]:
    sentences = []
    if empty := assignments.num_clusters - len(arrangement.clusters):
        sentences.append(f"{empty:,} of {assignments.num_clusters:,} clusters hold no image.")
    shown = sum(thumbnails.counts)
    if not thumbnails.of_clusters:
        sentences.append("This data set holds features and no images, so there are no thumbnails.")
    elif shown < len(assignments):
        sentences.append(
            f"{shown:,} of {len(assignments):,} images have a thumbnail, the most typical of each cluster: with all of"
            " them this file would be too large."
        )
    if not assignments.root:
        sentences.append("The images lie in no files of their own, so nothing is linked.")
    sentences.append(
        "Most typical first: by the probability of the cluster. Name the clusters, download the names, and put"
        f" cluster_names.json beside this page: the next report uses them. Model: {assignments.result}."
    )
    return sentences


def _data(assignments: Assignments, arrangement: Arrangement, thumbnails: Thumbnails) -> dict[str, Any]:
    rows, top = arrangement.rows_N, assignments.top_two
    files = [assignments.files[row] for row in rows]
    labels = sorted({*assignments.labels, ""})
    numbers = {label: number for number, label in enumerate(labels)}
    shown = [as_text(name) for name in files]
    return {
        "result": assignments.result,
        "root": f"{Path(assignments.root).absolute().as_uri()}/" if assignments.root else "",
        "files": shown,
        # A name that is no UTF-8 is linked by its bytes.
        "links": {
            place: quote(os.fsencode(name))
            for place, (name, text) in enumerate(zip(files, shown, strict=True))
            if name != text
        },
        "labels": [as_text(label) for label in labels],
        "labelOf": [numbers[assignments.labels[row]] for row in rows],
        "clusters": arrangement.clusters,
        "sizes": arrangement.sizes,
        "probabilities": (top.probability_N[rows] * _PROBABILITY_STEPS).round().astype(int).tolist(),
        "seconds": top.second_N[rows].tolist(),
        "secondProbabilities": (top.second_probability_N[rows] * _PROBABILITY_STEPS).round().astype(int).tolist(),
        "uncertain": arrangement.uncertain_U.tolist(),
        "uncertainSprites": len(thumbnails.of_uncertain),
        "hasThumbnails": bool(thumbnails.of_clusters),
        "counts": thumbnails.counts,
        "tile": thumbnails.tile_px,
        "columns": COLUMNS,
    }


def _rows(num_tiles: int) -> list[int]:
    """Rows of tiles in each sprite."""
    size = COLUMNS * COLUMNS
    return [-(-min(size, num_tiles - first) // COLUMNS) for first in range(0, num_tiles, size)]


def _in_script(content: Any) -> str:
    """JSON in ASCII that no element of HTML can end."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
