"""What the data set's size forbids a study, found before anything starts."""

from trainables import pipeline
from trainables.interfaces import DataShape

from .cross_checks import place_of
from .errors import StudyError
from .study import Study, configs


def probe_data_errors(study: Study, shape: DataShape, probed: DataShape) -> list[StudyError]:
    """Why the networks that learned from images of one shape cannot be probed on those of another."""
    errors = []
    if probed.num_classes == 0:
        errors.append(("name", "probes learn from labels, but this data set has none. Choose another one."))
    if probed.is_features or probed.num_channels != shape.num_channels:
        have = "features" if probed.is_features else f"images of {_channels(probed)}"
        want = f"the networks of this study take images of {_channels(shape)}"
        errors.append(("name", f"the probes' data set has {have}, but {want}. Choose another one."))
    elif probed.image_size_px != shape.image_size_px:
        sizes = f"{probed.image_size_px} px, but the networks of this study saw {shape.image_size_px} px"
        errors.append(("image_size", f"images are {sizes}. Write image_size: {shape.image_size_px}."))
    return [study.document.error(("probe_dataset", name), sentence) for name, sentence in errors]


def _channels(shape: DataShape) -> str:
    return "one channel" if shape.num_channels == 1 else f"{shape.num_channels} channels"


def data_errors(study: Study, shape: DataShape, probed: DataShape | None = None) -> list[StudyError]:
    """Every setting that a data set of this shape cannot carry, each once, at its line of the study file.

    probed: the shape of the probes' data set, where that is another one.
    Judged at the extremes: every choice, both ends of every range, every row of an ablation in its own pipeline.
    """
    errors = []
    for part, changes in study.bounds:
        built = configs(part, changes)
        for name, sentence in pipeline.limits(part.method, part.pretext, built, shape, part.probes, probed):
            where = place_of(name, changes, part.fixed, part.swept, part.ablate, part.grid)
            key = name if where == ("method",) else ""
            if where == ("method",) and len(study.parts) > 1:
                where = ("ablate", part.ablate[0].name)
            errors.append(study.document.error(where, f"{sentence.rstrip('.')}.", key=key))
    return list(dict.fromkeys(errors))
