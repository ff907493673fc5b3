"""The loop over epochs that every stage shares: go on from a saved state, train, report, offer what is to be saved.

A saved state is {"epoch": epochs done, "metrics": those of the last one, and the state of each part by its name}.
"""

import copy
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..interfaces import Epoch, Runtime, State


class Stateful(Protocol):
    """A part of a stage that lasts from epoch to epoch, and so is saved with each."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


class Values(dict[str, Any]):
    """Plain values and tensors that last from epoch to epoch, as a part of a saved state."""

    def state_dict(self) -> dict[str, Any]:
        return dict(self)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.update(state_dict)


class Best:
    """The best epoch so far, as a part of a saved state.

    epoch: its number, counted from 1; 0 before the first. value: what it was chosen by. facts: plain values of it.
    """

    def __init__(self, model: nn.Module | None, value: float) -> None:
        """model: whose weights are copied with an epoch that is kept; None copies none. value: to be improved on."""
        self._model = model
        self._weights: dict[str, Any] = {}
        self.value = value
        self.epoch = 0
        self.facts: dict[str, Any] = {}

    def keep(self, epoch: int, value: float, **facts: Any) -> None:
        """Take the present state of the model for the best one. epoch: its number, counted from 1."""
        self.epoch, self.value, self.facts = epoch, value, facts
        if self._model is not None:
            self._weights = copy.deepcopy(self._model.state_dict())

    def restore(self) -> None:
        """Put the kept weights back into the model, if there is one."""
        if self._model is not None:
            self._model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "value": self.value, "facts": self.facts, "weights": self._weights}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.epoch, self.value = state_dict["epoch"], state_dict["value"]
        self.facts, self._weights = state_dict["facts"], state_dict["weights"]


def epochs(
    num_epochs: int,
    runtime: Runtime,
    parts: Mapping[str, Stateful],
    run: Callable[[int], Mapping[str, float]],
    *,
    lr_of: Callable[[int], float] | None = None,
    stop: Callable[[int], bool] | None = None,
) -> Generator[Epoch, None, dict[str, float]]:
    """Train epoch after epoch, from the state that the runtime has saved or from the beginning.

    Args:
        num_epochs: epochs in all, those of a saved state included.
        parts: what is saved with an epoch and loaded again, by name; no name is "epoch" or "metrics".
        run: trains an epoch, counted from 0, and gives its metrics.
        lr_of: the learning rate of an epoch, which every group of parts["optimizer"] gets and the metrics report.
        stop: asked before each epoch, with the number of epochs done, whether training ends here.

    Returns:
        The last epoch's metrics, with its epoch_seconds and, where ``lr_of`` is given, its lr.
    """
    saved, first, metrics = runtime.resume(), 0, {}
    if saved is not None:
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        first, metrics = saved["epoch"], dict(saved["metrics"])
    for epoch in range(first, num_epochs):
        if stop is not None and stop(epoch):
            break
        started, rate = time.perf_counter(), {}
        if lr_of is not None:
            rate = {"lr": lr_of(epoch)}
            set_lr(parts["optimizer"], rate["lr"])
        metrics = {**run(epoch), **rate, "epoch_seconds": time.perf_counter() - started}

        def state(number: int = epoch + 1, reported: dict[str, float] = metrics) -> State:
            return {"epoch": number, "metrics": reported} | {name: part.state_dict() for name, part in parts.items()}

        yield Epoch(epoch + 1, num_epochs, metrics, state)
    return metrics


def set_lr(optimizer: Any, lr: float) -> None:
    """Give every group of an optimizer this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def step(loss: Tensor, *optimizers: torch.optim.Optimizer) -> None:
    """One step down the gradient of ``loss`` (a scalar) with each optimizer."""
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
