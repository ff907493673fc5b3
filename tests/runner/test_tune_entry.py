"""What a warm process makes of a trial that fails: its reason goes out, and the next trial runs as ever."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from platform.ledger.outcomes import status
from platform.ledger.rows import FAILED, Trial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainables.data import datasets
from trainables.interfaces import Epoch
from trainables.runner import pipeline_runner, tune_entry
from trainables.runner.messages import Done, Failed, Outcome, Report
from trainables.runner.pipeline_runner import PipelineRunner
from trainables.runner.runtime import SingleProcess
from trainables.runner.tune_entry import Reporter, run_and_report
from trainables.stages import kmeans
from trainables.vector_search.faiss_search import FaissSearch


@pytest.fixture
def trial_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A k-means of a few digits, in a process whose runner needs no Ray."""
    dataset = {"name": "digits", "train_limit": 60, "eval_limit": 30}
    monkeypatch.setitem(
        tune_entry._runners, str(tmp_path), PipelineRunner(str(tmp_path), SingleProcess(), FaissSearch(1))
    )
    return {
        "kind": "trial",
        "method": "kmeans",
        "pretext": "",
        "changes": {"pretext.augmentation": "affine", "pretext.batch_size": 30, "pretext.epochs": 1},
        "dataset": dataset,
        "fingerprint": datasets.load(datasets.Spec(**dataset)).fingerprint,
        "seed": 0,
        "until": "",
        "storage": str(tmp_path),
        "threads": 1,
    }


def outcome_of(trial_spec: Any) -> Outcome | None:
    sent: list[Report] = []
    run_and_report(trial_spec, Reporter(sent.append))
    return sent[-1].outcome


def failed(error: str) -> Trial:
    return Trial("a", "trial", 0, 0, FAILED, {}, 1, {}, {}, [], error, None, None, None, None)


ERRORS = {
    "the device's": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    "Python's": MemoryError(),
    "the host's, in torch's words": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_want_of_memory_fails_one_trial_gives_it_back_and_spares_the_next(
    trial_spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    # With max_failures=-1 Tune tries such a trial again and again, in the same process, with the memory still held.
    held: list[weakref.ref[torch.Tensor]] = []

    def greedy(*_: Any) -> Iterator[Epoch]:
        rows_ND = torch.ones(1000, 100)
        held.append(weakref.ref(rows_ND))
        raise ERRORS[kind]
        yield

    with monkeypatch.context() as patch:
        patch.setattr(kmeans, "train", greedy)
        outcome = outcome_of(trial_spec)
    assert isinstance(outcome, Failed)
    assert status(failed(outcome.error)) == "oom"
    ERRORS[kind].__traceback__ = None  # kept alive by this test alone
    gc.collect()
    assert held[0]() is None
    assert isinstance(outcome_of(trial_spec), Done)


def test_a_process_at_its_memory_limit_raises_what_is_taken_for_want_of_memory() -> None:
    code = (
        "import resource, torch\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({16 << 30}, {16 << 30}))\n"
        "torch.ones(8 << 30)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert status(failed(done.stderr.strip().splitlines()[-1])) == "oom"


def test_a_trial_whose_time_is_kept_says_when_it_begins(
    trial_spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_runner.PipelineRunner, "walk", lambda *_: (_ for _ in ()).throw(RuntimeError("no")))
    sent: list[Report] = []
    run_and_report({**trial_spec, "time_limit_s": 5.0}, Reporter(sent.append))
    assert sent[0] == Report()
    assert len(sent) == 2
    sent.clear()
    run_and_report(trial_spec, Reporter(sent.append))
    assert len(sent) == 1


@pytest.mark.parametrize(("every_s", "sizes"), [(0.0, [1, 1, 1, 0]), (60.0, [1, 2])])
def test_short_epochs_travel_together(every_s: float, sizes: list[int]) -> None:
    sent: list[Report] = []
    reporter = Reporter(sent.append, every_s=every_s)  # what comes first goes at once
    for number in (1, 2, 3):
        reporter.epoch("scan", Epoch(number, 3, {"loss": 0.5}, dict))
    reporter.flush(failed_by := Failed("no"))
    assert [len(each.epochs) for each in sent] == sizes
    assert [epoch.epoch for each in sent for epoch in each.epochs] == [1, 2, 3]
    assert [each.outcome for each in sent] == [None] * (len(sizes) - 1) + [failed_by]


def test_epochs_of_the_watched_slot_travel_at_once() -> None:
    sent: list[Report] = []
    reporter = Reporter(sent.append, watched_slot="scan", every_s=1e9)
    for slot in ("pretext", "pretext", "scan", "scan"):
        reporter.epoch(slot, Epoch(1, 2, {}, dict))
    assert [len(each.epochs) for each in sent] == [3, 1]


@pytest.mark.parametrize(
    ("given", "usable", "share", "expected", "limits"),
    [
        ([], True, 0.0, "cpu", []),
        ([], False, 0.0, "cpu", []),
        ([3], True, 1.0, "cuda", []),
        (["a-name"], True, 1.0, "cuda", []),
        ([0], True, 0.25, "cuda", [0.25]),  # of the memory too: others are on this GPU
    ],
)
def test_the_device_is_what_ray_gave(  # noqa: PLR0913
    monkeypatch: pytest.MonkeyPatch,
    given: list[object],
    usable: bool,
    share: float,
    expected: str,
    limits: list[float],
) -> None:
    context, limited = SimpleNamespace(get_assigned_resources=lambda: {"CPU": 1.0, "GPU": share}), list[float]()
    monkeypatch.setattr(tune_entry.ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limited.append)
    monkeypatch.setattr(tune_entry.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(tune_entry.ray, "get_gpu_ids", lambda: given)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: usable)
    assert tune_entry.given_device().type == expected
    tune_entry.keep_to_share(tune_entry.given_device())
    assert limited == limits


@pytest.mark.parametrize(("built", "words"), [("13.0", "torch is built for CUDA 13.0"), (None, "built without CUDA")])
def test_a_gpu_that_torch_cannot_use_fails_the_trial_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, built: str | None, words: str
) -> None:
    monkeypatch.setattr(tune_entry.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(tune_entry.ray, "get_gpu_ids", lambda: [0])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built)
    with pytest.raises(tune_entry.NoUsableGpu, match=f"Ray gave GPU 0 to this trial, but .*{words}.* wheel"):
        tune_entry.given_device()
