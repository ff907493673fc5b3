"""Which settings a study tries: numbered, drawn one after another, the same on every machine and after every restart.

Setting i is drawn from the means of settings 0 .. i - lookahead, never from whatever happens to have finished: so two
slots or twenty, killed or not, a study proposes the same settings. ``lookahead`` is what may be under way at once, and
belongs to the launch. Samplers are made anew for every draw, so there is no state of theirs to save (``samplers``).

With a ``grid:`` block every combination of it has its own search of ``trials`` settings, which learns from no other.
Combinations take turns, so setting i belongs to combination i mod their number, and more ``trials`` only append.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from trainables import settings

from ..study import domains
from ..study.domains import Domain
from ..study.study import Study
from .samplers import CompletedTrial, Draw, Space, drawer

_REDRAWS = 20
"""Draws before a setting that is already there is replaced by the next one of the grid that is not."""


def lookahead(slots: int, seeds: int) -> int:
    """Settings that may be under way at once, so that ``slots`` trials never wait for a draw."""
    return -(-slots // seeds) + 1


class Searcher:
    """The settings of one launch of a study."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._grid, self._search = study.grid, _ordered(study)
        self._blocks = domains.grid_size(self._grid) or 1
        self._draws: dict[int, Draw] = {}
        self._heard: dict[int, list[CompletedTrial]] = {}
        self._num_heard = 0
        self._texts: list[str] = []
        self._seen: set[str] = set()
        self._places: dict[int, int] = {}

    @property
    def total(self) -> int:
        """How many settings there will be."""
        if self._study.ablate:
            return len(self._study.ablate)
        return self._blocks * self._inner

    @property
    def _inner(self) -> int:
        """Settings of one combination of the grid block."""
        if not self._search:
            return 1
        size = domains.grid_size(self._search)
        if self._study.sampler.name == "grid":
            assert size is not None  # a grid over a continuous range is refused with the study file
            return size
        return self._study.trials if size is None else min(self._study.trials, size)

    def draw(
        self, number: int, told: Sequence[CompletedTrial], taken: Sequence[Mapping[str, Any]]
    ) -> tuple[str, dict[str, Any]]:
        """(variant, params) of setting ``number``.

        told: all settings up to number - lookahead, in order. taken: the params of all settings before ``number``.
        From one call to the next both only grow, so that each draw looks at what is new, or start anew from nothing.
        """
        if self._study.ablate:
            # By what is there already, not by place: a row may have been added above others.
            rest = [row for row in self._study.ablate if row.params not in taken]
            row = rest[number - len(taken)]
            return row.name, row.params
        own, block = divmod(number, self._blocks)
        outer = domains.grid_setting(self._grid, block) if self._grid else {}
        if not self._search:
            return "", outer
        if own < len(self._study.start):
            return "", self._counting({**self._study.start[own], **outer})
        if self._study.sampler.name == "grid":
            return "", self._next_of_grid(number, outer, taken)
        return "", self._drawn(number, outer, told, taken)

    def _drawn(
        self, number: int, outer: Mapping[str, Any], told: Sequence[CompletedTrial], taken: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """A setting that this combination of the grid block does not have yet, as far as there is one."""
        own, block = divmod(number, self._blocks)
        self._hear(told)
        if block not in self._draws:
            modes = tuple(each.mode for each in self._study.objectives)
            space = Space(self._search, lambda name, params: self._active(name, {**outer, **params}), modes)
            self._draws[block] = drawer(self._study.sampler, space)
        heard = self._heard.get(block, [])
        known, params = self._known(taken), dict[str, Any]()
        for attempt in range(_REDRAWS):
            params = {**self._draws[block](own, attempt, heard), **outer}
            if _text(params) not in known:
                return params
        for index in range(domains.grid_size(self._search) or 0):
            other = self._counting({**domains.grid_setting(self._search, index), **outer})
            if _text(other) not in known:
                return other
        return params

    def _hear(self, told: Sequence[CompletedTrial]) -> None:
        """Sort what was told by combination of the grid block, each setting under its number there."""
        if len(told) < self._num_heard:
            self._heard, self._num_heard, self._draws = {}, 0, {}
        for each in told[self._num_heard :]:
            own, block = divmod(each.number, self._blocks)
            params = {name: value for name, value in each.params.items() if name not in self._grid}
            self._heard.setdefault(block, []).append(CompletedTrial(own, params, each.values, each.seen))
        self._num_heard = len(told)

    def _next_of_grid(
        self, number: int, outer: Mapping[str, Any], taken: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """The grid's first setting that is not there yet: a grid that has grown keeps what ran before."""
        own, block = divmod(number, self._blocks)
        known, size = self._known(taken), domains.grid_size(self._search) or 0
        for index in range(self._places.get(block, 0) if taken else own, size):
            params = self._counting({**domains.grid_setting(self._search, index), **outer})
            if _text(params) not in known:
                self._places[block] = index
                return params
        # Values that do not count make some settings equal; a copy is the same trial, which runs once.
        return self._counting({**domains.grid_setting(self._search, own), **outer})

    def _known(self, taken: Sequence[Mapping[str, Any]]) -> set[str]:
        """The settings there are, as texts. Each is written once: at the thousandth draw there are a thousand."""
        if len(taken) < len(self._texts):
            self._texts, self._seen = [], set()
        fresh = [_text(params) for params in taken[len(self._texts) :]]
        self._texts += fresh
        self._seen.update(fresh)
        return self._seen

    def _counting(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Without the searched values that do not count under the others."""
        kept = {name: value for name, value in params.items() if name not in self._search}
        for name in self._search:
            if name in params and self._active(name, kept):
                kept[name] = params[name]
        return kept

    def _active(self, name: str, params: Mapping[str, Any]) -> bool:
        given, (slot, _, own) = self._study.given, name.partition(".")
        for other, wanted in settings.rules(given.stages[slot].Config)[own].when.items():
            full = f"{slot}.{other}"
            value = params[full] if full in params else self._study.fixed.get(full, given.default(full))
            if value not in wanted:
                return False
        return True


def _ordered(study: Study) -> dict[str, Domain]:
    """The searched domains, each after those that decide whether it counts."""
    left, ordered = dict(study.search), dict[str, Domain]()
    while left:
        for name in list(left):
            slot, _, own = name.partition(".")
            needs = {f"{slot}.{other}" for other in settings.rules(study.stages[slot].Config)[own].when}
            if not needs & (left.keys() - {name}):
                ordered[name] = left.pop(name)
                break
        else:
            return {**ordered, **left}  # conditions in a circle: as they stand
    return {name: ordered[name] for name in ordered}


def _text(params: Mapping[str, Any]) -> str:
    return json.dumps(dict(params), sort_keys=True)
