"""Label propagation for all classes at once against SciPy's conjugate gradients, class by class, on the same graph.

Run: python -m benchmarks.propagation          (from the repository's root; about four minutes on two cores)

50,000 points of a mixture of Gaussians on the unit sphere, as many components as classes, with their 20 exact
nearest neighbors; of each class 20 points are labeled. Both sides start from the same normalized graph and end at the
distributions, and make the same number of iterations: 30, which no class ends before, as the tolerance is out of
reach. Ours counts everything that ``propagate`` does, its reordering of the graph for every call included. The
results agree to 1e-6 or the script fails. Sides alternate; medians.

Axes: N points, D width, C classes, K neighbors.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, identity
from scipy.sparse.linalg import cg

from trainables.maths import propagation
from trainables.runner import runtime

NUM_NEIGHBORS, WIDTH, LABELED_PER_CLASS = 20, 64, 20
DECAY, ITERATIONS, OUT_OF_REACH = 0.99, 30, 1e-12


def points(num: int, num_classes: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit rows and the component each was drawn from."""
    rng = np.random.default_rng(0)
    label_N = rng.integers(0, num_classes, num)
    center_CD = rng.normal(size=(num_classes, WIDTH))
    points_ND = center_CD[label_N] + 0.9 * rng.normal(size=(num, WIDTH))
    return (points_ND / np.linalg.norm(points_ND, axis=1, keepdims=True)).astype(np.float32), label_N


def labels(label_N: NDArray[np.int64], num_classes: int) -> torch.Tensor:
    """One-hot rows of the first points of each class, zero rows elsewhere."""
    onehot_NC = torch.zeros(len(label_N), num_classes, dtype=torch.float64)
    for number in range(num_classes):
        onehot_NC[np.flatnonzero(label_N == number)[:LABELED_PER_CLASS], number] = 1.0
    return onehot_NC


def ours(graph: csr_matrix, labels_NC: torch.Tensor) -> NDArray[np.float64]:
    found_NC, report = propagation.propagate(
        graph, labels_NC, decay=DECAY, tolerance=OUT_OF_REACH, max_iterations=ITERATIONS
    )
    if report.iterations != ITERATIONS:
        raise SystemExit(f"ours ended after {report.iterations} iterations, not {ITERATIONS}")
    return found_NC.numpy()


def baseline(graph: csr_matrix, labels_NC: torch.Tensor) -> NDArray[np.float64]:
    system = identity(graph.shape[0], format="csr") - DECAY * graph
    columns = [cg(system, column_N, rtol=OUT_OF_REACH, maxiter=ITERATIONS)[0] for column_N in labels_NC.numpy().T]
    solved_NC = np.stack(columns, axis=1).clip(min=0)
    total_N1 = solved_NC.sum(1, keepdims=True)
    return solved_NC / np.where(total_N1 > 0, total_N1, 1.0)


def seconds(work: Callable[[], NDArray[np.float64]]) -> tuple[float, NDArray[np.float64]]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def measure(num: int, num_classes: int, rounds: int) -> tuple[float, float]:
    """Median seconds, ours and SciPy's."""
    points_ND, label_N = points(num, num_classes)
    near_NK, neighbors_NK = runtime.local().search.knn(points_ND, None, NUM_NEIGHBORS + 1, "inner_product")
    graph = propagation.knn_graph(near_NK, neighbors_NK)
    labels_NC = labels(label_N, num_classes)
    mine, theirs = [], []
    for _ in range(rounds):
        spent, found_NC = seconds(lambda: ours(graph, labels_NC))
        mine.append(spent)
        spent, expected_NC = seconds(lambda: baseline(graph, labels_NC))
        theirs.append(spent)
        apart = float(np.abs(found_NC - expected_NC).max())
        if apart > 1e-6:
            raise SystemExit(f"the two solutions are {apart:.1e} apart")
    return statistics.median(mine), statistics.median(theirs)


def main() -> None:
    parse = argparse.ArgumentParser(description="All classes at once against SciPy, class by class.")
    parse.add_argument("--points", type=int, default=50_000, help="N, at least 1,000 (default: 50,000)")
    parse.add_argument("--rounds", type=int, default=3)
    given = parse.parse_args()
    if given.points < 1_000:
        parse.error(f"--points must be at least 1,000, but is {given.points}")
    cores = os.cpu_count() or 1
    torch.set_num_threads(cores)
    for num_classes in (10, 100):
        mine, theirs = measure(given.points, num_classes, given.rounds)
        print(f"C = {num_classes:3}: ours {mine:.2f} s, SciPy {theirs:.2f} s, {theirs / mine:.2f} x")
    record = {
        "claim": f"label propagation, all classes at once, N = {given.points}, k = {NUM_NEIGHBORS}, C = 100, "
        f"{ITERATIONS} iterations, against SciPy's cg class by class",
        "ratio": round(theirs / mine, 2),
        "ours": round(mine, 3),
        "baseline": round(theirs, 3),
        "unit": "s",
        "machine": f"{cores} cores, {platform.machine()}, torch {torch.__version__}, SciPy {scipy.__version__}",
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
