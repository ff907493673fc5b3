"""How fast methods train on the GPU: images a second, share of the peak, memory, with their usual settings."""

from collections.abc import Callable, Mapping

import torch

from trainables import pipeline
from trainables.data import synthetic
from trainables.data.datasets import Spec, load
from trainables.interfaces import ImageData
from trainables.runner import profiling
from trainables.runner.runtime import SingleProcess
from trainables.settings import Plain
from trainables.vector_search.faiss_search import FaissSearch

CUDA = torch.device("cuda")
MEASURED: Mapping[str, tuple[str, str, Mapping[str, Plain]]] = {
    "SimCLR, SCAN, self-labeling": ("scan", "", {}),
    "MoCo, SCAN with alternating normalization": ("scan_loss", "moco", {"scan.an.mode": "both"}),
    "SwAV": ("swav", "", {}),
    "DCCM": ("dccm", "", {}),
    "SimCLR, k-means": ("kmeans", "", {}),
}
"""Name -> method, pretext and settings beside the defaults, on random images of CIFAR-10's shape."""


def part(name: str, size: str) -> Callable[[], Mapping[str, str]]:
    """The measurement of one method. size: "usual", or "tiny" for the path alone."""

    def measured() -> Mapping[str, str]:
        method, pretext, changes = MEASURED[name]
        stages = pipeline.stages(method, pretext)
        if size == "tiny":
            tiny = {f"{slot}.{key}": value for slot, stage in stages.items() for key, value in stage.TINY.items()}
            changes = {**tiny, **changes}
        configs = pipeline.configs(method, pretext, dict(changes))
        data = profiling.some(_images(size), configs).to(CUDA)
        rows: dict[str, str] = {}
        peak = profiling.peak_flops_per_s(CUDA) if size == "usual" else 0.0
        for row in profiling.measure(stages, configs, data, SingleProcess(CUDA), FaissSearch(4)):
            if isinstance(row, profiling.Failed):
                raise ValueError(f"{row.stage}: {row.reason}")
            share = f", {row.flops_per_s / peak:.0%} of the peak" if peak and row.flops_per_s else ""
            memory = f"{row.peak_bytes / 2**30:.1f} GiB"
            rows[row.stage] = f"{row.images_per_s:,.0f} images/s{share}, {memory}" if size == "usual" else "ran"
        return rows

    return measured


def _images(size: str) -> ImageData:
    if size == "tiny":
        return load(Spec(name="digits", train_limit=120, eval_limit=60))
    shown = synthetic.instead(Spec(name="cifar10"))
    assert shown is not None
    return shown.images
