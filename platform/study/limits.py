"""What the data set's size forbids a study, found before anything starts."""

from trainables import pipeline
from trainables.contract import DataShape

from .faults import Fault
from .rules import place_of
from .schema import Study, configs


def data_faults(study: Study, shape: DataShape) -> list[Fault]:
    """Every setting that a data set of this shape cannot carry, each once, at its line of the study file.

    Judged at the extremes: every choice, both ends of every range, every row of an ablation.
    """
    faults = []
    for changes in study.extremes:
        built = configs(study, changes)
        for name, sentence in pipeline.limits(study.method, study.pretext, built, shape, study.probes):
            where = place_of(name, changes, study.fixed, study.swept, study.ablate, study.grid)
            key = name if where == ("method",) else ""
            faults.append(study.document.fault(where, f"{sentence.rstrip('.')}.", key=key))
    return list(dict.fromkeys(faults))
