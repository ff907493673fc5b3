"""bfloat16 forward passes: what they change, and what stays float32."""

from typing import NamedTuple

import pytest
import torch
import torch._dynamo as dynamo
from torch import Tensor, nn
from torch._dynamo.utils import counters

from trainables.nets import precision
from trainables.runner import runtime

BF16 = precision.ComputeConfig(precision="bf16")


class Pair(NamedTuple):
    first_B2: Tensor
    rest: dict[str, list[Tensor]]


class Nested(nn.Module):
    """A network that returns more than a tensor, and tells the format it computed in."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.inner_dtype = torch.float64

    def forward(self, rows_B3: Tensor) -> Pair:
        out_B2 = self.layer(rows_B3)
        self.inner_dtype = out_B2.dtype
        return Pair(out_B2, {"again": [out_B2, rows_B3.long()]})


class Layers(nn.Sequential):
    """A network for a compiler."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))


def test_a_bf16_pass_computes_in_bfloat16_and_hands_out_float32() -> None:
    network = Nested()
    found = runtime.local().prepare(network, BF16)(torch.randn(4, 3))
    assert network.inner_dtype == torch.bfloat16
    assert isinstance(found, Pair)
    assert found.first_B2.dtype == torch.float32
    assert [each.dtype for each in found.rest["again"]] == [torch.float32, torch.int64]


def test_weights_and_their_gradients_stay_float32() -> None:
    network = Nested()
    rows_B3 = torch.randn(64, 3)
    runtime.local().prepare(network, BF16)(rows_B3).first_B2.square().mean().backward()
    weight = network.layer.weight
    assert weight.dtype == torch.float32
    assert weight.grad is not None
    found = weight.grad.clone()
    assert found.dtype == torch.float32
    weight.grad = None
    network(rows_B3).first_B2.square().mean().backward()
    assert found == pytest.approx(weight.grad, rel=0.05, abs=0.02)
    assert not torch.equal(found, weight.grad)


@pytest.mark.parametrize("asked", ["auto", "float32"])
def test_on_a_cpu_the_network_stays_as_it_is_unless_bf16_is_asked_for(asked: str) -> None:
    network = Nested()
    assert precision.applied(network, precision.ComputeConfig(precision=asked), torch.device("cpu")) is network


# Compiled


@pytest.mark.skipif(not precision.has_compiler(), reason="needs a C++ compiler")
@pytest.mark.parametrize("asked", ["float32", "bf16"])
def test_a_compiled_pass_gives_the_same_gradients_and_is_compiled_once_for_all_trials(asked: str) -> None:
    dynamo.reset()
    counters.clear()
    rows_B3 = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    plain, how = precision.ComputeConfig(precision=asked), precision.ComputeConfig(precision=asked, compiled=True)
    for seed in range(3):  # as many trials, each with a network of its own
        torch.manual_seed(seed)
        network = Layers()
        gradients = []
        for settings in (plain, how):
            network.zero_grad()
            runtime.local().prepare(network, settings)(rows_B3).square().mean().backward()
            gradients.append([weight.grad.clone() for weight in network.parameters() if weight.grad is not None])
        for expected, found in zip(*gradients, strict=True):
            assert found.dtype == torch.float32
            torch.testing.assert_close(
                found, expected, rtol=0.05 if asked == "bf16" else 1e-5, atol=1e-2 if asked == "bf16" else 1e-6
            )
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.skipif(not precision.has_compiler(), reason="needs a C++ compiler")
@pytest.mark.parametrize(("graphs", "mode"), [(False, None), (True, "reduce-overhead")])
def test_cuda_graphs_are_asked_of_the_compiler(monkeypatch: pytest.MonkeyPatch, graphs: bool, mode: str | None) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr(torch, "compile", lambda module, mode: asked.append(mode) or module)
    runtime.local().prepare(Layers(), precision.ComputeConfig(compiled=True, cuda_graphs=graphs))
    runtime.local().prepare(Layers(), precision.ComputeConfig(cuda_graphs=graphs))
    assert asked == [mode]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_pass_replayed_as_cuda_graphs_gives_the_same_gradients() -> None:
    rows_B3 = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)).cuda()
    network, gradients = Layers().cuda(), []
    for settings in (precision.ComputeConfig(), precision.ComputeConfig(compiled=True, cuda_graphs=True)):
        prepared = runtime.local().prepare(network, settings)
        for _ in range(4):  # recorded at the second pass, replayed from the third on
            network.zero_grad()
            prepared(rows_B3).square().mean().backward()
        gradients.append([weight.grad.clone() for weight in network.parameters() if weight.grad is not None])
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_without_a_compiler_it_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(RuntimeError, match="install g\\+\\+, or set it to false"):
        runtime.local().prepare(Layers(), precision.ComputeConfig(compiled=True))
    assert isinstance(runtime.local().prepare(Layers(), precision.ComputeConfig()), Layers)


def test_graphs_with_several_workers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "DistributedDataParallel", nn.Linear)
    graphs = precision.ComputeConfig(compiled=True, cuda_graphs=True)
    with pytest.raises(ValueError, match="cuda_graphs: true is for one worker"):
        precision.applied(nn.Linear(2, 2), graphs, torch.device("cpu"))


@pytest.mark.parametrize("has_units", [False, True])
def test_auto_takes_bf16_only_where_a_gpu_has_units_for_it(monkeypatch: pytest.MonkeyPatch, has_units: bool) -> None:
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or has_units
    )
    assert precision.is_bf16("auto", torch.device("cuda")) == has_units
