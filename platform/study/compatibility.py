"""Which changes of a study file go on with the study in the ledger, and which make it another one.

The same command with a changed file runs what is missing and failed, and nothing that is done, if only these changed:

    trials, seeds        more of them add trials; fewer leave the others in the ledger
    search               a range or a list of values that holds every value of the one before (a continuous range stays
                         continuous, a step may become finer by a divisor; log and whole stay as they are)
    ablate               a row added, at any place
    scheduler, guard, max_failures, time_limit, retries, resources, tracking, published, question, dataset.root
                         steer the launch, or say where; what was pruned or collapsed before stays so

Everything else is refused with each difference in words: the method and its stages, the data set, a fixed setting, a
setting newly or no longer searched, a narrowed or shifted range, a row changed or taken out, the objective and the
sampler. They change the addresses of finished trials, or by what these were chosen. ``--fresh`` begins a new launch.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from .resolved import difference


def refused(known: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Say which changes of a study file make it another study.

    Args:
        known: the ``resolved.meaning`` in the ledger.
        given: the ``resolved.meaning`` of the file.

    Returns:
        One sentence for each such change; empty if the study goes on.
    """
    adapted = {**known}
    for section, goes_on in (("search", _holds), ("ablate", _same_row)):
        before, after = known.get(section, {}), given.get(section, {})
        kept = {name: after[name] for name in before if name in after and goes_on(before[name], after[name])}
        adapted[section] = {**before, **kept}
    added = {name: row for name, row in given.get("ablate", {}).items() if name not in known.get("ablate", {})}
    if added and known.get("ablate"):
        adapted["ablate"] = {**adapted["ablate"], **added}
    grown = any(adapted[section] != known.get(section, {}) for section in ("search", "ablate"))
    if grown:
        # A setting that could not count before may count now; finished trials do not know it.
        configurations = given.get("fixed", {})
        swept = known.get("search", {})
        adapted["fixed"] = {
            **{name: value for name, value in configurations.items() if name not in swept},
            **known["fixed"],
        }
    return difference(adapted, given)


def _same_row(before: Any, after: Any) -> bool:
    return bool(before == after)


def _holds(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether every value of the domain ``before`` is one of ``after``; both as ``Domain.as_dict`` writes them."""
    if "choice" in before and "choice" in after:
        return all(any(_same(value, other) for other in after["choice"]) for value in before["choice"])
    form = next((form for form in ("uniform", "loguniform", "int") if form in before), "")
    if form not in after or not form or bool(before.get("log")) != bool(after.get("log")):
        return False
    (low, high), (new_low, new_high) = before[form], after[form]
    if not new_low <= low < high <= new_high:
        return False
    default = 1 if form == "int" else None
    step, new_step = before.get("step", default), after.get("step", default)
    if step is None or new_step is None:
        return bool(step == new_step)
    stride = Decimal(str(new_step))
    return not Decimal(str(step)) % stride and not (Decimal(str(low)) - Decimal(str(new_low))) % stride


def _same(one: Any, other: Any) -> bool:
    """Equal and of one kind: 1 and True are two values of a setting."""
    return type(one) is type(other) and bool(one == other)
