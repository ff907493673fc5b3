"""The pretend GPU raises where CUDA raises, and counts what the host waits for."""

import copy
import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.pretend_gpu.counts import Counts

CUDA = torch.device("cuda")


def on_gpu() -> Tensor:
    return torch.zeros(4, 3, device=CUDA)


def put_into_cpu() -> None:
    torch.zeros(4)[torch.tensor([0])] = torch.zeros(1, device=CUDA)


REFUSED: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "sum of both": (lambda: on_gpu() + torch.ones(4, 3), RuntimeError, "same device"),
    "product of both": (lambda: on_gpu() @ torch.ones(3, 4), RuntimeError, "same device"),
    "both in one": (lambda: torch.cat([on_gpu(), torch.ones(4, 3)]), RuntimeError, "same device"),
    "chosen by a condition": (lambda: torch.where(on_gpu() > 0, on_gpu(), torch.ones(4, 3)), RuntimeError, "same dev"),
    "rows by the CPU": (lambda: on_gpu().index_select(0, torch.tensor([0])), RuntimeError, "same device"),
    "CPU indexed by the GPU": (
        lambda: torch.ones(4)[torch.zeros(2, dtype=torch.long, device=CUDA)],
        RuntimeError,
        "in",
    ),
    "written into the CPU": (put_into_cpu, RuntimeError, "same device"),
    "array": (lambda: on_gpu().numpy(), TypeError, "can't convert cuda"),
    "array by NumPy": (lambda: np.asarray(on_gpu()), TypeError, "can't convert cuda"),
    "generator of the CPU": (
        lambda: torch.randperm(4, generator=torch.Generator(), device=CUDA),
        RuntimeError,
        "device type for generator",
    ),
    "generator of the GPU": (
        lambda: torch.randperm(4, generator=torch.Generator("cuda")),
        RuntimeError,
        "device type for generator",
    ),
    "pinned": (lambda: on_gpu().pin_memory(), RuntimeError, "pin"),
    "network": (lambda: nn.Linear(3, 2).to(CUDA)(torch.ones(4, 3)), RuntimeError, "same device"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cuda_refuses_is_refused(gpu: Counts, name: str) -> None:
    call, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        call()


WAITS: dict[str, tuple[Callable[[Tensor], object], int]] = {
    "a value": (lambda x: float(x.sum()), 1),
    "a truth": (lambda x: bool((x > 0).any()), 1),
    "a list": (lambda x: x.tolist(), 1),
    "a copy": (lambda x: x.cpu(), 1),
    "a mask": (lambda x: x[x > 0], 1),
    "places": (lambda x: x.nonzero(), 1),
    "counts": (lambda x: torch.bincount(x.flatten().long()), 1),
    "a constant": (lambda x: torch.tensor([1.0, 2.0, 3.0], device=CUDA) + x, 1),
    "a constant like another": (lambda x: x.new_tensor([1.0, 2.0, 3.0]) + x, 1),
    "an index from the CPU": (lambda x: x[torch.tensor([0, 1])], 1),
    "a list as an index": (lambda x: x[[0, 1]], 1),
    "a mask with one value": (lambda x: x.masked_fill_(x > 0, 1), 0),
    "a choice": (lambda x: torch.where(x > 0, x, -x), 0),
    "a number": (lambda x: x + torch.tensor(1.0), 0),
    "random numbers": (lambda x: torch.rand(3, generator=torch.Generator("cuda"), device=CUDA), 0),
}


@pytest.mark.parametrize("name", WAITS)
def test_the_host_waits_for_values_and_sizes(gpu: Counts, name: str) -> None:
    call, expected = WAITS[name]
    images = on_gpu()
    gpu.clear()
    call(images)
    assert gpu.num_waits == expected, gpu.waits


def test_views_launch_nothing(gpu: Counts) -> None:
    rows = on_gpu()
    gpu.clear()
    rows.view(3, 4)[1:].T.unsqueeze(0).expand(2, -1, -1).detach()
    assert gpu.num_operations == 0
    rows.add_(1)
    assert gpu.num_operations == 1


def test_a_module_that_moves_keeps_its_parameters(gpu: Counts) -> None:
    model = nn.Linear(3, 2)
    weight, optimizer = model.weight, torch.optim.Adam(model.parameters(), fused=True)
    model.to(CUDA)
    assert model.weight is weight and weight.device.type == "cuda"
    with torch.autocast("cuda", torch.bfloat16):
        outputs = model(on_gpu())
    assert outputs.dtype == torch.bfloat16
    outputs.float().sum().backward()
    optimizer.step()
    assert weight.grad is not None and weight.grad.device.type == "cuda" and weight.grad.dtype == torch.float32
    assert gpu.steps == 1


def test_weights_are_copied_saved_and_loaded(gpu: Counts) -> None:
    model = nn.Linear(3, 2).to(CUDA)
    other = copy.deepcopy(model)
    assert other.weight is not model.weight and isinstance(other.weight, nn.Parameter)
    assert other.weight.device.type == "cuda"
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    state = torch.load(buffer, map_location="cpu", weights_only=True)
    assert state["weight"].device.type == "cpu"
    other.load_state_dict(state)
    assert other.weight.device.type == "cuda"


def test_nothing_is_left_of_it_afterwards() -> None:
    assert not torch.cuda.is_available()
    assert torch.zeros(2).numpy().tolist() == [0, 0]
