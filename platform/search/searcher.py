"""Which configurations a study tries: numbered, drawn one after another, the same on every machine and restart.

Configuration i is drawn from the results of configurations 0 .. i - lookahead, never from whatever happens to have
finished: so two slots or twenty, killed or not, a study proposes the same ones. ``lookahead`` is how many may be under
way at once, and belongs to the launch. Samplers are made anew for every draw, so no state of theirs is saved
(``samplers``).

With a ``grid:`` block every combination of it has its own search of ``trials`` configurations, which learns from no
other. Combinations take turns, so more ``trials`` only append; one whose settings are all there sits out.

Settings that do not count beside others' values make some points of a grid equal: each is drawn, and counted, once.
"""

import json
from collections.abc import Mapping, Sequence

from trainables import settings
from trainables.settings import Plain

from ..ledger.aggregate import Objective
from ..study import domains
from ..study.cross_checks import MAX_TRIALS
from ..study.domains import Domain
from ..study.study import Study
from .samplers import CompletedTrial, Draw, Params, Space, drawer

_REDRAWS = 20
"""Draws before a configuration that is there already is replaced by the next one of the grid that is not."""


def lookahead(slots: int, seeds: int) -> int:
    """Configurations that may be under way at once, so that ``slots`` trials never wait for a draw."""
    return -(-slots // seeds) + 1


class Searcher:
    """Draws the configurations of one launch of a study."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._grid, self._search = study.grid, _ordered(study, study.search)
        self._objectives = tuple(Objective(each.metric, each.mode) for each in study.objectives)
        self._blocks = self._distinct_blocks()
        self._sizes = [self._num_in(outer) for outer in self._blocks]
        self._places: list[tuple[int, int]] = []
        self._draws: dict[int, Draw] = {}
        self._completed: dict[int, list[CompletedTrial]] = {}
        self._num_completed = 0
        self._texts: list[str] = []
        self._text_set: set[str] = set()
        self._grid_indices: dict[int, int] = {}

    @property
    def total(self) -> int:
        """How many configurations there will be."""
        if self._study.ablate:
            return len(self._study.ablate)
        return sum(self._sizes)

    def _distinct_blocks(self) -> list[Params]:
        """The combinations of the grid block, without values that do not count whatever is searched."""
        distinct = dict[str, Params]()
        for place in range(domains.grid_size(self._grid) or 1):
            whole, kept = domains.grid_setting(self._grid, place) if self._grid else {}, Params()
            for name in _ordered(self._study, self._grid):
                if self._may_count(name, {**whole, **kept}):
                    kept[name] = whole[name]
            kept = {name: kept[name] for name in whole if name in kept}
            distinct.setdefault(_text(kept), kept)
        return list(distinct.values())

    def _num_in(self, outer: Mapping[str, Plain]) -> int:
        """How many configurations one combination of the grid block has."""
        if not self._search:
            return 1
        size = domains.grid_size(self._search)
        is_grid = self._study.sampler.name == "grid"
        if size is None or size > MAX_TRIALS:
            assert not is_grid  # such a grid is refused with the study file
            return self._study.trials
        points = (domains.grid_setting(self._search, place) for place in range(size))
        distinct = len({_text(self._counting({**point, **outer})) for point in points})
        return distinct if is_grid else min(self._study.trials, distinct)

    def _place(self, number: int) -> tuple[int, int]:
        """(number within its combination of the grid block, combination) of a configuration."""
        while len(self._places) <= number:
            turn = self._places[-1][0] + 1 if self._places else 0
            rest = [block for block, size in enumerate(self._sizes) if turn < size]
            # Beyond the last one there is none; an older launch may have more.
            self._places += [(turn, block) for block in rest or range(len(self._blocks))]
        return self._places[number]

    def draw(
        self, number: int, completed: Sequence[CompletedTrial], taken: Sequence[Mapping[str, Plain]]
    ) -> tuple[str, Params]:
        """(variant, params) of configuration ``number``.

        Args:
            completed: all configurations up to number - lookahead, in order.
            taken: the params of all configurations before ``number``. From one call to the next both only grow, so that
                each draw looks at what is new, or start anew from nothing.
        """
        if self._study.ablate:
            # By what is there already, not by place: a row may have been added above others.
            rest = [row for row in self._study.ablate if row.params not in taken]
            row = rest[number - len(taken)]
            return row.name, row.params
        index, block = self._place(number)
        outer = self._blocks[block]
        if not self._search:
            return "", outer
        if index < len(self._study.start):
            return "", self._counting({**self._study.start[index], **outer})
        if self._study.sampler.name == "grid":
            return "", self._next_of_grid(number, outer, taken)
        return "", self._sampled(number, outer, completed, taken)

    def _sampled(
        self,
        number: int,
        outer: Mapping[str, Plain],
        completed: Sequence[CompletedTrial],
        taken: Sequence[Mapping[str, Plain]],
    ) -> Params:
        """A configuration that this combination of the grid block does not have yet, as far as there is one."""
        index, block = self._place(number)
        self._sort(completed)
        if block not in self._draws:
            space = Space(self._search, lambda name, params: self._active(name, {**outer, **params}), self._objectives)
            self._draws[block] = drawer(self._study.sampler, space)
        completed_in_block = self._completed.get(block, [])
        known, params = self._texts_of(taken), Params()
        for attempt in range(_REDRAWS):
            params = {**self._draws[block](index, attempt, completed_in_block), **outer}
            if self._meaning(params) not in known:
                return params
        for place in range(domains.grid_size(self._search) or 0):
            other = self._counting({**domains.grid_setting(self._search, place), **outer})
            if self._meaning(other) not in known:
                return other
        return params

    def _sort(self, completed: Sequence[CompletedTrial]) -> None:
        """Sort results by combination of the grid block, each configuration under its number there."""
        if len(completed) < self._num_completed:
            self._completed, self._num_completed, self._draws = {}, 0, {}
        for each in completed[self._num_completed :]:
            index, block = self._place(each.number)
            params = {name: value for name, value in each.params.items() if name not in self._grid}
            self._completed.setdefault(block, []).append(CompletedTrial(index, params, each.values, each.intermediate))
        self._num_completed = len(completed)

    def _next_of_grid(self, number: int, outer: Mapping[str, Plain], taken: Sequence[Mapping[str, Plain]]) -> Params:
        """The grid's first configuration that is not there yet: a grid that has grown keeps what ran before."""
        index, block = self._place(number)
        known, size = self._texts_of(taken), domains.grid_size(self._search) or 0
        for place in range(self._grid_indices.get(block, 0) if taken else index, size):
            params = self._counting({**domains.grid_setting(self._search, place), **outer})
            if self._meaning(params) not in known:
                self._grid_indices[block] = place
                return params
        # Values that do not count make some configurations equal; a copy is the same trial, which runs once.
        return self._counting({**domains.grid_setting(self._search, index), **outer})

    def _texts_of(self, taken: Sequence[Mapping[str, Plain]]) -> set[str]:
        """The configurations there are, as texts. Each is written once: at the thousandth draw there are a thousand."""
        if len(taken) < len(self._texts):
            self._texts, self._text_set = [], set()
        texts = [self._meaning(params) for params in taken[len(self._texts) :]]
        self._texts += texts
        self._text_set.update(texts)
        return self._text_set

    def _meaning(self, params: Mapping[str, Plain]) -> str:
        """A configuration with every swept value that counts, those that it does not name from the study.

        A configuration that was drawn before a setting was searched has that setting's fixed value.
        """
        unnamed = {name: self._given(name) for name in (*self._grid, *self._search) if name not in params}
        return _text(self._counting({**unnamed, **params}))

    def _given(self, name: str) -> Plain:
        return self._study.fixed.get(name, self._study.given.default(name))

    def _may_count(self, name: str, params: Mapping[str, Plain]) -> bool:
        """Whether a value of the grid block counts, as far as that does not depend on what is searched."""
        slot, _, short_name = name.partition(".")
        needs = settings.rules(self._study.stages[slot].Config)[short_name].when
        return any(f"{slot}.{other}" in self._search for other in needs) or self._active(name, params)

    def _counting(self, params: Mapping[str, Plain]) -> Params:
        """Without the searched values that do not count under the others."""
        kept = {name: value for name, value in params.items() if name not in self._search}
        for name in self._search:
            if name in params and self._active(name, kept):
                kept[name] = params[name]
        return kept

    def _active(self, name: str, params: Mapping[str, Plain]) -> bool:
        study, (slot, _, short_name) = self._study, name.partition(".")
        for other, values in settings.rules(study.stages[slot].Config)[short_name].when.items():
            full = f"{slot}.{other}"
            value = params[full] if full in params else self._given(full)
            if value not in values:
                return False
        return True


def _ordered(study: Study, swept: Mapping[str, Domain]) -> dict[str, Domain]:
    """Domains, each after those that decide whether it counts."""
    left, ordered = dict(swept), dict[str, Domain]()
    while left:
        for name in list(left):
            slot, _, short_name = name.partition(".")
            needs = {f"{slot}.{other}" for other in settings.rules(study.stages[slot].Config)[short_name].when}
            if not needs & (left.keys() - {name}):
                ordered[name] = left.pop(name)
                break
        else:
            return {**ordered, **left}  # conditions in a circle: as they stand
    return {name: ordered[name] for name in ordered}


def _text(params: Mapping[str, Plain]) -> str:
    return json.dumps(dict(params), sort_keys=True)
