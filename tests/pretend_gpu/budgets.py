"""What one training step of each stage costs on the pretend GPU: operations it launches, waits of the host.

Networks are ResNet-18 and views are made for as many steps at once as with the stage's own batch of 32 px images; the
images are few and small, on which these numbers do not depend.

Run: python -m tests.pretend_gpu.budgets [--places CASE]    (from the root; writes budgets.yaml anew, or shows where)
"""

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch.nn import functional

from tests.pretend_gpu import autograd_context
from tests.pretend_gpu.counts import Counts
from tests.pretend_gpu.device import on
from tests.pretend_gpu.trained import CPU, CUDA, train
from trainables import pipeline, settings
from trainables.data import view_batches
from trainables.interfaces import ImageData, Result, Split
from trainables.nets import backbones
from trainables.settings import Plain

FILE = Path(__file__).with_name("budgets.yaml")
NETWORK, SIZE_PX, CLUSTERS, BATCH, LONGEST = "resnet18_cifar", 8, 4, 4, 16
REAL_SIZE_PX = 32
HEAD = """\
# Operations and waits of one training step on the pretend GPU, see budgets.py, which writes this file.
# A test fails where a step takes a tenth more operations, or where the host waits more than once and oftener than here.
# DeepCluster and UAD read back the features of each batch before they cluster, which is counted as theirs.
"""


@dataclass(frozen=True)
class Step:
    """A stage whose step is counted.

    batch: of its defaults, in images. at_once: steps whose views are made together there. changes: its settings.
    """

    stage: str
    batch: int
    at_once: int = 1
    changes: Mapping[str, Plain] = field(default_factory=dict)


_NET: Mapping[str, Plain] = {"network": NETWORK}
_SCAN: Mapping[str, Plain] = {"num_neighbors": 3}
_CONFIDENT: Mapping[str, Plain] = {"confidence_threshold": 0.05}
_SWAV: Mapping[str, Plain] = {**_NET, "num_prototypes": 12, "queue_length": 8, "queue_start_epoch": 0, "hidden_dim": 16}
_CENTERS: Mapping[str, Plain] = {**_NET, "num_clusters": 6, "clustering.pca_dim": 8}
_AN: Mapping[str, Plain] = {"an.mode": "both"}
STEPS: Mapping[str, Step] = {
    "simclr": Step("simclr", 512, changes=_NET),
    "moco": Step("moco", 256, 2, {**_NET, "queue_size": 16, "bn_splits": 2}),
    "rotnet": Step("rotnet", 128, 8, _NET),
    "instdisc": Step("instdisc", 128, 8, {**_NET, "negatives": 8}),
    "cc": Step("cc", 256, 2, _NET),
    "autoencoder": Step("autoencoder", 256, 4, {"widths": "64-64"}),
    "scan": Step("scan", 128, 4, _SCAN),
    "scan, 10 heads": Step("scan", 128, 4, {**_SCAN, "num_heads": 10}),
    "scan, AN": Step("scan", 128, 4, {**_SCAN, **_AN}),
    "selflabel": Step("selflabel", 1000, changes=_CONFIDENT),
    "selflabel, EMA": Step("selflabel", 1000, changes={**_CONFIDENT, "ema_mode": "overwrite"}),
    "swav": Step("swav", 256, changes=_SWAV),
    "simgcd": Step("simgcd", 128, changes={"hidden_dim": 16, "feature_dim": 8, "augmentation": "simclr"}),
    "deepcluster": Step("deepcluster", 256, changes=_CENTERS),
    "uad": Step("uad", 256, changes=_CENTERS),
    "dec": Step("dec", 256, 4, {"target_update_interval": 1000}),
    "dccm": Step("dccm", 32, changes={"outer_batch": 16, "inner_batch": BATCH, "inner_repeats": 1}),
    "linear_probe": Step("linear_probe", 256, changes={"ten_crops": False}),
    "mlp_probe": Step("mlp_probe", 256),
    "finetune_probe": Step("finetune_probe", 256),
}


def measured(step: Step, counts_of_places: Counts | None = None) -> tuple[float, float]:
    """Operations and waits of one step: what a longer epoch takes more than a shorter one.

    counts_of_places: also takes what the longer one did, by place.
    """
    few = max(2, step.at_once) if step.stage != "dccm" else 4
    short, long = (_counted(step, num, counts_of_places) for num in (few, 2 * few))
    steps = long[2] - short[2]
    return (long[0] - short[0]) / steps, (long[1] - short[1]) / steps


def _counted(step: Step, num_steps: int, places: Counts | None) -> tuple[int, int, int]:
    """(operations, waits, steps of optimizers) of an epoch."""
    stage, data = pipeline.load(step.stage), _data(num_steps * BATCH)
    changes = {"epochs": 1, **({"batch_size": BATCH} if step.stage != "dccm" else {}), **step.changes}
    config = settings.build(stage.Config, changes)
    known = _before(num_steps * BATCH, step.stage == "dec")
    before, view_batches.TOGETHER_VALUES = view_batches.TOGETHER_VALUES, _together(step)
    try:
        with on() as counts:
            counts.with_places = places is not None
            on_gpu = data.to(CUDA)
            counts.clear()
            train(stage, config, on_gpu, {slot: known[slot] for slot in stage.INPUTS}, CUDA)
            if places is not None:
                places.operations, places.waits = Counter(counts.operations), Counter(counts.waits)
            waits = sum(num for (why, place), num in counts.waits.items() if _idles(why, place))
            return counts.num_operations, waits, counts.steps
    finally:
        view_batches.TOGETHER_VALUES = before


def _idles(why: str, place: str) -> bool:
    """Whether a wait leaves the device without work in each step.

    Constants are sent once in a process, by whichever stage is first; behind an event the device has been given more.
    """
    return why != "an event" and not place.startswith("data/constants.py")


def _together(step: Step) -> int:
    return view_batches.TOGETHER_VALUES * BATCH * SIZE_PX**2 // (step.batch * REAL_SIZE_PX**2)


@cache
def _data(num: int) -> ImageData:
    seeded = torch.Generator().manual_seed(0)

    def split(num: int) -> Split:
        images_NCHW = torch.randint(0, 256, (num, 3, SIZE_PX, SIZE_PX), generator=seeded, dtype=torch.uint8)
        return Split(images_NCHW, torch.arange(num) % CLUSTERS)

    names = tuple("abcd"[:CLUSTERS])
    return ImageData("noise", split(num), split(16), names, (0.5,) * 3, (0.25,) * 3, "noise")


@cache
def _before(num: int, coded: bool) -> Mapping[str, Result]:
    """What stages read: untrained, since numbers of operations do not depend on values."""
    seeded = torch.Generator().manual_seed(0)

    def neighbors(num: int) -> Any:
        own_N1 = torch.arange(num)[:, None]
        return torch.cat([own_N1, (own_N1 + torch.arange(1, 4)) % num], dim=1).numpy()

    def probabilities(num: int) -> Any:
        sure_NC = functional.one_hot(torch.arange(num) % CLUSTERS, CLUSTERS).float()
        return ((sure_NC + 0.02) / (1 + 0.02 * CLUSTERS)).numpy()

    net = backbones.build(NETWORK, in_channels=3, image_size_px=SIZE_PX, seed=3)
    weights = {"backbone": net.state_dict()}
    rows = {name: functional.normalize(torch.randn(size, net.width, generator=seeded)) for name, size in
            (("train", num), ("eval", 16))}  # fmt: skip
    features = {f"{space}_{part}": np.asarray(rows[part]) for space in ("head", "backbone") for part in rows}
    pretext = Result(weights=weights, facts={"network": NETWORK, "mining_space": "head"}, arrays=features)
    if coded:
        stage = pipeline.load("autoencoder")
        small = settings.build(stage.Config, {"widths": "64-64", "batch_size": BATCH, "epochs": 1})
        pretext = train(stage, small, _data(num), {}, CPU).result
    head = {"weight": torch.randn(CLUSTERS, net.width, generator=seeded) / 8, "bias": torch.zeros(CLUSTERS)}
    near = {"neighbors_train": neighbors(num), "neighbors_eval": neighbors(16)}
    sure = {"probabilities_train": probabilities(num), "probabilities_eval": probabilities(16)}
    facts = {"network": NETWORK, "num_clusters": CLUSTERS}
    scan = Result(weights={**weights, "head": head}, arrays=sure, facts=facts)
    return {"pretext": pretext, "probed": pretext, "neighbors": Result(arrays=near), "scan": scan}


def written() -> Mapping[str, Mapping[str, float]]:
    """What is kept in the file, by name of the step."""
    steps: Mapping[str, Mapping[str, float]] = yaml.safe_load(FILE.read_text())
    return steps


def _show(name: str) -> None:
    counts = Counts()
    operations, waits = measured(STEPS[name], counts)
    print(f"{name}: {operations:.1f} operations, {waits:.2f} waits a step; of a whole run:")
    for (what, place), number in [*counts.waits.most_common(15), *counts.operations.most_common(60)]:
        print(f"{number:6d}  {what}  {place}")


def main() -> None:
    autograd_context.replace()
    if sys.argv[1:2] == ["--places"]:
        _show(sys.argv[2])
        return
    lines = []
    for name, step in STEPS.items():
        operations, waits = measured(step)
        lines.append(f"{name}: {{operations: {round(operations)}, waits: {waits:.2g}}}")
        print(lines[-1], flush=True)
    FILE.write_text(HEAD + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
