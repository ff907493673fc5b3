"""What a learning search is worth, and what a draw costs late in a long study.

Run: python -m benchmarks.search          (from the repository's root; about three minutes)

Worth: a planted objective, (log10(lr) + 2)^2 + 9 (threshold - 0.3)^2, whose best value is 0, and the same with a third
setting that matters, + ((neighbors - 20) / 15)^2. Ten settings each by TPE and by GP (four random ones first) and by
chance, drawn by our searcher as in a sweep of three seeds on two slots; 30 repetitions with other seeds. The ratio is
that of the mean best values of chance and TPE on the planted objective of two settings.

Cost: at 1,000 finished settings, the time of one more draw by TPE, of which Optuna's own ask and tell are shown apart
(the same history in an in-memory study of Optuna's), and of one trial's life in the ledger: entered, started, four
epochs, finished.
"""

import argparse
import json
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from platform.ledger.ledger import Ledger
from platform.ledger.rows import Configuration
from platform.reports.comparisons.significance import mean_interval
from platform.search.samplers import CompletedTrial, Params, distribution, tpe
from platform.search.searcher import Searcher, lookahead
from platform.study.study import Study, load_study

import optuna

from trainables.runner.messages import EpochRecord

STUDY = """\
method: spc
seeds: [0, 1, 2]
search:
  spc.optimizer.lr:               {{loguniform: [0.0001, 1.0]}}
  spc.strong_threshold: {{uniform: [0.05, 0.95]}}
{third}sampler: {{name: {sampler}, seed: {seed}, startup: 4}}
trials: {trials}
"""
THIRD = "  spc.graph_neighbors:  {int: [5, 50]}\n"
REPETITIONS, TRIALS, SLOTS, FINISHED, ROUNDS = 30, 10, 2, 1000, 20


def planted(params: Params) -> float:
    rate, threshold = math.log10(params["spc.optimizer.lr"]) + 2, params["spc.strong_threshold"] - 0.3
    return rate**2 + 9 * threshold**2 + ((params.get("spc.graph_neighbors", 20) - 20) / 15) ** 2


def study(folder: Path, sampler: str, seed: int, trials: int, third: str = "") -> Study:
    file = folder / "planted.yaml"
    file.write_text(STUDY.format(sampler=sampler, seed=seed, trials=trials, third=third))
    return load_study(file)


def searched(page: Study, count: int) -> list[CompletedTrial]:
    """The first settings of a study and what they came to, each drawn with what a sweep would know by then."""
    searcher, told, taken = Searcher(page), list[CompletedTrial](), list[Params]()
    ahead = lookahead(SLOTS, len(page.seeds))
    for number in range(count):
        _, params = searcher.draw(number, told[: max(0, number - ahead + 1)], taken)
        taken.append(params)
        told.append(CompletedTrial(number, params, (planted(params),)))
    return told


def best(page: Study) -> float:
    return min(each.values[0] for each in searched(page, TRIALS) if each.values)


def median_ms(work: Callable[[int], object]) -> float:
    spent = []
    for number in range(ROUNDS):
        began = time.perf_counter()
        work(number)
        spent.append(time.perf_counter() - began)
    return 1e3 * statistics.median(spent)


def draw_ms(page: Study, told: list[CompletedTrial]) -> float:
    """One more draw where all the others have been told already."""
    searcher, taken = Searcher(page), [dict(each.params) for each in told]
    searcher.draw(len(told), told, taken)
    return median_ms(lambda number: searcher.draw(len(told) + number + 1, told, taken))


def optuna_ms(page: Study, told: list[CompletedTrial]) -> tuple[float, float]:
    """Optuna's own ask (with its suggestions) and tell, over the same history."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    own = optuna.create_study(sampler=tpe(0, 4))
    for each in told:
        own.add_trial(
            optuna.trial.create_trial(
                params=dict(each.params),
                distributions={name: distribution(page.search[name]) for name in each.params},
                values=each.values,
            )
        )
    asked: list[optuna.Trial] = []

    def ask(number: int) -> None:
        asked.append(own.ask())
        for domain in page.search.values():
            domain.suggest(asked[-1])

    spent = median_ms(ask)
    return spent, median_ms(lambda number: own.tell(asked[number], 1.0))


def ledger_ms(folder: Path, told: list[CompletedTrial]) -> float:
    """One trial's rows, in a ledger that has all the others."""
    ledger = Ledger(folder / "ledger.db")
    launch = ledger.open_launch("search", {}, {}, lookahead=2, facts={})

    def live(number: int) -> None:
        key = f"{number:016x}"
        ledger.add_configuration(launch.id, Configuration(number, "", told[number % len(told)].params))
        ledger.add_trials(launch.id, [(key, {"kind": "trial", "seed": 0})], configuration=number)
        ledger.start(launch.id, key)
        for epoch in range(1, 5):
            ledger.add_epochs(launch.id, key, [EpochRecord("spc", epoch, 4, {"loss": 1.0})])
        ledger.finish(launch.id, key, {"loss": 1.0}, [], 1.0)

    for number in range(FINISHED):
        live(number)
    spent = median_ms(lambda number: live(FINISHED + number))
    ledger.close()
    return spent


def _shown(values: list[float]) -> str:
    """Mean and its 95 % interval."""
    interval = mean_interval(values)
    assert interval is not None
    return f"{statistics.fmean(values):.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def main() -> None:
    parse = argparse.ArgumentParser(description="What a learning search is worth, and what a draw costs.")
    parse.add_argument("--repetitions", type=int, default=REPETITIONS, help="at least 2 (default: 30)")
    given = parse.parse_args()
    if given.repetitions < 2:
        parse.error(f"--repetitions must be at least 2, but is {given.repetitions}")
    with tempfile.TemporaryDirectory(prefix="search-") as scratch:
        folder, means = Path(scratch), {}
        for third in (THIRD, ""):
            chance: list[float] = []
            for sampler in ("random", "gp", "tpe"):
                found = [best(study(folder, sampler, seed, TRIALS, third)) for seed in range(given.repetitions)]
                means[sampler], chance = statistics.fmean(found), chance or found
                # The repetitions of a number begin with the same random settings, so they are compared in pairs.
                less = [by_chance - mine for by_chance, mine in zip(chance, found, strict=True)]
                print(f"{3 if third else 2} settings  {sampler:6}  best of {TRIALS}: {_shown(found)}", end="")
                print("" if found is chance else f", below chance by {_shown(less)}")
        page = study(folder, "random", 0, FINISHED)
        told = searched(page, FINISHED)
        page = study(folder, "tpe", 0, 2 * FINISHED)
        ask, tell = optuna_ms(page, told)
        print(
            f"at {FINISHED:,} settings  a draw {draw_ms(page, told):.1f} ms; Optuna's ask {ask:.1f}, tell {tell:.2f} ms"
        )
        print(f"                   the ledger {ledger_ms(folder, told):.1f} ms a trial of four epochs")
    record = {
        "claim": f"the best of {TRIALS} settings by TPE against {TRIALS} random ones, two planted settings, mean of "
        f"{given.repetitions} searches (lower is better)",
        "ratio": round(means["random"] / means["tpe"], 2),
        "ours": round(means["tpe"], 3),
        "baseline": round(means["random"], 3),
        "unit": "objective",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Optuna {optuna.__version__}",
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
