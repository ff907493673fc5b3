"""How much of what a search found each parameter explains, by Optuna's two evaluators, from the ledger's numbers alone.

fANOVA (Hutter et al. 2014) takes a random forest's variance apart; PED-ANOVA (Watanabe et al. 2023) asks by which
parameters the best tenth of the settings differs from the rest. Both are shares that sum to one.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna

from ..study.domains import Domain, read_back
from .samplers import directions, distribution

Point = tuple[Mapping[str, Any], float]
_LEAST = 8
"""Settings within the search without which the evaluators have nothing to divide."""
_FOREST_SETTINGS, _TREES = 200, 16
"""What fANOVA's forest is grown from and how large it is: 64 trees of a thousand settings would take half a minute. Of
more settings every n-th counts, in the order of the search."""


def importances(
    search: Mapping[str, Mapping[str, Any]], points: Sequence[Point], mode: str
) -> dict[str, dict[str, float]]:
    """Evaluator ("fANOVA", "PED-ANOVA") -> parameter -> its share.

    Args:
        search: parameter -> its domain, as ``Domain.as_dict`` wrote it. One that some setting lacks is left out.
        points: the parameters of every finished setting and its value; pruned ones must not be among them, and those
            that lie outside of what is searched are left out.
        mode: "min" or "max": which end of the values is good.

    Returns:
        Nothing for a single parameter, too few settings, and where all values are alike.
    """
    everywhere = [name for name in search if all(name in params for params, _ in points)]
    domains = {name: read_back(name, search[name]) for name in everywhere}
    drawn = [
        (params, value)
        for params, value in points
        if all(domains[name].holds(params[name]) for name in domains) and math.isfinite(value)
    ]
    if len(domains) < 2 or len(drawn) < _LEAST or len({value for _, value in drawn}) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    few = drawn[:: -(-len(drawn) // _FOREST_SETTINGS)]
    forest = optuna.importance.FanovaImportanceEvaluator(n_trees=_TREES, seed=0)
    return {
        "fANOVA": _shares(_study(domains, few, mode), forest),
        "PED-ANOVA": _shares(_study(domains, drawn, mode), optuna.importance.PedAnovaImportanceEvaluator()),
    }


def _study(domains: Mapping[str, Domain], drawn: Sequence[Point], mode: str) -> optuna.Study:
    distributions = {name: distribution(each) for name, each in domains.items()}
    study = optuna.create_study(direction=directions(mode))
    study.add_trials(
        optuna.trial.create_trial(
            params={name: params[name] for name in domains}, distributions=distributions, value=value
        )
        for params, value in drawn
    )
    return study


def _shares(study: optuna.Study, evaluator: optuna.importance.BaseImportanceEvaluator) -> dict[str, float]:
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in found.items()}
