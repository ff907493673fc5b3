"""How one configuration is drawn: by its number, from the results of earlier ones, the same after every restart.

    tpe, gp, random, nsga2   Optuna's samplers, made anew for every draw
    qmc                      SciPy's scrambled Sobol sequence: point i is configuration i
    cmaes                    the library that Optuna's own CMA-ES uses, given all complete generations so far

Optuna keeps the state of its CMA-ES and of its quasi-random sequence in the trials that it drew itself. Here results
come from the ledger, so those two are rebuilt from the numbers alone. A population is given in the order of the
configurations' numbers: configuration i belongs to generation i // population.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import optuna
from numpy.typing import NDArray
from scipy.stats import qmc

from trainables.settings import Plain

from ..ledger.aggregate import Objective
from ..study import domains
from ..study.domains import Domain
from ..study.file_schema import Sampler
from ..study.resolved_types import Mode

Params = dict[str, Plain]
Active = Callable[[str, Mapping[str, Plain]], bool]
"""Whether a searched setting counts, given the searched values before it."""

_BEST_SHARE, _MOST_BEST = 0.25, 25
"""The share of completed configurations that TPE takes for the good ones. Optuna's tenth is a single one up to the
tenth: its search of ten is no better than chance (``benchmarks/search.py``). Bergstra et al. (2011, section 6) take
0.15, their later experiments a quarter; at most 25, as Optuna."""

_SIGMA = 1 / 6
"""Step size of CMA-ES at its start, as a share of each range: Optuna's choice."""


@dataclass(frozen=True)
class CompletedTrial:
    """A configuration whose trials have ended, as a sampler learns from it.

    values: the mean of each objective over its seeds, None where it has none (see ``ledger.aggregate``).
    intermediate: epoch -> mean of the first objective, where a seed was pruned; for Optuna it was pruned at the last.
    """

    number: int
    params: Mapping[str, Plain]
    values: tuple[float, ...] | None
    intermediate: Mapping[int, float] = field(default_factory=dict)


class Draw(Protocol):
    """Draws the configurations of one search; the same arguments give the same configuration."""

    def __call__(self, number: int, attempt: int, completed: Sequence[CompletedTrial]) -> Params:
        """The values of configuration ``number``.

        Args:
            attempt: 0, and one more for each draw that gave a configuration which is there already.
            completed: the configurations to learn from, in the order of their numbers.
        """
        ...


@dataclass(frozen=True)
class Space:
    """What is searched, and for what. domains: each after those that decide whether it counts."""

    domains: Mapping[str, Domain]
    active: Active
    objectives: tuple[Objective, ...]

    def holds(self, trial: CompletedTrial) -> bool:
        """Whether a configuration lies in the searched ranges; one of ``start:`` may lie outside of them."""
        return all(name in self.domains and self.domains[name].holds(value) for name, value in trial.params.items())

    def at(self, units: Sequence[float]) -> Params:
        """The configuration at a point of the unit cube, without the settings that do not count there."""
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
        self._study = self._new_study()
        self._num_added = 0

    def __call__(self, number: int, attempt: int, completed: Sequence[CompletedTrial]) -> Params:
        # NSGA-II keeps the parents of a generation with the study, chosen when it first needed them.
        if self._sampler.name in ("nsga2", "random"):
            self._study, self._num_added = self._new_study(), 0
        if self._sampler.name != "random":  # it learns from nothing
            for each in completed[self._num_added :]:
                self._add(each)
            self._num_added = max(self._num_added, len(completed))
        self._study.sampler = self._optuna_sampler(number, attempt)
        trial = self._study.ask()
        params: Params = {}
        for name, domain in self._space.domains.items():
            if self._space.active(name, params):
                params[name] = domain.suggest(trial)
        # The draw itself leaves nothing behind: results are added in the order of the numbers.
        self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return params

    def _new_study(self) -> optuna.Study:
        return optuna.create_study(directions=[direction(each.mode) for each in self._space.objectives])

    def _optuna_sampler(self, number: int, attempt: int) -> optuna.samplers.BaseSampler:
        seed = _seed(self._sampler, number, attempt)
        if self._sampler.name == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        if self._sampler.name == "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=self._sampler.startup)
        if self._sampler.name == "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=self._sampler.population)
        return tpe(seed, self._sampler.startup)

    def _add(self, trial: CompletedTrial) -> None:
        if not self._space.holds(trial):
            return
        searched = self._space.domains
        states = optuna.trial.TrialState
        # Optuna has neither pruning nor values by epoch where there are several objectives.
        intermediate = trial.intermediate if len(self._space.objectives) == 1 else {}
        generation_key = optuna.samplers.NSGAIISampler._get_generation_key()  # noqa: SLF001
        generation = {generation_key: trial.number // self._sampler.population}
        self._study.add_trial(
            optuna.trial.create_trial(
                params=dict(trial.params),
                distributions={name: distribution(searched[name]) for name in trial.params},
                values=trial.values,
                state=states.COMPLETE if trial.values is not None else states.PRUNED if intermediate else states.FAIL,
                intermediate_values=dict(intermediate),
                system_attrs=generation if self._sampler.name == "nsga2" else None,
            )
        )


class _Sobol:
    def __init__(self, sampler: Sampler, space: Space) -> None:
        self._sampler, self._space = sampler, space

    def __call__(self, number: int, attempt: int, completed: Sequence[CompletedTrial]) -> Params:
        # A point that is there already (small countable spaces) gives way to one of another scrambling.
        rng = np.random.default_rng([self._sampler.seed, attempt])
        sequence = qmc.Sobol(len(self._space.domains), scramble=True, rng=rng)
        if number:
            sequence.fast_forward(number)
        return self._space.at(sequence.random(1)[0])


class _CmaEs:
    def __init__(self, sampler: Sampler, space: Space) -> None:
        self._sampler, self._space = sampler, space
        self._sign = space.objectives[0].sign
        self._num_generations = 0
        self._optimizer = self._new_optimizer()

    def __call__(self, number: int, attempt: int, completed: Sequence[CompletedTrial]) -> Params:
        size = self._sampler.population
        for generation in range(self._num_generations, len(completed) // size):
            self._learn(completed[generation * size : (generation + 1) * size])
        self._num_generations = max(self._num_generations, len(completed) // size)
        self._optimizer.reseed_rng(_seed(self._sampler, number, attempt))
        return self._space.at(self._optimizer.ask())

    def _new_optimizer(self) -> Any:
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
            (self._point(each.params), max(values) if each.values is None else self._sign * each.values[0])
            for each in generation
        ]
        self._optimizer.tell(solutions)

    def _point(self, params: Mapping[str, Any]) -> NDArray[np.float64]:
        # A setting that did not count is put in the middle of its range, a value outside of its range at the end.
        point = [
            self._space.domains[name].place_of(params[name]) if name in params else 0.5 for name in self._space.domains
        ]
        return np.clip(point, 0.0, 1.0)


def tpe(seed: int, startup: int) -> optuna.samplers.TPESampler:
    """Optuna's TPE, which takes more of the configurations for good ones than by default."""
    with warnings.catch_warnings():
        # Optuna 5 means to drop ``gamma`` in its next major version, which pyproject.toml keeps out.
        warnings.simplefilter("ignore", FutureWarning)
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=startup,
            gamma=lambda num_completed: min(math.ceil(_BEST_SHARE * num_completed), _MOST_BEST),
        )


def direction(mode: Mode) -> str:
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
