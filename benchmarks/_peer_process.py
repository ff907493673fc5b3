"""A peer's DEC or IDEC on the images of a file; started by ``peers`` with the Python of the peer's own environment.

    python _peer_process.py NAME FILE.npz EPOCHS CLUSTERING_EPOCHS THREADS SEED

NAME: DEC or IDEC. The file has values (N, D) float32 in [0, 1]. Prints one line of JSON: seconds, clusters.
"""

import json
import sys
import time

import numpy as np
import torch
from clustpy import deep
from clustpy.deep.neural_networks import FeedforwardAutoencoder


def main(  # noqa: PLR0913 - the command line's
    name: str, file: str, epochs: int, clustering_epochs: int, threads: int, seed: int
) -> None:
    torch.set_num_threads(threads)
    with np.load(file, allow_pickle=False) as arrays:
        values_ND = arrays["values"]
    torch.manual_seed(seed)
    network = FeedforwardAutoencoder(layers=[values_ND.shape[1], 500, 500, 2000, 10], activation_fn=torch.nn.ReLU)
    started = time.perf_counter()
    model = getattr(deep, name)(
        n_clusters=10,
        batch_size=256,
        pretrain_optimizer_params={"lr": 1e-3},
        clustering_optimizer_params={"lr": 1e-4},
        pretrain_epochs=epochs,
        clustering_epochs=clustering_epochs,
        neural_network=network,
        initial_clustering_params={"n_init": 20},
        device=torch.device("cpu"),
        random_state=seed,
    )
    model.fit(values_ND)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "clusters": np.asarray(model.dec_labels_).astype(int).tolist()}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:7]))
