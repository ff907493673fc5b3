"""Which settings a study tries: numbered, drawn one after another, the same on every machine and after every restart.

Setting i is drawn by Optuna from the means of settings 0 .. i - lookahead, never from whatever happens to have
finished: so two slots or twenty, killed or not, a study proposes the same settings. ``lookahead`` is what may be under
way at once, and belongs to the launch. The sampler is made anew for every draw, from (seed, number), so there is no
sampler state to save.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna

from ..study import domains
from ..study.domains import Domain
from ..study.schema import Study

_REDRAWS = 20
"""Draws before a setting that is already there is replaced by the next one of the grid that is not."""


@dataclass(frozen=True)
class Told:
    """A setting whose trials have ended. value: the objective's mean over its finished seeds, None if none finished.

    seen: epoch -> the mean at that epoch, where a seed was pruned; the setting then counts as pruned at its last one.
    """

    number: int
    params: Mapping[str, Any]
    value: float | None
    seen: Mapping[int, float] = field(default_factory=dict)


def lookahead(slots: int, seeds: int) -> int:
    """Settings that may be under way at once, so that ``slots`` trials never wait for a draw."""
    return -(-slots // seeds) + 1


class Searcher:
    """The settings of one launch of a study."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._domains: Mapping[str, Domain] = study.search
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna = optuna.create_study(direction="minimize" if study.objective.mode == "min" else "maximize")
        self._num_told = 0
        self._texts: list[str] = []
        self._seen: set[str] = set()
        self._place = 0

    @property
    def total(self) -> int:
        """How many settings there will be."""
        if self._study.ablate:
            return len(self._study.ablate)
        if not self._domains:
            return 1
        size = domains.grid_size(self._domains)
        if self._study.sampler.name == "grid":
            assert size is not None  # a grid over a continuous range is refused with the study file
            return size
        return self._study.trials if size is None else min(self._study.trials, size)

    def draw(self, number: int, told: Sequence[Told], taken: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
        """(variant, params) of setting ``number``.

        told: all settings up to number - lookahead, in order. taken: the params of all settings before ``number``.
        """
        if self._study.ablate:
            # By what is there already, not by place: a row may have been added above others.
            rest = [row for row in self._study.ablate if dict(row.changes) not in taken]
            row = rest[number - len(taken)]
            return row.name, dict(row.changes)
        if not self._domains:
            return "", {}
        if self._study.sampler.name == "grid":
            return "", self._next_of_grid(number, taken)
        self._tell(told)
        known = self._known(taken)
        for attempt in range(_REDRAWS):
            params = self._ask(number, attempt)
            if _text(params) not in known:
                return "", params
        size = domains.grid_size(self._domains)
        for index in range(size or 0):
            params = domains.grid_setting(self._domains, index)
            if _text(params) not in known:
                return "", params
        return "", params

    def _next_of_grid(self, number: int, taken: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The grid's first setting that is not there yet: a grid that has grown keeps what ran before."""
        if not taken:
            return domains.grid_setting(self._domains, number)
        self._seen.update(_text(params) for params in taken[len(self._seen) :])
        while _text(params := domains.grid_setting(self._domains, self._place)) in self._seen:
            self._place += 1
        return params

    def _known(self, taken: Sequence[Mapping[str, Any]]) -> set[str]:
        """The settings there are, as texts. Each is written once: at the thousandth draw there are a thousand."""
        self._texts = self._texts[: len(taken)]
        self._texts += [_text(params) for params in taken[len(self._texts) :]]
        return set(self._texts)

    def _ask(self, number: int, attempt: int) -> dict[str, Any]:
        self._optuna.sampler = self._sampler(number, attempt)
        trial = self._optuna.ask()
        params = {name: domain.suggest(trial) for name, domain in self._domains.items()}
        # The draw itself leaves nothing behind: what a setting came to is told in order, below.
        self._optuna.tell(trial, state=optuna.trial.TrialState.FAIL)
        return params

    def _sampler(self, number: int, attempt: int) -> optuna.samplers.BaseSampler:
        chosen = self._study.sampler
        seed = (chosen.seed * 1_000_003 + number) * 1_009 + attempt
        if chosen.name == "random":
            return optuna.samplers.RandomSampler(seed=seed % 2**32)
        return optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=chosen.startup)

    def _tell(self, told: Sequence[Told]) -> None:
        for each in told[self._num_told :]:
            distributions = {name: distribution(domain) for name, domain in self._domains.items()}
            states = optuna.trial.TrialState
            state = states.COMPLETE if each.value is not None else states.PRUNED if each.seen else states.FAIL
            self._optuna.add_trial(
                optuna.trial.create_trial(
                    params={name: each.params[name] for name in self._domains},
                    distributions=distributions,
                    value=each.value,
                    state=state,
                    intermediate_values=dict(each.seen),
                )
            )
        self._num_told = max(self._num_told, len(told))


def distribution(domain: Domain) -> optuna.distributions.BaseDistribution:
    """Optuna's name for a domain."""
    if isinstance(domain, domains.Choice):
        return optuna.distributions.CategoricalDistribution(domain.options)
    if domain.whole:
        step = 1 if domain.step is None else int(domain.step)
        return optuna.distributions.IntDistribution(int(domain.low), int(domain.high), log=domain.log, step=step)
    return optuna.distributions.FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)


def _text(params: Mapping[str, Any]) -> str:
    return json.dumps(dict(params), sort_keys=True)
