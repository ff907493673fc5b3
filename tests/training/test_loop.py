"""The loop over epochs, on a model of one number: what it reports, saves, goes on from, and when it ends."""

import copy
from collections.abc import Generator, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from trainables.interfaces import Epoch, State
from trainables.runner.runtime import SingleProcess, StageRuntime
from trainables.training import loop
from trainables.vector_search.faiss_search import FaissSearch

CPU = torch.device("cpu")


def runtime(saved: State | None = None) -> StageRuntime:
    return StageRuntime(SingleProcess(CPU), "test", 0, FaissSearch(1), saved)


def drained(steps: Generator[Epoch, None, dict[str, float]]) -> tuple[list[Epoch], dict[str, float]]:
    """What was yielded, each state as it was then, and what was returned."""
    epochs: list[Epoch] = []

    def passed() -> Iterator[Epoch]:
        last.update((yield from steps))

    last: dict[str, float] = {}
    for epoch in passed():
        state = copy.deepcopy(epoch.state())
        epochs.append(Epoch(epoch.number, epoch.total, epoch.metrics, lambda state=state: state))  # type: ignore[misc]
    return epochs, last


class Training:
    """Each epoch adds its number to a weight that starts at 1."""

    def __init__(self, saved: State | None = None, **more: Any) -> None:
        self.model = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.model.weight)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=9.0)
        self.rates: list[float] = []
        parts = {"model": self.model, "optimizer": self.optimizer}
        self.epochs, self.last = drained(loop.epochs(3, runtime(saved), parts, self.run, **more))

    def run(self, epoch: int) -> dict[str, float]:
        with torch.no_grad():
            self.model.weight += epoch
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        return {"weight": self.model.weight.item()}


def test_epochs_are_numbered_from_one_and_the_last_metrics_come_back() -> None:
    # 1 + 0, 1 + 0 + 1, 1 + 0 + 1 + 2
    done = Training()
    assert [(epoch.number, epoch.total, epoch.metrics["weight"]) for epoch in done.epochs] == [
        (1, 3, 1.0),
        (2, 3, 2.0),
        (3, 3, 4.0),
    ]
    assert done.last == done.epochs[-1].metrics and done.last["epoch_seconds"] >= 0
    assert "lr" not in done.last and done.rates == [9.0] * 3


def test_a_rate_is_set_before_its_epoch_and_reported() -> None:
    done = Training(lr_of=lambda epoch: 1.0 / (epoch + 1))
    assert done.rates == [1.0, 1 / 2, 1 / 3]
    assert [epoch.metrics["lr"] for epoch in done.epochs] == done.rates


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_saved_state_is_gone_on_from(after: int) -> None:
    whole = Training()
    rest = Training(whole.epochs[after - 1].state())
    assert [epoch.number for epoch in rest.epochs] == [1, 2, 3][after:]
    assert float(rest.model.weight.detach()) == 4.0 and rest.last["weight"] == whole.last["weight"]


def test_a_state_holds_what_torch_opens_without_trust(tmp_path: Any) -> None:
    best, values = loop.Best(nn.Linear(1, 1), float("inf")), loop.Values(steps=3, rows=torch.ones(2))
    best.keep(1, 0.5, head=2)
    (epoch, *_), _ = drained(loop.epochs(1, runtime(), {"best": best, "values": values}, lambda _: {"loss": 1.0}))
    torch.save(dict(epoch.state()), tmp_path / "state.pt")
    opened = torch.load(tmp_path / "state.pt", weights_only=True)
    assert (opened["epoch"], opened["metrics"]["loss"], opened["values"]["steps"]) == (1, 1.0, 3)
    again = loop.Best(nn.Linear(1, 1), float("inf"))
    again.load_state_dict(opened["best"])
    assert (again.epoch, again.value, again.facts) == (1, 0.5, {"head": 2})


def test_it_ends_where_it_is_told_to_before_the_next_epoch() -> None:
    assert [epoch.number for epoch in Training(stop=lambda done: done == 2).epochs] == [1, 2]
    assert Training(stop=lambda done: True).epochs == []


def test_the_best_model_is_a_copy_and_comes_back() -> None:
    model = nn.Linear(1, 1, bias=False)
    best = loop.Best(model, float("inf"))
    nn.init.constant_(model.weight, 2.0)
    best.keep(4, 0.1)
    nn.init.constant_(model.weight, 3.0)
    best.restore()
    assert float(model.weight.detach()) == 2.0 and (best.epoch, best.value) == (4, 0.1)


def test_without_a_model_the_best_epoch_has_no_weights() -> None:
    best = loop.Best(None, -1.0)
    best.keep(2, 0.3, metrics={"acc": 0.5})
    best.restore()
    assert best.state_dict() == {"epoch": 2, "value": 0.3, "facts": {"metrics": {"acc": 0.5}}, "weights": {}}


def test_a_step_forgets_the_gradient_of_the_step_before_it() -> None:
    # d/dw of 3 w is 3 at each step: 1 - 0.1 * 3 - 0.1 * 3
    weight = nn.Parameter(torch.ones(()))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for _ in range(2):
        loop.step(3 * weight, optimizer)
    assert weight.item() == pytest.approx(0.4)


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("drop_last", [True, False])
def test_the_ranks_batches_are_one_order_drawn_for_epoch_and_purpose(world_size: int, drop_last: bool) -> None:
    def order(epoch: int, purpose: str) -> list[int]:
        ranks = [
            list(
                StageRuntime(SingleProcess(CPU, rank, world_size), "test", 0, FaissSearch(1)).batches(
                    26, 8, epoch, purpose=purpose, drop_last=drop_last
                )
            )
            for rank in range(world_size)
        ]
        return [row for parts in zip(*ranks, strict=True) for part in parts for row in part.rows_B.tolist()]

    expected = torch.randperm(26, generator=runtime().generator("order", 1)).tolist()
    # What is left over are two rows, too few for two ranks: a rank has at least two.
    count = 26 if not drop_last and world_size == 1 else 24
    assert order(1, "order") == expected[:count]
    assert order(1, "other") != order(1, "order") != order(2, "order")
