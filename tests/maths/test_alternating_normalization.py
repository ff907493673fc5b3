"""Refined assignments: the fast form against the algorithm word by word, golden numbers and every edge."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainables.maths import alternating_normalization
from trainables.maths.alternating_normalization import Options

GOLDEN = torch.tensor([[0.9, 0.08, 0.02], [0.85, 0.1, 0.05], [0.05, 0.9, 0.05], [0.4, 0.35, 0.25]], dtype=torch.float64)
TWO = Options(top_k=2)


def close(found: Tensor, wanted: list[float]) -> None:
    assert torch.allclose(found.double(), torch.tensor(wanted, dtype=torch.float64), atol=1e-6, rtol=0), found


def literally(rows_BC: Tensor, sure_B: Tensor, options: Options, prior_C: Tensor) -> Tensor:
    """The algorithm as it is written down: one table for each unsure row, column step and row step in turn."""
    out_BC = rows_BC.clone()
    reference_AC = rows_BC[sure_B]
    for row in (~sure_B).nonzero().flatten().tolist():
        table = torch.cat((reference_AC, rows_BC[row : row + 1]))
        original = table[:-1].clone()
        if not options.each_time:
            table = table**options.power
            original = table[:-1].clone()
        for _ in range(options.iterations):
            if options.each_time:
                table = table**options.power
            table = table / table.sum(0, keepdim=True) * prior_C
            table = table / table.sum(1, keepdim=True)
            if options.frozen:
                table = torch.cat((original, table[-1:]))
        out_BC[row] = table[-1]
    return out_BC


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    clusters=st.integers(2, 12),
    rows=st.integers(2, 20),
    power=st.sampled_from([0.5, 1.0, 1.7, 2.0]),
    iterations=st.integers(1, 5),
    each_time=st.booleans(),
    frozen=st.booleans(),
    uniform=st.booleans(),
)
def test_the_fast_form_is_the_algorithm_word_by_word(
    seed: int,
    clusters: int,
    rows: int,
    power: float,
    iterations: int,
    each_time: bool,
    frozen: bool,
    uniform: bool,
) -> None:
    draw = torch.Generator().manual_seed(seed)
    rows_BC = (2 * torch.randn(rows, clusters, generator=draw, dtype=torch.float64)).softmax(1)
    prior_C = torch.rand(clusters, generator=draw, dtype=torch.float64) + 0.1
    prior_C = torch.full_like(prior_C, 1 / clusters) if uniform else prior_C / prior_C.sum()
    options = Options(
        threshold=float(alternating_normalization.top_entropy(rows_BC, 3).median()) + 1e-9,
        power=power,
        iterations=iterations,
        each_time=each_time,
        frozen=frozen,
    )
    found = alternating_normalization.refine_assignments(rows_BC, options, prior_C)
    assert (~found.unsure_B).any()
    wanted = literally(rows_BC, ~found.unsure_B, options, prior_C)
    assert torch.allclose(found.targets_BC, wanted, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("each_time", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_logarithms_give_what_the_products_give(each_time: bool, frozen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    options = replace(TWO, power=1.5, each_time=each_time, frozen=frozen)
    fast = alternating_normalization.refine_assignments(GOLDEN, options).targets_BC
    monkeypatch.setattr(alternating_normalization, "_LARGEST_EXPONENT", 0.0)
    assert torch.allclose(
        alternating_normalization.refine_assignments(GOLDEN, options).targets_BC, fast, atol=1e-12, rtol=0
    )


def test_golden_entropies() -> None:
    close(alternating_normalization.top_entropy(GOLDEN, 2, renormalize=False), [0.296883, 0.368400, 0.244611, 0.733954])
    close(alternating_normalization.top_entropy(GOLDEN, 2), [0.407906, 0.485461, 0.297472, 0.996792])
    assert alternating_normalization.refine_assignments(GOLDEN, TWO).unsure_B.tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"iterations": 1}, [0.164952, 0.222051, 0.612997]),
        ({}, [0.109730, 0.220054, 0.670216]),
        ({"power": 0.5}, [0.221344, 0.284892, 0.493765]),
        ({"power": 0.5, "each_time": True}, [0.309069, 0.323398, 0.367533]),
        ({"power": 2.0}, [0.025467, 0.100478, 0.874054]),
        ({"frozen": True}, [0.039727, 0.122522, 0.837751]),
    ],
)
def test_golden_corrections(changes: dict[str, float], wanted: list[float]) -> None:
    found = alternating_normalization.refine_assignments(GOLDEN, replace(TWO, **changes))  # type: ignore[arg-type]
    close(found.targets_BC[3], wanted)
    assert torch.equal(found.targets_BC[:3], GOLDEN[:3])
    assert int(found.num_missing) == 1


def test_golden_correction_with_every_cluster_in_the_reference() -> None:
    more = torch.cat((GOLDEN[:3], torch.tensor([[0.03, 0.02, 0.95]], dtype=torch.float64), GOLDEN[3:]))
    found = alternating_normalization.refine_assignments(more, TWO)
    close(found.targets_BC[4], [0.216344, 0.406172, 0.377484])
    assert int(found.num_missing) == 0


def test_golden_importance() -> None:
    entropy_B = alternating_normalization.top_entropy(GOLDEN, 2)
    weights_B = alternating_normalization.importance(entropy_B)
    close(weights_B, [0.209290, 0.226167, 0.187408, 0.377136])
    targets_BC = alternating_normalization.refine_assignments(GOLDEN, TWO).targets_BC
    losses_B = -(targets_BC * GOLDEN.log()).sum(1)
    assert float((weights_B * losses_B).sum()) == pytest.approx(0.7450662, abs=1e-6)
    assert float(losses_B.mean()) == pytest.approx(0.6370965, abs=1e-6)


def test_a_high_temperature_weighs_all_rows_alike() -> None:
    close(alternating_normalization.importance(alternating_normalization.top_entropy(GOLDEN, 2), 1e9), [0.25] * 4)


def test_without_a_reference_nothing_changes_by_default() -> None:
    found = alternating_normalization.refine_assignments(GOLDEN[3:], TWO)
    assert torch.equal(found.targets_BC, GOLDEN[3:])
    assert found.unsure_B.all() and int(found.num_missing) == 3


def test_unit_vectors_stand_in_for_the_reference() -> None:
    found = alternating_normalization.refine_assignments(GOLDEN[3:], replace(TWO, empty="identity"))
    close(found.targets_BC[0], [0.361708, 0.343244, 0.295048])


def test_recent_sure_rows_stand_in_for_the_reference() -> None:
    options = replace(TWO, empty="queue")
    alone = alternating_normalization.refine_assignments(GOLDEN[3:], options, queue_QC=GOLDEN[:3]).targets_BC
    assert torch.allclose(
        alone, alternating_normalization.refine_assignments(GOLDEN, TWO).targets_BC[3:], atol=1e-12, rtol=0
    )
    assert torch.equal(
        alternating_normalization.refine_assignments(GOLDEN[3:], options, queue_QC=GOLDEN[:0]).targets_BC, GOLDEN[3:]
    )


@pytest.mark.parametrize("empty", ["identity", "queue"])
def test_stand_ins_are_unused_where_the_batch_has_sure_rows(empty: str) -> None:
    options = replace(TWO, empty=empty)  # type: ignore[arg-type]
    found = alternating_normalization.refine_assignments(GOLDEN, options, queue_QC=GOLDEN.flip(1))
    assert torch.equal(found.targets_BC, alternating_normalization.refine_assignments(GOLDEN, TWO).targets_BC)


def test_too_small_a_reference_is_none() -> None:
    found = alternating_normalization.refine_assignments(GOLDEN, replace(TWO, min_reference=4))
    assert torch.equal(found.targets_BC, GOLDEN)


def test_all_sure_rows_leave_as_they_came() -> None:
    found = alternating_normalization.refine_assignments(GOLDEN[:3], TWO)
    assert torch.equal(found.targets_BC, GOLDEN[:3]) and not found.unsure_B.any()


@pytest.mark.parametrize(("tie_is_unsure", "unsure"), [(True, True), (False, False)])
def test_a_row_at_the_threshold(tie_is_unsure: bool, unsure: bool) -> None:
    rows_BC = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
    exactly = float(alternating_normalization.top_entropy(rows_BC, 2))
    options = replace(TWO, threshold=exactly, tie_is_unsure=tie_is_unsure)
    assert bool(alternating_normalization.refine_assignments(rows_BC, options).unsure_B) is unsure


def test_more_places_than_clusters_take_them_all() -> None:
    assert torch.equal(
        alternating_normalization.top_entropy(GOLDEN, 9), alternating_normalization.top_entropy(GOLDEN, 3)
    )


def test_one_place_is_refused() -> None:
    with pytest.raises(ValueError, match="top_k must be at least 2, but is 1"):
        alternating_normalization.top_entropy(GOLDEN, 1)


def test_many_equal_clusters_look_sure_unless_renormalized() -> None:
    flat = torch.full((1, 100), 0.01, dtype=torch.float64)
    assert float(alternating_normalization.top_entropy(flat, 2, renormalize=False)) == pytest.approx(
        0.0921034, abs=1e-6
    )
    assert float(alternating_normalization.top_entropy(flat, 2)) == pytest.approx(1.0)


@pytest.mark.parametrize("power", [0.1, 1.0, 9.0, 50.0])
@pytest.mark.parametrize("each_time", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("empty", ["skip", "identity"])
def test_zeros_and_large_powers_give_rows_that_sum_to_one(
    power: float, each_time: bool, frozen: bool, empty: str
) -> None:
    rows = [[1, 0, 0, 0], [0, 1, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5], [0.34, 0.33, 0.33, 0], [0.25] * 4]
    rows_BC = torch.tensor(rows, dtype=torch.float64)
    options = Options(power=power, each_time=each_time, frozen=frozen, iterations=5, threshold=0.3, empty=empty)  # type: ignore[arg-type]
    for batch_BC in (rows_BC, rows_BC[2:], rows_BC[:2]):
        found = alternating_normalization.refine_assignments(batch_BC, options).targets_BC
        assert torch.allclose(found.sum(1), torch.ones(len(batch_BC), dtype=torch.float64), atol=1e-9)
        assert bool((found >= 0).all())


def test_the_order_of_the_rows_does_not_matter() -> None:
    order = torch.tensor([3, 1, 0, 2])
    found = alternating_normalization.refine_assignments(GOLDEN[order], TWO).targets_BC
    assert torch.allclose(
        found, alternating_normalization.refine_assignments(GOLDEN, TWO).targets_BC[order], atol=1e-12, rtol=0
    )


def test_one_unsure_row_does_not_see_another() -> None:
    twice = torch.cat((GOLDEN, torch.tensor([[0.2, 0.4, 0.4]], dtype=torch.float64)))
    found = alternating_normalization.refine_assignments(twice, TWO).targets_BC
    assert torch.allclose(
        found[3], alternating_normalization.refine_assignments(GOLDEN, TWO).targets_BC[3], atol=1e-12, rtol=0
    )


def test_targets_have_the_dtype_of_the_rows_and_no_gradient() -> None:
    rows_BC = GOLDEN.float().requires_grad_()
    found = alternating_normalization.refine_assignments(rows_BC, TWO).targets_BC
    assert found.dtype == torch.float32 and not found.requires_grad


def test_the_running_prior_is_a_mean_that_forgets() -> None:
    prior_C = alternating_normalization.next_prior(
        torch.tensor([0.5, 0.5]), torch.tensor([[1.0, 0.0], [1.0, 0.0]]), 0.9
    )
    close(prior_C, [0.55, 0.45])


def test_the_queue_keeps_the_latest_sure_rows() -> None:
    queue_QC = alternating_normalization.empty_queue(3)
    sure_B = torch.tensor([True, False, True, False])
    queue_QC = alternating_normalization.next_queue(queue_QC, GOLDEN, sure_B)
    assert len(queue_QC) == alternating_normalization.QUEUE_ROWS
    assert torch.equal(queue_QC[-2:], GOLDEN[[0, 2]])
    assert math.isclose(float(queue_QC.sum()), 2.0)
    full_QC = queue_QC
    for _ in range(alternating_normalization.QUEUE_ROWS):
        full_QC = alternating_normalization.next_queue(full_QC, GOLDEN[1:2], torch.tensor([True]))
    assert torch.equal(full_QC, GOLDEN[1:2].expand_as(full_QC))


@pytest.mark.parametrize("empty", ["skip", "identity", "queue"])
@pytest.mark.parametrize("power", [1.0, 20.0])
def test_batches_side_by_side_are_refined_as_each_one_is_alone(empty: str, power: float) -> None:
    draw = torch.Generator().manual_seed(0)
    rows_HBC = (2 * torch.randn(4, 12, 5, generator=draw, dtype=torch.float64)).softmax(-1)
    rows_HBC[3] = 0.2  # a batch without a sure row
    queue_HQC = alternating_normalization.empty_queue(5, 4)
    queue_HQC[:2, -3:] = rows_HBC[0, :3]
    options = Options(power=power, empty=empty, threshold=0.7)  # type: ignore[arg-type]
    prior_HC = torch.rand(4, 5, generator=draw, dtype=torch.float64).softmax(-1)
    together = alternating_normalization.refine_assignments(rows_HBC, options, prior_HC, queue_HQC)
    for head in range(4):
        alone = alternating_normalization.refine_assignments(rows_HBC[head], options, prior_HC[head], queue_HQC[head])
        assert torch.allclose(together.targets_BC[head], alone.targets_BC, atol=1e-12, rtol=0)
        for name in ("unsure_B", "corrected_B", "num_missing", "entropy_B"):
            assert torch.equal(getattr(together, name)[head], getattr(alone, name)), name


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_the_threshold_of_a_share_leaves_that_share_of_rows_above_it(share: float) -> None:
    entropy_HB = torch.rand(3, 1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    threshold_H = alternating_normalization.threshold_of_share(entropy_HB, share)
    unsure_HB = alternating_normalization.is_unsure(entropy_HB, threshold_H, tie_is_unsure=True)
    assert torch.allclose(unsure_HB.double().mean(-1), torch.full((3,), share, dtype=torch.float64), atol=2e-3)


def test_rows_without_entropy_are_sure_whatever_the_share() -> None:
    entropy_B = torch.zeros(8, dtype=torch.float64)
    threshold = alternating_normalization.threshold_of_share(entropy_B, 0.5)
    assert not alternating_normalization.is_unsure(entropy_B, threshold, tie_is_unsure=True).any()
