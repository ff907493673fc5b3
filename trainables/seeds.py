"""Seeds of a trial: one for everything, or one for the pretext and another for what comes after it.

SCAN's authors averaged ten runs over one set of pretext weights, which leaves out what the pretext's own seed changes.
A study that crosses both can tell the two apart. A pair is written as one whole number wherever a seed is kept, so that
a trial, a row and a file go on having one seed; plain seeds stay below PAIR, pairs above it.
"""

from collections.abc import Mapping, Sequence

from . import registry

PAIR = 2**31
"""Plain seeds are below it."""


def crossed(pretext: int, method: int) -> int:
    """The one number of a pair; both at least 0 and below PAIR."""
    return (pretext + 1) * PAIR + method


def is_crossed(seed: int) -> bool:
    return seed >= PAIR


def parts(seed: int) -> tuple[int, int]:
    """(pretext's seed, method's seed); a plain seed is both."""
    if not is_crossed(seed):
        return seed, seed
    pretext, method = divmod(seed, PAIR)
    return pretext - 1, method


def of_slot(seed: int, slot: str) -> int:
    """What a stage in a slot draws its random numbers from."""
    pretext, method = parts(seed)
    return pretext if slot in registry.pretext_seeded_slots() else method


def label(seed: int) -> str:
    """ "3", or "1/3" for a pretext's and a method's seed."""
    return "/".join(map(str, parts(seed))) if is_crossed(seed) else str(seed)


def expanded(written: Sequence[int] | Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    """The seeds of a study as its file has them: a list, or lists under ``pretext`` and ``method``, crossed."""
    if isinstance(written, Mapping):
        return tuple(crossed(pretext, method) for pretext in written["pretext"] for method in written["method"])
    return tuple(written)


def written(seeds: Sequence[int]) -> list[int] | dict[str, list[int]]:
    """What ``expanded`` reads."""
    if not seeds or not is_crossed(seeds[0]):
        return list(seeds)
    pairs = [parts(seed) for seed in seeds]
    return {
        "pretext": list(dict.fromkeys(pretext for pretext, _ in pairs)),
        "method": list(dict.fromkeys(method for _, method in pairs)),
    }
