"""What a process keeps from one trial to the next holds nothing of the GPU."""

from pathlib import Path

import pytest
import torch

from tests.pretend_gpu.counts import Counts
from trainables.interfaces import Result
from trainables.store.artifacts import Store
from trainables.vector_search.service import SharedSearch


def test_a_result_that_was_computed_here_is_kept_in_memory_as_if_it_had_been_read(gpu: Counts, tmp_path: Path) -> None:
    layer = torch.nn.Linear(3, 2).to("cuda")
    assert next(layer.parameters()).device.type == "cuda"
    store = Store(tmp_path)
    store.put("scan-0", Result(weights={"backbone": {**layer.state_dict(), "step": 7}}), {}, [])
    kept, read = store.get("scan-0"), Store(tmp_path).get("scan-0")
    assert kept is not None and read is not None
    assert kept.weights["backbone"]["step"] == 7
    for name in ("weight", "bias"):
        assert kept.weights["backbone"][name].device.type == "cpu"
        assert torch.equal(kept.weights["backbone"][name], read.weights["backbone"][name])


def test_memory_that_a_trial_only_keeps_for_later_is_free_before_a_search(
    gpu: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append("freed"))
    search = SharedSearch.__new__(SharedSearch)
    monkeypatch.setattr(search, "_ask_once", lambda *asked: [*freed, "asked"], raising=False)
    assert search._ask("key", "knn", (), ()) == ["freed", "asked"]
