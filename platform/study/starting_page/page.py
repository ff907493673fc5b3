"""The text of a first study page: settings with the reason for each."""

import json
import re
import shlex
from pathlib import Path

from .recipe import Recipe
from .survey import Survey

_LONGEST_NAME = 60


def name_of(root: Path) -> str:
    """A study's name after a folder: letters, digits, "_" and "-"."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", root.absolute().name).strip("_-").lower()[:_LONGEST_NAME]
    return name or "images"


def text(survey: Survey, recipe: Recipe, name: str, path: Path) -> str:
    """The whole page.

    Args:
        name: of the study.
        path: where the page will be, for the command that runs it.
    """
    command = shlex.join(["python", "-m", "platform.sweep", str(path)])
    kind = "gray" if survey.is_gray else "in color"
    folders = survey.class_folders
    clusters = f"as many as there are class folders ({len(folders)})" if len(folders) == recipe.num_clusters else (
        "nobody knows how many there are: try others, and look at the gallery"
    )  # fmt: skip
    labels = (
        "# Its class folders are read as labels: the report then has acc, nmi and ari. They steer nothing."
        if folders
        else "# No labels: the report has no acc, nmi or ari."
    )
    views = (
        "gray images, which a crop or a mirror image would change into others"
        if survey.is_gray
        else "crops, mirror images and changes of color"
    )
    share = f"{{gpu: {1 / len(recipe.seeds):g}}}" if recipe.gpu else "{cpu: 1}"
    return f"""\
# The images of {_comment(survey.root)} in {recipe.num_clusters} clusters.
#
# Question:  which of these {survey.num_images:,} images belong together?
# Images:    {kind}, about {survey.side_px} px on the shorter side, {_sizes(survey)}.
# Method:    SimCLR learns features, SCAN clusters them by their neighbors, self-labeling makes it sure (SCAN,
#            Van Gansbeke et al. 2020). Chosen for this folder and this machine by python -m platform.new.
# Run:       {_comment(command)}
# Answer:    runs/{name}/gallery.html and assignments.csv

name: {name}
method: scan
{labels}
dataset:
  name: folder
  root: {json.dumps(str(survey.root))}
{_labels(survey)}  protocol: union                 # train on all images and cluster all of them
  image_size: {recipe.image_size_px:<3}                 # px; all images are brought to it
seeds: [{", ".join(map(str, recipe.seeds))}]                     # the best of them by the objective below is shown
fixed:
  pretext.network: {recipe.network}
  pretext.augmentation: {recipe.augmentation}    # {views}
  pretext.temperature: 0.2
  pretext.symmetry: symmetric
  pretext.batch_size: {recipe.batch_size}
  pretext.epochs: {recipe.pretext_epochs}             # more is better and takes longer
  neighbors.num_neighbors: {recipe.num_neighbors}      # a tenth of an average cluster, 20 at most
  scan.num_clusters: {recipe.num_clusters}           # {clusters}
  scan.num_neighbors: {recipe.num_neighbors}
  scan.num_heads: 5               # the best of five by the selection loss; one alone merges two clusters at times
  scan.augmentation: {recipe.augmentation}
  scan.batch_size: {recipe.batch_size}
  scan.optimizer.lr: 0.001
  scan.epochs: {recipe.scan_epochs}
  selflabel.augmentation: {recipe.augmentation}
  selflabel.confidence_threshold: 0.8
  selflabel.batch_size: {recipe.batch_size}
  selflabel.optimizer.lr: 0.0001
  selflabel.epochs: {recipe.selflabel_epochs}
objective: {{metric: selflabel/guarded_confidence, mode: max}}   # looks at no label
resources: {{trial: {share}}}
"""


def _labels(survey: Survey) -> str:
    lines = [f"  labels: {'folders' if survey.class_folders else 'none'}"]
    if survey.num_unreadable:
        lines.append(
            f"  skip_unreadable: true           # {survey.num_unreadable} of the files looked at cannot be read"
        )
    return "\n".join(lines) + "\n"


def _sizes(survey: Survey) -> str:
    return "all of one size" if survey.sizes == 1 else "of different sizes"


def _comment(content: object) -> str:
    """Text that stays in its comment."""
    return " ".join(str(content).split())
