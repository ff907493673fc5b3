"""An actor whose GPU cannot be used, or has no room, computes on the CPU and says so; no sweep stops for it."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from trainables.vector_search import search_actor
from trainables.vector_search.faiss_search import FaissSearch
from trainables.vector_search.search_actor import SearchActor

ROOT = Path(__file__).resolve().parents[2]
POINTS_ND = np.random.default_rng(0).standard_normal((50, 8), dtype=np.float32)

OUT_OF_MEMORY = (
    "Error in virtual void* faiss::gpu::StandardGpuResourcesImpl::allocMemory(const AllocRequest&) at "
    "StandardGpuResources.cpp:599: Error: 'err == cudaSuccess' failed: StandardGpuResources: alloc fail type "
    "FlatData dev 0 space Device stream 0x1 size 5120000000 bytes (cudaMalloc error out of memory [2])"
)
NO_KERNEL = "CUDA error 209 no kernel image is available for execution on the device"


class OnGpu(FaissSearch):
    """FAISS on a GPU that fails as ``error`` says; on the CPU it is FAISS itself. calls: searches on the GPU."""

    error: Exception | None = None
    fails_from = 0
    calls = 0

    def __init__(self, threads: int, device: Any = "auto") -> None:
        super().__init__(threads, "cpu")
        self.gpu = device if isinstance(device, int) else None

    def knn(self, *arguments: Any, **named: Any) -> Any:
        if self.gpu is not None:
            OnGpu.calls += 1
            if OnGpu.error is not None and OnGpu.calls > OnGpu.fails_from:
                raise OnGpu.error
        gpu, self.gpu = self.gpu, None
        try:
            return super().knn(*arguments, **named)
        finally:
            self.gpu = gpu


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> type[OnGpu]:
    monkeypatch.setattr(search_actor, "FaissSearch", OnGpu)
    monkeypatch.setattr(OnGpu, "calls", 0)
    monkeypatch.setattr(OnGpu, "error", None)
    monkeypatch.setattr(OnGpu, "fails_from", 0)
    return OnGpu


def neighbors(actor: SearchActor, key: str = "a") -> Any:
    return actor.knn(key, 1, POINTS_ND, None, 3, "l2", False)[1]


def test_a_gpu_that_works_is_used_without_a_word(on_gpu: type[OnGpu]) -> None:
    actor = SearchActor(0)
    neighbors(actor)
    assert actor.ping() == "" and actor.stats()["gpu"] == 0
    assert on_gpu.calls == 2  # the trial of it, and the search


@pytest.mark.parametrize("error", [RuntimeError(NO_KERNEL), RuntimeError(OUT_OF_MEMORY), ValueError("below 0")])
def test_a_gpu_that_faiss_cannot_use_is_left_alone_with_a_word(on_gpu: type[OnGpu], error: Exception) -> None:
    on_gpu.error = error
    actor = SearchActor(0)
    assert np.array_equal(neighbors(actor), FaissSearch(1, "cpu").knn(POINTS_ND, None, 3, "l2")[1])
    assert actor.stats()["gpu"] is None
    assert actor.ping().startswith("FAISS cannot use GPU 0 of ") and actor.ping().endswith("on the CPU")


def test_a_lost_gpu_ends_the_actor_instead(on_gpu: type[OnGpu]) -> None:
    on_gpu.error = RuntimeError("CUDA error 700 an illegal memory access was encountered")
    with pytest.raises(RuntimeError, match="illegal memory access"):
        SearchActor(0)


def test_a_search_that_the_gpu_has_no_memory_for_is_computed_on_the_cpu(
    on_gpu: type[OnGpu], caplog: pytest.LogCaptureFixture
) -> None:
    actor = SearchActor(0)
    on_gpu.error, on_gpu.fails_from = RuntimeError(OUT_OF_MEMORY), 1
    with caplog.at_level(logging.WARNING):
        found = neighbors(actor)
    assert np.array_equal(found, FaissSearch(1, "cpu").knn(POINTS_ND, None, 3, "l2")[1])
    assert "The memory of GPU 0 is full; a search is computed on the CPU" in caplog.text
    on_gpu.error = None
    neighbors(actor, "b")
    assert on_gpu.calls == 3 and actor.stats()["gpu"] == 0  # the next one tries the GPU again


def test_another_error_of_the_gpu_reaches_the_caller(on_gpu: type[OnGpu]) -> None:
    actor = SearchActor(0)
    on_gpu.error, on_gpu.fails_from = RuntimeError("cublas failed"), 1
    with pytest.raises(RuntimeError, match="cublas failed"):
        neighbors(actor)


COUNTED = """
import warnings, numpy, ray
from trainables.vector_search.service import SharedSearch, start
ray.init(num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    service = start()
print([str(each.message) for each in said if "FAISS" in str(each.message)])
print([each["gpu"] for each in service.stats().values()])
print(SharedSearch(1).knn(numpy.eye(3, dtype="float32"), None, 1, "l2")[1].tolist())
"""


@pytest.mark.skipif(faiss.get_num_gpus() > 0, reason="FAISS sees a GPU here")
def test_a_gpu_that_ray_counts_and_faiss_does_not_see_stops_no_sweep() -> None:
    done = subprocess.run([sys.executable, "-c", COUNTED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    said, gpus, rows = done.stdout.splitlines()[-3:]
    assert said.count("FAISS cannot use GPU 0") == 1
    assert (gpus, rows) == ("[None]", "[[0], [1], [2]]")
