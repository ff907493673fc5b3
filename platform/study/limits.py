"""What the data set's size forbids a study, found before anything starts."""

from trainables import pipeline
from trainables.contract import DataShape

from .faults import Fault
from .rules import place_of
from .schema import Study, configs


def data_faults(study: Study, shape: DataShape) -> list[Fault]:
    """Every setting that a data set of this shape cannot carry, each once, at its line of the study file.

    Judged at the extremes: every choice, both ends of every range, every row of an ablation in its own pipeline.
    """
    faults = []
    for part, changes in study.bounds:
        built = configs(part, changes)
        for name, sentence in pipeline.limits(part.method, part.pretext, built, shape, part.probes):
            where = place_of(name, changes, part.fixed, part.swept, part.ablate, part.grid)
            key = name if where == ("method",) else ""
            if where == ("method",) and len(study.parts) > 1:
                where = ("ablate", part.ablate[0].name)
            faults.append(study.document.fault(where, f"{sentence.rstrip('.')}.", key=key))
    return list(dict.fromkeys(faults))
