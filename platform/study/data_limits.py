"""What the data set's size forbids a study, found before anything starts."""

from trainables import pipeline, registry
from trainables.interfaces import DataShape
from trainables.label_metrics import PROBE_SUFFIX, looks_at_labels
from trainables.maths.metrics import EVALUATION_METRICS

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
    if part := _without_labels(probed):
        errors.append(
            ("name", f"probes need labels, but no {part} image of this data set has one. Choose another one.")
        )
    if probed.is_features or probed.num_channels != shape.num_channels:
        have = "features" if probed.is_features else f"images of {_channels(probed)}"
        want = f"the networks of this study take images of {_channels(shape)}"
        errors.append(("name", f"the probes' data set has {have}, but {want}. Choose another one."))
    elif probed.image_size_px != shape.image_size_px:
        sizes = f"{probed.image_size_px} px, but the networks of this study saw {shape.image_size_px} px"
        errors.append(("image_size", f"images are {sizes}. Write image_size: {shape.image_size_px}."))
    return [study.document.error(("probe_dataset", name), sentence) for name, sentence in errors]


def _without_labels(shape: DataShape) -> str:
    """The part whose images have no label, in a sentence's words; empty where both have some."""
    if not shape.num_train_labeled:
        return "training"
    return "" if shape.num_eval_labeled else "evaluation"


def _label_errors(study: Study, shape: DataShape, probed: DataShape | None) -> list[StudyError]:
    """What of the study itself needs labels that are not there: its probes, and what it ranks by."""
    errors = []
    part = _without_labels(shape)
    if study.probes and probed is None and part:
        errors.append(
            study.document.error(
                ("probes",),
                f"probes learn from the labels of training images and are judged by those of evaluation images, but no "
                f"{part} image has one. Take probes out, or set probe_dataset to images with labels.",
            )
        )
    listed = isinstance(study.document.data.get("objective"), list)
    for index, objective in enumerate(study.objectives):
        if _is_missing(objective.metric, shape, on_eval=not pipeline.trains_on_labels(study.method)):
            where = ("objective", index, "metric") if listed else ("objective", "metric")
            sentence = f"{objective.metric} needs labels, but no {part} image has one. Rank by a metric without labels."
            errors.append(study.document.error(where, sentence))
    return errors


def _unread_pictures(study: Study) -> list[StudyError]:
    """Whole pictures that are kept, and of which no stage of the study takes its crops."""
    if not study.dataset.get("whole_pictures"):
        return []
    used = {pipeline.name_of(stage) for part in study.parts for stage in part.stages.values()}
    able = sorted(filter(registry.cuts_whole_pictures, registry.names()))
    if used & set(able):
        return []
    sentence = (
        f"whole_pictures: true is for stages that cut them ({', '.join(able)}); this study has none. Take it out."
    )
    return [study.document.error(("dataset", "whole_pictures"), sentence)]


def _is_missing(metric: str, shape: DataShape, *, on_eval: bool) -> bool:
    """Whether a metric will not be reported for want of labels. on_eval: accuracies are of the evaluation images."""
    slot, _, name = metric.rpartition("/")
    if not looks_at_labels(metric) or slot.endswith(PROBE_SUFFIX):
        return False
    return not shape.num_classes or on_eval and name in EVALUATION_METRICS and not shape.num_eval_labeled


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
    errors = _label_errors(study, shape, probed) + _unread_pictures(study)
    for part, changes in study.bounds:
        built = configs(part, changes)
        for name, sentence in pipeline.limits(part.method, part.pretext, built, shape, part.probes, probed):
            where = place_of(name, changes, part.fixed, part.swept, part.ablate, part.grid)
            key = name if where == ("method",) else ""
            if where == ("method",) and len(study.parts) > 1:
                where = ("ablate", part.ablate[0].name)
            errors.append(study.document.error(where, f"{sentence.rstrip('.')}.", key=key))
    return list(dict.fromkeys(errors))
