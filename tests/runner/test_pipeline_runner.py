"""One trial through its stages, on 120 real digits: warm or cold, interrupted or not, the numbers are the same."""

import functools
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from trainables import pipeline, registry
from trainables.data import datasets
from trainables.figures import clusters
from trainables.interfaces import Epoch, Result
from trainables.runner import pipeline_runner
from trainables.runner.guards import Collapsed
from trainables.runner.messages import Done, StageRecord
from trainables.runner.pipeline_runner import DataChanged, Diverged, PipelineRunner, addresses
from trainables.runner.runtime import SingleProcess, local
from trainables.stages import knn_probe, scan, spc
from trainables.store import artifacts, manifest
from trainables.store.progress import ProgressFile
from trainables.vector_search.faiss_search import FaissSearch

DATASET = {"name": "digits", "train_limit": 120, "eval_limit": 60}
CHANGES = {
    "pretext.augmentation": "affine",
    "pretext.batch_size": 60,
    "pretext.epochs": 3,
    "neighbors.num_neighbors": 8,
    "scan.num_neighbors": 5,
    "scan.augmentation": "affine",
    "scan.batch_size": 60,
    "scan.optimizer.lr": 0.001,
    "scan.epochs": 3,
}
SELFLABEL = {
    "selflabel.augmentation": "affine",
    "selflabel.batch_size": 60,
    "selflabel.confidence_threshold": 0.12,
    "selflabel.epochs": 3,
}
SPC = {
    "spc.strong_threshold": 0.2,
    "spc.graph_neighbors": 5,
    "spc.top_fraction_per_class": 0.03,
    "spc.strong_augmentation": "affine",
    "spc.weak_augmentation": "affine",
    "spc.batch_size": 30,
    "spc.epochs": 3,
}
OWN = {"scan": SELFLABEL, "spc": SPC}


@functools.cache
def fingerprint() -> str:
    return datasets.load(datasets.Spec(**DATASET)).fingerprint  # type: ignore[arg-type]


def trial_spec(storage: Path, method: str = "spc", seed: int = 0, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "kind": "trial",
        "method": method,
        "pretext": "",
        "changes": {**CHANGES, **OWN[method]},
        "dataset": DATASET,
        "fingerprint": fingerprint(),
        "seed": seed,
        "until": "",
        "storage": str(storage),
        "threads": 1,
    }
    changes = more.pop("changes", {})
    return {**made, **more, "changes": {**made["changes"], **changes}}


def runner(storage: Path) -> PipelineRunner:
    return PipelineRunner(str(storage), SingleProcess(torch.device("cpu")), FaissSearch(1))


def silent(slot: str, epoch: Epoch) -> None:
    """Nobody listens."""


def timeless(found: Any) -> dict[str, float]:
    return {key: value for key, value in found.items() if "seconds" not in key}


def digests(storage: Path, outcome: Done) -> dict[str, str]:
    """sha256 of every array and weight that the stages of a trial left behind."""
    found = {}
    for record in outcome.stages:
        result = artifacts.Store(storage).get(record.result_name)
        assert result is not None
        for name, array in result.arrays.items():
            found[f"{record.slot}/{name}"] = hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
        for part, weights in result.weights.items():
            for name, value in weights.items():
                content = value.contiguous().numpy().tobytes()
                found[f"{record.slot}/{part}/{name}"] = hashlib.sha256(content).hexdigest()
    return found


@dataclass(frozen=True)
class Walked:
    """An undisturbed walk: the folder it left, what came of it, and the epochs that were heard."""

    storage: Path
    outcome: Done
    epochs: list[tuple[str, int, dict[str, float]]]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Walked]:
    @functools.cache
    def walked(method: str) -> Walked:
        storage = tmp_path_factory.mktemp(method)
        heard: list[tuple[str, int, dict[str, float]]] = []
        outcome = runner(storage).walk(
            trial_spec(storage, method), lambda slot, epoch: heard.append((slot, epoch.number, timeless(epoch.metrics)))
        )
        return Walked(storage, outcome, heard)

    return walked


def copied(done: Walked, storage: Path, *without: str) -> Path:
    """The storage of a walk with the results of some slots taken out."""
    shutil.copytree(done.storage, storage, dirs_exist_ok=True)
    for record in done.outcome.stages:
        if record.slot in without:
            shutil.rmtree(storage / "stages" / record.result_name)
    return storage


# The same numbers


COLD = """
import json, sys, torch
from dataclasses import asdict
torch.set_num_threads(1)
from trainables.runner.pipeline_runner import PipelineRunner
from trainables.runner.runtime import SingleProcess
from trainables.vector_search.faiss_search import FaissSearch
trial_spec = json.loads(sys.argv[1])
runner = PipelineRunner(trial_spec["storage"], SingleProcess(torch.device("cpu")), FaissSearch(1))
done = runner.walk(trial_spec, lambda slot, epoch: None)
print(json.dumps(asdict(done)))
"""


@pytest.mark.parametrize("method", ["scan", "spc"])
def test_a_cold_process_and_a_warm_walker_give_the_same_bits(
    undisturbed: Callable[[str], Walked], tmp_path: Path, method: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COLD, json.dumps(trial_spec(tmp_path / "cold", method))],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    fields = json.loads(done.stdout)
    cold = Done(fields["metrics"], [StageRecord(**record) for record in fields["stages"]], fields["seconds"])
    warm = runner(tmp_path / "warm")
    warm.walk(trial_spec(tmp_path / "warm", method, seed=5, until="neighbors"), silent)
    outcome = warm.walk(trial_spec(tmp_path / "warm", method), silent)
    alone = undisturbed(method)
    assert timeless(cold.metrics) == timeless(outcome.metrics) == timeless(alone.outcome.metrics)
    assert digests(tmp_path / "cold", cold) == digests(tmp_path / "warm", outcome)
    assert digests(tmp_path / "cold", cold) == digests(alone.storage, alone.outcome)


def test_another_seed_gives_other_numbers(undisturbed: Callable[[str], Walked], tmp_path: Path) -> None:
    outcome = runner(tmp_path).walk(trial_spec(tmp_path, "scan", seed=1, until="pretext"), silent)
    same = {record.slot: record for record in undisturbed("scan").outcome.stages}
    assert outcome.stages[0].address != same["pretext"].address
    assert outcome.metrics["pretext/loss"] != undisturbed("scan").outcome.metrics["pretext/loss"]


class Killed(BaseException):
    """What a kill is to the walk: it comes from outside and nobody catches it."""


@pytest.mark.parametrize(
    ("method", "slot"), [("scan", "pretext"), ("scan", "scan"), ("scan", "selflabel"), ("spc", "spc")]
)
@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_stage_killed_after_any_epoch_goes_on_to_the_same_bits(
    undisturbed: Callable[[str], Walked],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    slot: str,
    after: int,
) -> None:
    monkeypatch.setattr("trainables.store.progress._SAVE_SHARE", float("inf"))
    alone = undisturbed(method)
    copied(alone, tmp_path, slot)

    def kill(at: str, epoch: Epoch) -> None:
        if (at, epoch.number) == (slot, after):
            raise Killed

    with pytest.raises(Killed):
        runner(tmp_path).walk(trial_spec(tmp_path, method), kill)
    heard: list[tuple[str, int, dict[str, float]]] = []
    outcome = runner(tmp_path).walk(
        trial_spec(tmp_path, method), lambda at, epoch: heard.append((at, epoch.number, timeless(epoch.metrics)))
    )
    assert heard == [each for each in alone.epochs if each[0] == slot and each[1] > after]
    assert timeless(outcome.metrics) == timeless(alone.outcome.metrics)
    assert digests(tmp_path, outcome) == digests(alone.storage, alone.outcome)


def test_a_resumed_stage_keeps_the_epochs_before_the_kill_in_its_history(
    undisturbed: Callable[[str], Walked], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.store.progress._SAVE_SHARE", float("inf"))
    alone = undisturbed("scan")
    copied(alone, tmp_path, "selflabel")

    def kill(slot: str, epoch: Epoch) -> None:
        if epoch.number == 2:
            raise Killed

    with pytest.raises(Killed):
        runner(tmp_path).walk(trial_spec(tmp_path, "scan"), kill)
    runner(tmp_path).walk(trial_spec(tmp_path, "scan"), silent)
    record = alone.outcome.stages[-1]
    name = record.result_name
    rows = [timeless(row) for row in artifacts.Store(tmp_path).epochs(name)]
    assert rows == [timeless(row) for row in artifacts.Store(alone.storage).epochs(name)]
    assert [row["epoch"] for row in rows] == [1, 2, 3]


# Computed once


def test_the_first_walk_computes_every_stage(undisturbed: Callable[[str], Walked]) -> None:
    records = undisturbed("spc").outcome.stages
    assert [(record.slot, record.cached) for record in records] == [
        ("pretext", False),
        ("neighbors", False),
        ("kmeans", False),
        ("scan", False),
        ("spc", False),
    ]


def test_a_second_walk_computes_nothing_and_gives_the_same_metrics(undisturbed: Callable[[str], Walked]) -> None:
    alone = undisturbed("spc")
    heard: list[str] = []
    again = runner(alone.storage).walk(trial_spec(alone.storage), lambda slot, epoch: heard.append(slot))
    assert heard == []
    assert all(record.cached for record in again.stages)
    assert again.metrics == alone.outcome.metrics


def test_a_setting_of_the_last_stage_leaves_the_others_cached(
    undisturbed: Callable[[str], Walked], tmp_path: Path
) -> None:
    copied(undisturbed("spc"), tmp_path)
    outcome = runner(tmp_path).walk(trial_spec(tmp_path, changes={"spc.epochs": 1}), silent)
    assert [record.cached for record in outcome.stages] == [True, True, True, True, False]


def test_a_stage_with_nothing_to_go_on_with_ends_its_trial_and_the_stages_before_keep_their_numbers(
    undisturbed: Callable[[str], Walked], tmp_path: Path
) -> None:
    whole = undisturbed("scan")
    copied(whole, tmp_path)
    unsure = trial_spec(tmp_path, "scan", changes={"selflabel.confidence_threshold": 0.999999})
    with pytest.raises(Collapsed, match="selflabel: self-labeling epoch 1: no image is confident") as end:
        runner(tmp_path).walk(unsure, silent)
    before = {name: value for name, value in whole.outcome.metrics.items() if name.startswith(("kmeans/", "scan/"))}
    assert before and before.items() <= end.value.metrics.items()
    assert not any(name.startswith("selflabel/") or "/" not in name for name in end.value.metrics)


def test_a_metric_that_ranks_without_a_stage_is_the_last_stage_s(
    undisturbed: Callable[[str], Walked], tmp_path: Path
) -> None:
    copied(undisturbed("spc"), tmp_path)
    for method, last in (("spc", "spc"), ("spc until scan", "scan"), ("spc until kmeans", "kmeans")):
        spec = {**trial_spec(tmp_path), "method": method, "objectives": ["selection_loss"]}
        slots = pipeline.stages(method)
        spec["changes"] = {key: value for key, value in spec["changes"].items() if key.partition(".")[0] in slots}
        metrics = runner(tmp_path).walk(spec, silent).metrics
        assert metrics.get("selection_loss") == metrics.get(f"{last}/selection_loss")
        assert metrics["acc"] == metrics[f"{last}/acc"]


def test_two_methods_share_the_stages_they_have_in_common(tmp_path: Path) -> None:
    first, second = (addresses(trial_spec(tmp_path, method)) for method in ("scan", "spc"))
    assert {slot for slot in first if first[slot] == second.get(slot)} == {"pretext", "neighbors", "kmeans", "scan"}


def test_a_setting_that_does_not_count_changes_no_address(tmp_path: Path) -> None:
    # Adam has no momentum.
    assert addresses(trial_spec(tmp_path, changes={"scan.optimizer.momentum": 0.5})) == addresses(trial_spec(tmp_path))


def test_a_setting_changes_its_stage_s_address_and_those_after_it(tmp_path: Path) -> None:
    first, second = (
        addresses(trial_spec(tmp_path)),
        addresses(trial_spec(tmp_path, changes={"scan.optimizer.lr": 0.002})),
    )
    assert {slot for slot in first if first[slot] != second[slot]} == {"scan", "spc"}


def test_where_the_data_lies_and_how_many_threads_change_no_address(tmp_path: Path) -> None:
    moved = trial_spec(tmp_path / "other", dataset={**DATASET, "root": "elsewhere"}, threads=7)
    assert addresses(moved) == addresses(trial_spec(tmp_path))


def test_until_ends_the_walk_at_that_slot(undisturbed: Callable[[str], Walked]) -> None:
    alone = undisturbed("spc")
    outcome = runner(alone.storage).walk(trial_spec(alone.storage, until="neighbors"), silent)
    assert [record.slot for record in outcome.stages] == ["pretext", "neighbors"]


# What comes of it


def test_metrics_carry_their_slot_and_the_last_stage_s_label_metrics_stand_bare_too(
    undisturbed: Callable[[str], Walked],
) -> None:
    found = undisturbed("spc").outcome.metrics
    assert {"pretext/loss", "neighbors/purity_5", "scan/selection_loss", "spc/acc"} <= set(found)
    assert found["acc"] == found["spc/acc"]
    assert {key for key in found if "/" not in key} >= {"acc", "nmi", "ari"}
    assert "selection_loss" not in found


def test_a_clustering_leaves_its_figures(undisturbed: Callable[[str], Walked]) -> None:
    alone = undisturbed("spc")
    record = alone.outcome.stages[-1]
    drawn = alone.storage / "stages" / record.result_name / "figures"
    assert {path.name for path in drawn.iterdir()} == {
        "clusters.png",
        "cluster_sizes.png",
        "least_confident.png",
        "confusion.png",
        "epochs.png",
        "prototypes.png",
    }


def test_a_figure_that_cannot_be_drawn_costs_itself_alone_and_is_noted(
    undisturbed: Callable[[str], Walked], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("no font")

    copied(undisturbed("spc"), tmp_path, "spc")
    monkeypatch.setattr(clusters, "cluster_sheet", fail)
    outcome = runner(tmp_path).walk(trial_spec(tmp_path), silent)
    assert timeless(outcome.metrics) == timeless(undisturbed("spc").outcome.metrics)
    record = outcome.stages[-1]
    name = f"{record.name}-{record.address}"
    assert record.notes == (f"{name}: the figure clusters was not drawn: RuntimeError('no font')",)
    drawn = {path.stem for path in (tmp_path / "stages" / name / "figures").iterdir()}
    assert drawn == {"cluster_sizes", "least_confident", "confusion", "epochs", "prototypes"}
    captions = artifacts.Store(tmp_path).meta(name)["captions"]
    assert set(captions) == drawn
    assert captions["confusion"] == "Which clusters the images of each class went to"


def of_other_code(storage: Path, name: str, **changes: Any) -> None:
    """Make a stored result one of another text of its stage's file."""
    folder = storage / "stages" / name
    meta = manifest.read(folder)
    (folder / manifest.FILE).write_bytes(manifest.to_bytes(folder, {**meta, "code": "0" * 16, **changes}))


def test_a_result_of_other_code_with_the_same_version_is_noted(
    undisturbed: Callable[[str], Walked], tmp_path: Path
) -> None:
    alone = undisturbed("spc")
    copied(alone, tmp_path)
    record = next(each for each in alone.outcome.stages if each.slot == "scan")
    name = f"{record.name}-{record.address}"
    of_other_code(tmp_path, name)
    outcome = runner(tmp_path).walk(trial_spec(tmp_path), silent)
    notes = [note for each in outcome.stages for note in each.notes]
    version = scan.VERSION
    assert notes == [
        f"{name} was computed by other text of trainables/stages/scan.py with the same VERSION {version}; raise "
        "VERSION if its numbers changed"
    ]
    assert all(each.cached for each in outcome.stages)
    assert not any(each.notes for each in alone.outcome.stages)


def test_a_result_of_other_code_without_the_objective_is_computed_again(
    undisturbed: Callable[[str], Walked], tmp_path: Path
) -> None:
    alone = undisturbed("spc")
    copied(alone, tmp_path)
    record = alone.outcome.stages[-1]
    name = f"{record.name}-{record.address}"
    kept = json.loads((tmp_path / "stages" / name / "meta.json").read_text())["metrics"]
    kept.pop("strong_fraction")
    of_other_code(tmp_path, name, metrics=kept)
    own = trial_spec(tmp_path, objectives=["spc/strong_fraction"])
    outcome = runner(tmp_path).walk(own, silent)
    assert [each.cached for each in outcome.stages] == [True, True, True, True, False]
    assert outcome.metrics["spc/strong_fraction"] == alone.outcome.metrics["spc/strong_fraction"]
    assert all(each.cached and not each.notes for each in runner(tmp_path).walk(own, silent).stages)


def test_a_trial_without_the_metric_that_it_is_ranked_by_is_not_done(
    undisturbed: Callable[[str], Walked], tmp_path: Path
) -> None:
    copied(undisturbed("spc"), tmp_path)
    with pytest.raises(pipeline_runner.Unranked, match="spc did not report an_unsure_fraction with these settings"):
        runner(tmp_path).walk(trial_spec(tmp_path, objectives=["spc/an_unsure_fraction"]), silent)


def test_a_metric_that_is_not_in_metrics_is_refused_in_a_sentence(
    undisturbed: Callable[[str], Walked], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(undisturbed("spc"), tmp_path, "spc")
    monkeypatch.setattr(spc, "METRICS", tuple(name for name in spc.METRICS if name != "loss_mixed"))
    with pytest.raises(
        registry.BrokenStage, match=r"stages/spc.py reports loss_mixed, not in its METRICS; add it there"
    ):
        runner(tmp_path).walk(trial_spec(tmp_path), silent)


def test_a_damaged_result_is_computed_again_to_the_same_bits(
    undisturbed: Callable[[str], Walked], tmp_path: Path
) -> None:
    alone = undisturbed("spc")
    copied(alone, tmp_path)
    record = next(each for each in alone.outcome.stages if each.slot == "scan")
    file = tmp_path / "stages" / record.result_name / "weights.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.warns(UserWarning, match="set aside"):
        outcome = runner(tmp_path).walk(trial_spec(tmp_path), silent)
    assert [each.slot for each in outcome.stages if not each.cached] == ["scan"]
    assert digests(tmp_path, outcome) == digests(alone.storage, alone.outcome)


# Refusals


@dataclass(frozen=True)
class NoSettings:
    """The Config of a stage without settings."""


def fake_stage(*epochs: dict[str, float], final: dict[str, float]) -> SimpleNamespace:
    def train(config: Any, data: Any, inputs: Any, runtime: Any) -> Generator[Epoch, None, Result]:
        for number, found in enumerate(epochs, 1):
            yield Epoch(number, len(epochs), found, lambda: {})
        return Result(metrics=final)

    named = tuple({name for each in (*epochs, final) for name in each})
    return SimpleNamespace(
        train=train, INPUTS=(), VERSION=1, METRICS=named, CRITERION=None, __name__="trainables.stages.fake"
    )


def walk_fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stage: Any) -> None:
    monkeypatch.setattr(pipeline_runner.pipeline, "stages", lambda method, pretext, probes=(): {"fake": stage})
    monkeypatch.setattr(
        pipeline_runner.pipeline, "configs", lambda method, pretext, changes, probes=(): {"fake": NoSettings()}
    )
    runner(tmp_path).walk(trial_spec(tmp_path), silent)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_metric_that_is_no_number_stops_the_trial_with_slot_and_epoch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: float
) -> None:
    stage = fake_stage({"loss": 1.0}, {"loss": value}, final={})
    with pytest.raises(Diverged, match=f"fake: loss is {value} in epoch 2; look at the data"):
        walk_fake(monkeypatch, tmp_path, stage)


def test_an_epoch_that_diverged_is_never_saved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("trainables.store.progress._SAVE_SHARE", float("inf"))
    with pytest.raises(Diverged):
        walk_fake(monkeypatch, tmp_path, fake_stage({"loss": 1.0}, {"loss": float("nan")}, final={}))
    store = artifacts.Store(tmp_path)
    (name,) = [path.name for path in (store.root / ".progress").iterdir()]
    saved = ProgressFile(store, name).load()
    assert saved is not None and list(saved.epochs) == [{"epoch": 1, "loss": 1.0}]


def test_a_final_metric_that_is_no_number_leaves_no_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="fake: mean_confidence is nan"):
        walk_fake(monkeypatch, tmp_path, fake_stage(final={"mean_confidence": float("nan")}))
    assert not list((tmp_path / "stages").glob("fake-*"))


def test_a_learning_rate_that_is_far_too_high_is_reported_as_divergence(tmp_path: Path) -> None:
    with pytest.raises(
        Diverged, match=r"pretext: loss is nan in epoch \d; lower pretext.optimizer.lr or look at the data"
    ):
        runner(tmp_path).walk(trial_spec(tmp_path, until="pretext", changes={"pretext.optimizer.lr": 1e30}), silent)


def test_a_pretext_that_collapsed_to_zeros_is_reported_as_divergence(
    undisturbed: Callable[[str], Walked], tmp_path: Path
) -> None:
    alone = undisturbed("scan")
    copied(alone, tmp_path, "neighbors")
    store = artifacts.Store(tmp_path)
    name = alone.outcome.stages[0].result_name
    known = store.get(name)
    assert known is not None and known.arrays
    zeros = {key: np.zeros_like(array) for key, array in known.arrays.items()}
    store.discard(name)
    store.put(name, replace(known, arrays=zeros), {}, [])
    with pytest.raises(
        Diverged,
        match=r"^neighbors: the features of \d+ images are all zeros, so the network of pretext has collapsed; "
        "lower its learning rate, or look at the data$",
    ):
        runner(tmp_path).walk(trial_spec(tmp_path, "scan", until="neighbors"), silent)


def test_a_model_that_diverges_within_an_epoch_is_reported_with_slot_and_epoch(
    undisturbed: Callable[[str], Walked], tmp_path: Path
) -> None:
    copied(undisturbed("spc"), tmp_path)
    text = (
        r"spc: the model's predictions are not finite numbers in epoch \d; lower spc.optimizer.lr or look at the data"
    )
    with pytest.raises(Diverged, match=text):
        runner(tmp_path).walk(trial_spec(tmp_path, changes={"spc.optimizer.lr": 1e30}), silent)


def test_other_data_than_the_driver_checked_is_refused(tmp_path: Path) -> None:
    text = (
        f"data set digits: this worker reads fingerprint {fingerprint()[:12]}, the sweep was started on 0123456789ab; "
        "give every node the same dataset.root"
    )
    with pytest.raises(DataChanged, match=text):
        runner(tmp_path).walk(trial_spec(tmp_path, fingerprint="0123456789abcdef"), silent)


def test_a_rank_that_does_not_find_what_rank_0_found_asks_for_the_storage(tmp_path: Path) -> None:
    class Second(SingleProcess):
        def share(self, value: Any) -> Any:
            return True

    second = PipelineRunner(str(tmp_path), Second(torch.device("cpu"), rank=1, world_size=2), FaissSearch(1))
    with pytest.raises(RuntimeError, match=r"rank 0 found stage result simclr-\w+, rank 1 does not: is the storage"):
        second.walk(trial_spec(tmp_path), silent)


# Probes


PROBE = {"linear_probe.batch_size": 60, "linear_probe.epochs": 2, "knn_probe.num_neighbors": 5}


def test_probes_change_no_address_of_the_stages_before_them(tmp_path: Path) -> None:
    plain = addresses(trial_spec(tmp_path, "spc"))
    probed = addresses(trial_spec(tmp_path, "spc", probes=["linear_probe", "knn_probe"], changes=PROBE))
    assert {slot: probed[slot] for slot in plain} == plain
    assert list(probed)[len(plain) :] == ["linear_probe", "knn_probe"]


def test_a_cell_without_the_key_is_one_without_probes(tmp_path: Path) -> None:
    assert addresses(trial_spec(tmp_path, "scan", probes=[])) == addresses(trial_spec(tmp_path, "scan"))


def test_a_probe_is_computed_on_what_was_there_and_leaves_the_method_s_numbers_alone(
    undisturbed: Callable[[str], Walked], tmp_path: Path
) -> None:
    alone = undisturbed("scan")
    storage = copied(alone, tmp_path)
    more = {"probes": ["linear_probe", "knn_probe"], "changes": PROBE}
    outcome = runner(storage).walk(trial_spec(storage, "scan", **more), silent)
    assert [record.slot for record in outcome.stages if not record.cached] == ["linear_probe", "knn_probe"]
    assert 0 <= outcome.metrics["linear_probe/conv1_acc"] <= 1 and 0 <= outcome.metrics["knn_probe/knn_acc"] <= 1
    bare = {key: value for key, value in outcome.metrics.items() if "/" not in key}
    assert bare == {key: value for key, value in alone.outcome.metrics.items() if "/" not in key}
    probe = next(record for record in outcome.stages if record.slot == "linear_probe")
    figures = storage / "stages" / probe.result_name / "figures"
    assert [path.name for path in figures.iterdir()] == ["accuracy_by_layer.png"]


def test_another_setting_of_a_probe_computes_that_probe_alone(tmp_path: Path) -> None:
    first = addresses(trial_spec(tmp_path, "scan", probes=["linear_probe", "knn_probe"], changes=PROBE))
    changes = {**PROBE, "linear_probe.optimizer.lr": 0.5}
    second = addresses(trial_spec(tmp_path, "scan", probes=["linear_probe", "knn_probe"], changes=changes))
    assert {slot for slot in first if first[slot] != second[slot]} == {"linear_probe"}


DIGITS_OTHERWISE = {**DATASET, "train_limit": 90, "protocol": "split"}


def transferred(storage: Path, **more: Any) -> dict[str, Any]:
    """A cell whose probes learn and judge on other images than the method."""
    fingerprint = datasets.load(datasets.Spec(**DIGITS_OTHERWISE)).fingerprint  # type: ignore[arg-type]
    probing = {"probe_dataset": DIGITS_OTHERWISE, "probe_fingerprint": fingerprint}
    return trial_spec(storage, "scan", probes=["linear_probe", "knn_probe"], changes=PROBE, **probing, **more)


def test_the_probes_data_set_is_in_their_addresses_alone(tmp_path: Path) -> None:
    own = addresses(trial_spec(tmp_path, "scan", probes=["linear_probe", "knn_probe"], changes=PROBE))
    other = addresses(transferred(tmp_path))
    assert {slot for slot in own if own[slot] != other[slot]} == {"linear_probe", "knn_probe"}


def test_probes_judge_on_a_data_set_of_their_own(tmp_path: Path) -> None:
    walking = runner(tmp_path)
    own = walking.walk(trial_spec(tmp_path, "scan", probes=["linear_probe", "knn_probe"], changes=PROBE), silent)
    other = walking.walk(transferred(tmp_path), silent)
    assert {record.slot for record in other.stages if not record.cached} == {"linear_probe", "knn_probe"}
    assert own.metrics["linear_probe/loss"] != other.metrics["linear_probe/loss"]
    assert own.metrics["scan/acc"] == other.metrics["scan/acc"]
    # By hand: the probe alone, on the backbone that the method left behind.
    stages = {record.slot: record.result_name for record in other.stages}
    probed = walking.store.get(stages["selflabel"])
    data = datasets.load(datasets.Spec(**DIGITS_OTHERWISE))  # type: ignore[arg-type]
    steps = knn_probe.train(knn_probe.Config(num_neighbors=5), data, {"probed": probed}, local())
    with pytest.raises(StopIteration) as ended:
        next(steps)
    assert ended.value.value.metrics["knn_acc"] == other.metrics["knn_probe/knn_acc"]


def test_other_data_of_the_probes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataChanged, match="0123456789ab"):
        runner(tmp_path).walk({**transferred(tmp_path), "probe_fingerprint": "0123456789abcdef"}, silent)
