"""How much faster UAD's weights are computed by grouped reductions than by nested loops over the clusters.

Run: python -m benchmarks.uad_weights          (about a minute)

Both sides start from the cluster and the squared distance of each of 1,280,000 images in 10,000 clusters, and end with
the weight of every image (UAD Eq. 21-23). Baseline: lists of distances by cluster, their smallest and largest value,
and a loop over clusters and images, as the paper describes its code in figures 5 and 6; the paper keeps these lists in
Python as well. The loop that fills the lists runs whole; the loops over clusters run for a share of them, and are
extrapolated from it (``--share 1`` runs them all). Ours: ``maths.uncertainty.confidence_weights`` with one thread, on
the CPU. Rounds alternate between the two, so that a busy machine slows both; the medians are compared, and so are the
weights themselves.
Axes: N images.
"""

import argparse
import json
import os
import statistics
import time

import numpy as np
import torch

from trainables.maths import uncertainty

NUM_IMAGES = 1_280_000
NUM_CLUSTERS = 10_000
OFFSET = 0.5
NUM_ROUNDS = 5
RUNS_PER_ROUND = 20


def nested_loops(labels: np.ndarray, distances: np.ndarray, share: float) -> tuple[list[list[float]], float]:
    """Weights by cluster (of the first clusters alone), and the seconds that all of them would have taken."""
    began_s = time.perf_counter()
    of_cluster: list[list[float]] = [[] for _ in range(NUM_CLUSTERS)]
    for image in range(len(labels)):
        of_cluster[labels[image]].append(distances[image])
    filled_s = time.perf_counter() - began_s
    done = max(1, int(NUM_CLUSTERS * share))
    began_s = time.perf_counter()
    bounds = []
    for cluster in range(done):
        bounds.append((min(of_cluster[cluster]), max(of_cluster[cluster])))
    for cluster in range(done):
        if len(of_cluster[cluster]) > 1 and bounds[cluster][1] > bounds[cluster][0]:
            for place in range(len(of_cluster[cluster])):
                scaled = (of_cluster[cluster][place] - bounds[cluster][0]) / (bounds[cluster][1] - bounds[cluster][0])
                of_cluster[cluster][place] = 1 - scaled + OFFSET
        else:
            of_cluster[cluster] = [1 + OFFSET] * len(of_cluster[cluster])
    looped_s = time.perf_counter() - began_s
    return of_cluster[:done], filled_s + looped_s * NUM_CLUSTERS / done


def grouped(labels_N: torch.Tensor, distances_N: torch.Tensor) -> tuple[torch.Tensor, float]:
    began_s = time.perf_counter()
    weights_N = uncertainty.confidence_weights(
        distances_N, labels_N, NUM_CLUSTERS, offset=OFFSET, direction="confident_up"
    )
    return weights_N, time.perf_counter() - began_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="share of the clusters that the baseline loops over")
    share = parser.parse_args().share
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    # Each cluster has an image, so that the baseline's min() has something to look at.
    labels = np.concatenate([np.arange(NUM_CLUSTERS), rng.integers(0, NUM_CLUSTERS, NUM_IMAGES - NUM_CLUSTERS)])
    distances = rng.random(NUM_IMAGES, dtype=np.float32)
    labels_N, distances_N = torch.from_numpy(labels), torch.from_numpy(distances)
    ours_s, baseline_s = [], []
    for number in range(NUM_ROUNDS):
        by_cluster, seconds = nested_loops(labels, distances, share)
        baseline_s.append(seconds)
        # Milliseconds are easily disturbed, so there are as many runs as fit into a small part of the baseline's time.
        for _ in range(RUNS_PER_ROUND):
            weights_N, seconds = grouped(labels_N, distances_N)
            ours_s.append(seconds)
        median_ms = statistics.median(ours_s[-RUNS_PER_ROUND:]) * 1000
        print(f"round {number + 1}: nested loops {baseline_s[-1]:.3f} s, grouped {median_ms:.1f} ms")
    for cluster in range(0, len(by_cluster), 997):
        np.testing.assert_allclose(by_cluster[cluster], weights_N[labels_N == cluster].numpy(), atol=1e-6)
    baseline, ours = statistics.median(baseline_s), statistics.median(ours_s)
    print(
        json.dumps(
            {
                "claim": "UAD's weights are computed by grouped reductions, not by loops over clusters",
                "ratio": round(baseline / ours, 1),
                "ours": ours,
                "baseline": baseline,
                "unit": f"seconds for {NUM_IMAGES:,} images in {NUM_CLUSTERS:,} clusters",
                "extrapolated_from_share": share,
                "machine": f"{os.cpu_count()} cores, one used, load {os.getloadavg()[0]:.1f}",
            }
        )
    )


if __name__ == "__main__":
    main()
