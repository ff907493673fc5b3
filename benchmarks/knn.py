"""How near our neighbor search comes to the matrix product that it cannot do without.

Run: python -m benchmarks.knn [--images 20000]          (a minute)

Ours: the 20 nearest of 20,000 unit rows of width 256, each row's own included, as every stage asks for them. Baseline:
the product of the same rows with themselves, block by block into the same memory, and nothing kept: what any exact
search has to compute. Rounds alternate, with one thread and with one for each core; medians are compared.
Axes: N rows, D width, B rows of a block.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.vector_search.faiss_search import ROWS_PER_SEARCH, FaissSearch

WIDTH, NEIGHBORS = 256, 20


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def product(rows_ND: NDArray[np.float32]) -> None:
    """All inner products, of ROWS_PER_SEARCH rows at a time."""
    whole_ND = torch.from_numpy(rows_ND)
    block_BN = torch.empty(ROWS_PER_SEARCH, len(rows_ND))
    for part_BD in whole_ND.split(ROWS_PER_SEARCH):
        torch.mm(part_BD, whole_ND.T, out=block_BN[: len(part_BD)])


def measure(rows_ND: NDArray[np.float32], threads: int, num_rounds: int) -> tuple[float, float]:
    """Median seconds, ours and the product's."""
    search, rounds = FaissSearch(threads, "cpu"), []
    torch.set_num_threads(threads)
    for _ in range(num_rounds + 1):
        ours = seconds(lambda: search.knn(rows_ND, None, NEIGHBORS, "inner_product"))
        rounds.append((ours, seconds(lambda: product(rows_ND))))
    # The first round starts the threads.
    mine, least = zip(*rounds[1:], strict=True)
    return statistics.median(mine), statistics.median(least)


def main() -> None:
    parse = argparse.ArgumentParser(description="Our neighbor search against a plain matrix product.")
    parse.add_argument("--images", type=int, default=20_000, help="rows")
    parse.add_argument("--rounds", type=int, default=5, help="rounds counted, after one that is not")
    asked = parse.parse_args()
    rows_ND = np.random.default_rng(0).normal(size=(asked.images, WIDTH)).astype(np.float32)
    rows_ND /= np.linalg.norm(rows_ND, axis=1, keepdims=True)
    results = {}
    for threads in sorted({1, os.cpu_count() or 1}):
        mine, least = results[threads] = measure(rows_ND, threads, asked.rounds)
        print(f"{threads} threads: {mine:.2f} s, the product {least:.2f} s: {least / mine:.0%}", flush=True)
    threads = max(results)
    mine, least = results[threads]
    record = {
        "claim": f"the {NEIGHBORS} nearest of {asked.images:,} rows of width {WIDTH} against the bare matrix product,"
        f" {threads} threads",
        "ratio": round(least / mine, 2),
        "ours": round(mine, 2),
        "baseline": round(least, 2),
        "unit": "s",
        "ratios": {str(each): round(bare / own, 2) for each, (own, bare) in results.items()},
        "machine": f"{os.cpu_count() or 1} cores, {os.uname().machine}, load {os.getloadavg()[0]:.1f}",
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
