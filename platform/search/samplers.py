"""How one setting is drawn: by number, from what came of earlier ones, the same after every restart.

    tpe, gp, random, nsga2   Optuna's samplers, made anew for every draw
    qmc                      SciPy's scrambled Sobol sequence: point i is setting i
    cmaes                    the library that Optuna's own CMA-ES uses, led through all full generations told so far

Optuna keeps the state of its CMA-ES and of its quasi-random sequence in the trials that it drew itself. Here trials are
told from the ledger, so those two are rebuilt from the numbers alone. A population is told in the order of the
settings' numbers: setting i belongs to generation i // population.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import optuna
from scipy.stats import qmc

from ..study import domains
from ..study.domains import Domain
from ..study.file_schema import Sampler

Params = dict[str, Any]
Active = Callable[[str, Mapping[str, Any]], bool]
"""Whether a searched setting counts, given the searched values before it."""

_BEST_SHARE, _MOST_BEST = 0.25, 25
"""Of the settings told, how many TPE takes for the good ones. Optuna's tenth is a single one up to the tenth setting:
its search of ten is no better than chance (``benchmarks/search.py``). Bergstra et al. (2011, section 6) take 0.15,
their later experiments a quarter; at most 25, as Optuna."""

_SIGMA = 1 / 6
"""Of CMA-ES at its start, as a share of each range: Optuna's choice."""


@dataclass(frozen=True)
class CompletedTrial:
    """A setting whose trials have ended. values: each objective's mean over its finished seeds, None without them.

    seen: epoch -> the mean at that epoch, where a seed was pruned; the setting then counts as pruned at its last one.
    """

    number: int
    params: Mapping[str, Any]
    values: tuple[float, ...] | None
    seen: Mapping[int, float] = field(default_factory=dict)


class Draw(Protocol):
    """Draws settings of one search; the same arguments give the same setting."""

    def __call__(self, number: int, attempt: int, told: Sequence[CompletedTrial]) -> Params:
        """Setting ``number``; a higher ``attempt`` where that one was there already. told: in order of numbers."""
        ...


@dataclass(frozen=True)
class Space:
    """What is searched. domains: in an order in which whatever a setting depends on comes before it."""

    domains: Mapping[str, Domain]
    active: Active
    modes: tuple[str, ...]

    def known(self, told: CompletedTrial) -> bool:
        """Whether a sampler can learn from it: a start may lie outside of the searched ranges."""
        return all(name in self.domains and self.domains[name].holds(value) for name, value in told.params.items())

    def at(self, units: Sequence[float]) -> Params:
        """The setting at a place of the unit cube, without what does not count there."""
        params: Params = {}
        for (name, domain), unit in zip(self.domains.items(), units, strict=True):
            if self.active(name, params):
                params[name] = domain.at(float(unit))
        return params


def drawer(sampler: Sampler, space: Space) -> Draw:
    """The sampler of a study file, for one search."""
    if sampler.name == "qmc":
        return _Sobol(sampler, space)
    if sampler.name == "cmaes":
        return _CmaEs(sampler, space)
    return _Optuna(sampler, space)


def _seed(sampler: Sampler, number: int, attempt: int) -> int:
    return ((sampler.seed * 1_000_003 + number) * 1_009 + attempt) % 2**32


class _Optuna:
    def __init__(self, sampler: Sampler, space: Space) -> None:
        self._sampler, self._space = sampler, space
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study = self._fresh()
        self._num_told = 0

    def __call__(self, number: int, attempt: int, told: Sequence[CompletedTrial]) -> Params:
        # NSGA-II keeps the parents of a generation with the study, chosen when it first needed them.
        if self._sampler.name in ("nsga2", "random"):
            self._study, self._num_told = self._fresh(), 0
        if self._sampler.name != "random":  # it learns from nothing
            for each in told[self._num_told :]:
                self._tell(each)
            self._num_told = max(self._num_told, len(told))
        self._study.sampler = self._made(number, attempt)
        trial = self._study.ask()
        params: Params = {}
        for name, domain in self._space.domains.items():
            if self._space.active(name, params):
                params[name] = domain.suggest(trial)
        # The draw itself leaves nothing behind: what a setting came to is told in order.
        self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return params

    def _fresh(self) -> optuna.Study:
        return optuna.create_study(directions=[directions(mode) for mode in self._space.modes])

    def _made(self, number: int, attempt: int) -> optuna.samplers.BaseSampler:
        seed = _seed(self._sampler, number, attempt)
        if self._sampler.name == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        if self._sampler.name == "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=self._sampler.startup)
        if self._sampler.name == "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=self._sampler.population)
        return tpe(seed, self._sampler.startup)

    def _tell(self, told: CompletedTrial) -> None:
        if not self._space.known(told):
            return
        searched = self._space.domains
        states = optuna.trial.TrialState
        # Optuna has neither pruning nor values by epoch where there are several objectives.
        seen = told.seen if len(self._space.modes) == 1 else {}
        generation = {
            optuna.samplers.NSGAIISampler._get_generation_key(): told.number // self._sampler.population  # noqa: SLF001
        }
        self._study.add_trial(
            optuna.trial.create_trial(
                params=dict(told.params),
                distributions={name: distribution(searched[name]) for name in told.params},
                values=told.values,
                state=states.COMPLETE if told.values is not None else states.PRUNED if seen else states.FAIL,
                intermediate_values=dict(seen),
                system_attrs=generation if self._sampler.name == "nsga2" else None,
            )
        )


class _Sobol:
    def __init__(self, sampler: Sampler, space: Space) -> None:
        self._sampler, self._space = sampler, space

    def __call__(self, number: int, attempt: int, told: Sequence[CompletedTrial]) -> Params:
        # A point that is there already (small countable spaces) gives way to one of another scrambling.
        rng = np.random.default_rng([self._sampler.seed, attempt])
        sequence = qmc.Sobol(len(self._space.domains), scramble=True, rng=rng)
        if number:
            sequence.fast_forward(number)
        return self._space.at(sequence.random(1)[0])


class _CmaEs:
    def __init__(self, sampler: Sampler, space: Space) -> None:
        self._sampler, self._space = sampler, space
        self._sign = 1.0 if space.modes[0] == "min" else -1.0
        self._num_generations = 0
        self._optimizer = self._start()

    def __call__(self, number: int, attempt: int, told: Sequence[CompletedTrial]) -> Params:
        size = self._sampler.population
        for generation in range(self._num_generations, len(told) // size):
            self._learn(told[generation * size : (generation + 1) * size])
        self._num_generations = max(self._num_generations, len(told) // size)
        self._optimizer.reseed_rng(_seed(self._sampler, number, attempt))
        return self._space.at(self._optimizer.ask())

    def _start(self) -> Any:
        import cmaes  # only a study that asks for it needs it

        num = len(self._space.domains)
        bounds = np.tile([0.0, 1.0], (num, 1))
        return cmaes.CMA(np.full(num, 0.5), _SIGMA, bounds=bounds, population_size=self._sampler.population)

    def _learn(self, generation: Sequence[CompletedTrial]) -> None:
        values = [self._sign * each.values[0] for each in generation if each.values is not None]
        if not values or self._optimizer.should_stop():
            return
        # One that failed counts as the worst of its generation, which wants all its members.
        solutions = [
            (self._place(each.params), max(values) if each.values is None else self._sign * each.values[0])
            for each in generation
        ]
        self._optimizer.tell(solutions)

    def _place(self, params: Mapping[str, Any]) -> Any:
        # What did not count stands in the middle; a start outside of a range at its end.
        places = [
            self._space.domains[name].place_of(params[name]) if name in params else 0.5 for name in self._space.domains
        ]
        return np.clip(places, 0.0, 1.0)


def tpe(seed: int, startup: int) -> optuna.samplers.TPESampler:
    """Optuna's TPE, which takes more of the settings for good ones than it would by itself."""
    with warnings.catch_warnings():
        # Optuna 5 means to drop ``gamma`` in its next major version, which pyproject.toml keeps out.
        warnings.simplefilter("ignore", FutureWarning)
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=startup,
            gamma=lambda num_told: min(math.ceil(_BEST_SHARE * num_told), _MOST_BEST),
        )


def directions(mode: str) -> str:
    """Optuna's name for a mode."""
    return "minimize" if mode == "min" else "maximize"


def distribution(domain: Domain) -> optuna.distributions.BaseDistribution:
    """Optuna's name for a domain."""
    if isinstance(domain, domains.Choice):
        return optuna.distributions.CategoricalDistribution(domain.options)
    if domain.whole:
        step = 1 if domain.step is None else int(domain.step)
        return optuna.distributions.IntDistribution(int(domain.low), int(domain.high), log=domain.log, step=step)
    return optuna.distributions.FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)
