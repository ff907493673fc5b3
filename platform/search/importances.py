"""How much of the objective's variation each parameter explains, by Optuna's two evaluators.

fANOVA (Hutter et al. 2014) takes a random forest's variance apart; PED-ANOVA (Watanabe et al. 2023) asks by which
parameters the best tenth of the settings differs from the rest. Both are shares that sum to one.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna

from trainables.settings import Plain

from ..study.domains import Domain, read_back
from ..study.resolved_types import Mode
from .samplers import direction, distribution

Point = tuple[Mapping[str, Plain], float]
"""The parameters of a configuration, and its value."""
_LEAST = 8
"""The evaluators need so many configurations within the searched ranges."""
_FOREST_CONFIGURATIONS, _TREES = 200, 16
"""fANOVA's forest: 64 trees of a thousand configurations would take half a minute. Of more than so many it takes every
n-th, in the order of the search."""


def importances(
    search: Mapping[str, Mapping[str, Any]], points: Sequence[Point], mode: Mode
) -> dict[str, dict[str, float]]:
    """Evaluator ("fANOVA", "PED-ANOVA") -> parameter -> its share.

    Args:
        search: parameter -> its domain, as ``Domain.as_dict`` wrote it. One that some configuration lacks is left out.
        points: every finished configuration; pruned ones must not be among them, and those that lie outside of the
            searched ranges are left out.
        mode: "min" or "max": which end of the values is good.

    Returns:
        Empty for a single parameter, for too few configurations, and where all values are equal.
    """
    common = [name for name in search if all(name in params for params, _ in points)]
    domains = {name: read_back(name, search[name]) for name in common}
    within = [
        (params, value)
        for params, value in points
        if all(domains[name].holds(params[name]) for name in domains) and math.isfinite(value)
    ]
    if len(domains) < 2 or len(within) < _LEAST or len({value for _, value in within}) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    few = within[:: -(-len(within) // _FOREST_CONFIGURATIONS)]
    forest = optuna.importance.FanovaImportanceEvaluator(n_trees=_TREES, seed=0)
    return {
        "fANOVA": _shares(_study(domains, few, mode), forest),
        "PED-ANOVA": _shares(_study(domains, within, mode), optuna.importance.PedAnovaImportanceEvaluator()),
    }


def _study(domains: Mapping[str, Domain], points: Sequence[Point], mode: Mode) -> optuna.Study:
    distributions = {name: distribution(each) for name, each in domains.items()}
    study = optuna.create_study(direction=direction(mode))
    study.add_trials(
        optuna.trial.create_trial(
            params={name: params[name] for name in domains}, distributions=distributions, value=value
        )
        for params, value in points
    )
    return study


def _shares(study: optuna.Study, evaluator: optuna.importance.BaseImportanceEvaluator) -> dict[str, float]:
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in shares.items()}
