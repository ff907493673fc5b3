"""What alternating normalization changes in each base method: its corrected rows alone, and at what cost.

Every stage with the group ``an`` is found by its Config; a new one needs no entry here.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from trainables import pipeline, registry, settings
from trainables.interfaces import ImageData, Result
from trainables.maths import alternating_normalization as correction
from trainables.maths import scan_loss
from trainables.training import alternating_normalization, normalization_metrics
from trainables.training.alternating_normalization import AnConfig, Normalizer, Sizes

BASES = [name for name in registry.names() if "an" in settings.groups(pipeline.load(name).Config)]
SURE = {"an.mode": "correction", "an.renormalize": False, "an.entropy_threshold": 50.0}
"""No row over ten clusters has as many nats."""


def test_the_base_methods_are_found() -> None:
    assert {"dec", "scan", "selflabel", "spc", "swav", "simgcd"} <= set(BASES)


def done(
    train: Callable[..., Any], name: str, data: ImageData, finished: dict[str, Result], **changes: settings.Plain
) -> Any:
    stage: Any = pipeline.load(name)
    starts = {**finished, "pretext": finished["autoencoder"]} if name == "dec" else finished
    config = settings.build(stage.Config, {**stage.TINY, "epochs": 2, **changes})
    return train(stage, config, data, {slot: starts[slot] for slot in stage.INPUTS})


def plain(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith("an_")}


@pytest.mark.parametrize("name", BASES)
def test_without_an_unsure_row_the_bits_are_those_without_normalization(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result], name: str
) -> None:
    without, sure = done(train, name, data, finished), done(train, name, data, finished, **SURE)
    assert [plain(each) for each in sure.metrics] == [plain(each) for each in without.metrics]
    assert all(each["an_unsure_fraction"] == 0 for each in sure.metrics)
    for part, weights in without.result.weights.items():
        for key, value in weights.items():
            assert torch.equal(value, sure.result.weights[part][key]), (part, key)
    for array, values in without.result.arrays.items():
        np.testing.assert_array_equal(values, sure.result.arrays[array])


@pytest.mark.parametrize("name", BASES)
def test_by_default_the_asked_share_of_rows_is_unsure_at_the_start(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result], name: str
) -> None:
    first = done(train, name, data, finished, **{"an.mode": "correction", "an.unsure_share": 0.4}).metrics[0]
    if name == "spc" and first["an_threshold"] == pytest.approx(correction.SMALLEST_THRESHOLD):
        assert first["an_unsure_fraction"] == 0  # labels that were propagated to one cluster alone have no entropy
        return
    # Each batch is split at the mean of the quantiles so far, so the share is about the asked one.
    assert 0.1 < first["an_unsure_fraction"] < 0.9
    assert first["an_reference_fraction"] > 0
    assert first["an_threshold"] > 0


def test_a_whole_split_is_divided_at_its_own_quantile() -> None:
    draw = torch.Generator().manual_seed(0)
    rows_NC = (2 * torch.randn(1000, 5, generator=draw, dtype=torch.float64)).softmax(1)
    normalizer = Normalizer(AnConfig(mode="both", unsure_share=0.3), Sizes(5, 0, 100), torch.device("cpu"))
    normalizer.in_batches(rows_NC, torch.full((1000,), -1), 0, torch.arange(1000))
    assert normalizer.report()["an_unsure_fraction"] == pytest.approx(0.3, abs=2e-3)
    normalizer.in_batches(
        rows_NC**0.5 / (rows_NC**0.5).sum(1, keepdim=True), torch.full((1000,), -1), 1, torch.arange(1000)
    )
    assert normalizer.report()["an_unsure_fraction"] > 0.4  # the threshold stays, the rows are less sure


def test_a_row_that_is_corrected_has_no_gradient_and_every_other_one_keeps_its_own() -> None:
    draw = torch.Generator().manual_seed(0)
    logits_BC = (3 * torch.randn(40, 4, generator=draw)).requires_grad_()
    anchors_BC = torch.randn(40, 4, generator=draw)
    normalizer = Normalizer(AnConfig(mode="correction", unsure_share=0.3), Sizes(4, 0, 40), torch.device("cpu"))
    targets_BC, _ = normalizer.of_logits(logits_BC, torch.full((40,), -1), 0)
    (gradient_BC,) = torch.autograd.grad(scan_loss.neighbor_disagreement(anchors_BC, targets_BC).sum(), logits_BC)
    (own_BC,) = torch.autograd.grad(scan_loss.neighbor_disagreement(anchors_BC, logits_BC).sum(), logits_BC)
    corrected_B = (targets_BC != logits_BC).any(1)
    assert corrected_B.sum() == 12
    assert torch.equal(gradient_BC[~corrected_B], own_BC[~corrected_B])
    assert not gradient_BC[corrected_B].any() and own_BC[corrected_B].any(1).all()


def test_a_detached_neighbor_is_a_control_that_needs_no_normalization(
    train: Callable[..., Any], data: ImageData, finished: dict[str, Result]
) -> None:
    attached, detached, sure = (
        done(train, "scan", data, finished, **changes).metrics
        for changes in ({}, {"detach_neighbors": True}, {**SURE, "detach_neighbors": True})
    )
    assert detached[0]["loss"] != attached[0]["loss"]
    assert [plain(each) for each in sure] == [plain(each) for each in detached]


class Operations(TorchDispatchMode):
    """Counts the operations that reach the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def counted(num_heads: int, empty: str) -> int:
    config = AnConfig(mode="both", class_prior="running", empty_reference=empty)  # type: ignore[arg-type]
    normalizer = Normalizer(config, Sizes(10, 10, 128, num_heads), torch.device("cpu"))
    logits_HBC = 3 * torch.randn(num_heads, 128, 10, generator=torch.Generator().manual_seed(0))
    with Operations() as operations:
        normalizer.of_logits(logits_HBC, torch.arange(128) % 10, 0)
    return operations.count


@pytest.mark.parametrize("empty", ["skip", "identity", "queue"])
def test_ten_heads_cost_as_many_operations_as_two(empty: str) -> None:
    assert counted(10, empty) == counted(2, empty) < 250


def test_heads_side_by_side_are_normalized_as_each_one_is_alone() -> None:
    draw = torch.Generator().manual_seed(0)
    batches = [3 * torch.randn(3, 64, 5, generator=draw) for _ in range(3)]
    labels_B, config = torch.arange(64) % 5, AnConfig(mode="both", class_prior="running", empty_reference="queue")
    together = Normalizer(config, Sizes(5, 5, 64, 3), torch.device("cpu"))
    alone = [Normalizer(config, Sizes(5, 5, 64), torch.device("cpu")) for _ in range(3)]
    for epoch, logits_HBC in enumerate(batches):
        targets_HBC, weights_HB = together.of_logits(logits_HBC, labels_B, epoch)
        for head, normalizer in enumerate(alone):
            own: tuple[Tensor, Tensor] = normalizer.of_logits(logits_HBC[head], labels_B, epoch)
            torch.testing.assert_close(targets_HBC[head], own[0], atol=1e-6, rtol=0)
            torch.testing.assert_close(weights_HB[head], own[1], atol=1e-6, rtol=0)
    for head, normalizer in enumerate(alone):
        assert together.report(head) == pytest.approx(normalizer.report())
        rows_NC = batches[0][head].softmax(-1)
        both = together.at_the_end(rows_NC, labels_B, head), normalizer.at_the_end(rows_NC, labels_B)
        np.testing.assert_allclose(both[0][0]["refined_eval"], both[1][0]["refined_eval"], atol=1e-6)
        assert both[0][1] == both[1][1] and set(both[0][1]) == {
            "an_acc_before",
            "an_acc_after",
            *normalization_metrics.OF_A_RUN,
        }


def test_what_lasts_is_saved_and_read_back() -> None:
    draw = torch.Generator().manual_seed(0)
    config = AnConfig(mode="both", class_prior="running", empty_reference="queue")
    one, other = (Normalizer(config, Sizes(5, 5, 64, 2), torch.device("cpu")) for _ in range(2))
    first, second = (3 * torch.randn(2, 64, 5, generator=draw) for _ in range(2))
    one.of_logits(first, torch.arange(64) % 5, 0)
    one.report()
    other.load_state_dict(one.state_dict())
    for normalizer in (one, other):
        normalizer.of_logits(second, torch.arange(64) % 5, 1)
    assert one.report(1) == other.report(1)
    assert alternating_normalization.METRICS[0] in one.report(1)
