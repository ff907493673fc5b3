"""What the data set's size forbids a study, found before anything starts."""

from trainables import pipeline
from trainables.interfaces import DataShape

from .cross_checks import place_of
from .errors import StudyError
from .study import Study, configs


def probe_data_errors(study: Study, shape: DataShape, probed: DataShape) -> list[StudyError]:
    """Check that the study's networks can be probed on another data set.

    Args:
        shape: of the images that the networks learn from.
        probed: of the probes' images.

    Returns:
        The errors, at the lines of ``probe_dataset``.
    """
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
    """Check every setting against the size of the data set.

    The check covers every choice, both ends of every range, and every row of an ablation in its own pipeline.

    Args:
        shape: of the study's data set.
        probed: of the probes' data set, if that is another one.

    Returns:
        Each error once, at its line of the study file.
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
