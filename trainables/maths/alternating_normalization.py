"""Refinement of soft assignments by alternating normalization with a category prior (AN), and weights by uncertainty.

A batch is split by the entropy of each row's largest probabilities. Each unsure row is put below all sure rows; the
columns of that table are scaled to the prior and its rows to 1 in turn, and the unsure row's last values are its new
assignment. Sure rows leave as they came, and no unsure row sees another.

Both scalings are diagonal, so the table of unsure row b is always u_a P_ac y_c with the same P for every b: two matrix
products an iteration do what the text of the algorithm does with one table per unsure row. Nothing is approximated.
The split is a mask and nothing is copied out of the batch, so a GPU is never waited for.

Source: Jia et al. 2021, "When in Doubt: Improving Classification Performance with Alternating Normalization" (CAN), and
its use for clustering with a uniform prior over categories, where "power" is λ and "iterations" is T.

Axes: B rows of a batch (each may be unsure), A rows of the reference, C clusters, Q rows of a queue. Rows are
probabilities. Further axes in front, such as one of heads, are batches of their own that go through together.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

QUEUE_ROWS = 1024
SMALLEST_THRESHOLD = 1e-6
"""Below it no quantile of entropies is taken as a threshold: a row of no entropy is sure."""
_LARGEST_EXPONENT = 8.0
_ELEMENTS_AT_ONCE = 2**24


EmptyReference = Literal["skip", "identity", "queue"]


@dataclass(frozen=True)
class Options:
    """How assignments are refined.

    top_k: probabilities in the entropy, at least 2.
    renormalize: divide them by their sum and the entropy by log(top_k), so that it lies in [0, 1]; otherwise in nats.
    threshold: rows at or above it are unsure; with ``tie_is_unsure`` False only those above.
    power: exponent of every probability. each_time: it is applied at the start of every iteration, not once.
    frozen: the sure rows are reset after every iteration.
    empty: what happens in a batch with fewer than min_reference sure rows: nothing ("skip"), unit vectors stand in
    ("identity"), or recent sure rows ("queue").
    """

    top_k: int = 3
    renormalize: bool = True
    threshold: float = 0.75
    tie_is_unsure: bool = True
    power: float = 1.0
    iterations: int = 3
    each_time: bool = False
    frozen: bool = False
    empty: EmptyReference = "skip"
    min_reference: int = 1


@dataclass(frozen=True)
class Refined:
    """targets_BC: as the input's dtype, corrected rows replaced. entropy_B, unsure_B: of the rows as they came.

    corrected_B: unsure rows of a batch that has a reference. num_missing: clusters that are no sure row's largest, one
    number for each batch. Refinement pushes unsure rows there.
    """

    targets_BC: Tensor
    entropy_B: Tensor
    unsure_B: Tensor
    corrected_B: Tensor
    num_missing: Tensor


def top_entropy(rows_BC: Tensor, top_k: int, *, renormalize: bool = True) -> Tensor:
    """(B,) float64 entropy of each row's ``top_k`` largest probabilities; as many as there are, if fewer.

    Raises:
        ValueError: top_k below 2, where every entropy would be 0 and every row sure.
    """
    if top_k < 2:
        raise ValueError(f"top_k must be at least 2, but is {top_k}.")
    k = min(top_k, rows_BC.shape[-1])
    largest_BK = rows_BC.double().topk(k, dim=-1).values
    if renormalize:
        largest_BK = largest_BK / largest_BK.sum(-1, keepdim=True).clamp_min(1e-12)
    entropy_B = -torch.xlogy(largest_BK, largest_BK).sum(-1)
    if not renormalize:
        return entropy_B
    return entropy_B / math.log(max(k, 2))


def threshold_of_share(entropy_B: Tensor, share: float) -> Tensor:
    """The threshold above which ``share`` of the rows lie: shape (...), at least SMALLEST_THRESHOLD.

    A batch in which more rows than that have no entropy at all would otherwise be unsure as a whole.
    """
    return torch.quantile(entropy_B, 1 - share, dim=-1).clamp_min(SMALLEST_THRESHOLD)


def is_unsure(entropy_B: Tensor, threshold: Tensor | float, *, tie_is_unsure: bool) -> Tensor:
    """(B,) bool: rows at or above the threshold, or above it alone. threshold: a number, or one for each batch."""
    level = threshold[..., None] if isinstance(threshold, Tensor) else threshold
    return entropy_B >= level if tie_is_unsure else entropy_B > level


def importance(entropy_B: Tensor, temperature: float = 1.0) -> Tensor:
    """(..., B) weights that sum to 1, larger where a row is less sure: softmax of the entropies."""
    return (entropy_B / temperature).softmax(-1)


def refine_assignments(
    rows_BC: Tensor, options: Options, prior_C: Tensor | None = None, queue_QC: Tensor | None = None
) -> Refined:
    """Split at ``options.threshold``, correct the unsure rows against the sure ones, and put them back.

    Args and result: see ``correct_unsure``.
    """
    entropy_B = top_entropy(rows_BC.detach(), options.top_k, renormalize=options.renormalize)
    unsure_B = is_unsure(entropy_B, options.threshold, tie_is_unsure=options.tie_is_unsure)
    return correct_unsure(rows_BC, entropy_B, unsure_B, options, prior_C, queue_QC)


def correct_unsure(  # noqa: PLR0913 - a batch, how it is split, and what it is held against
    rows_BC: Tensor,
    entropy_B: Tensor,
    unsure_B: Tensor,
    options: Options,
    prior_C: Tensor | None = None,
    queue_QC: Tensor | None = None,
) -> Refined:
    """Correct the unsure rows against the sure ones and put them back; without gradients.

    Args:
        rows_BC: shape (..., B, C).
        entropy_B, unsure_B: shape (..., B); of ``top_entropy`` and ``is_unsure``.
        prior_C: shares of the clusters, (C,) or (..., C); uniform if None.
        queue_QC: recent sure rows, for ``empty: queue``, (..., Q, C); rows of zeros are empty places.
    """
    rows = rows_BC.detach().double()
    num_clusters = rows.shape[-1]
    prior = rows.new_full((num_clusters,), 1 / num_clusters) if prior_C is None else prior_C.to(rows)
    reference, counts_A = _reference(rows, ~unsure_B, options, queue_QC)
    corrected_B = unsure_B & counts_A.any(-1, keepdim=True)
    targets = _corrected(rows, corrected_B, reference, counts_A, prior, options)
    preferred_C = torch.zeros_like(rows[..., 0, :])
    preferred_C.scatter_add_(-1, rows.argmax(-1), (~unsure_B).double())
    return Refined(targets.to(rows_BC.dtype), entropy_B, unsure_B, corrected_B, (preferred_C == 0).sum(-1))


def _corrected(  # noqa: PLR0913 - a batch, its reference, and how
    rows_BC: Tensor, corrected_B: Tensor, reference_AC: Tensor, counts_A: Tensor, prior_C: Tensor, options: Options
) -> Tensor:
    """All rows, those that shall be corrected replaced."""
    if not rows_BC.is_cpu or rows_BC.ndim > 2:
        # Counting rows would make a device wait for the host, and batches side by side differ in it: all are corrected
        # and some are taken.
        all_BC = correct(rows_BC, reference_AC, counts_A, prior_C, options)
        return torch.where(corrected_B[..., None], all_BC, rows_BC)
    if not bool(corrected_B.any()):
        return rows_BC
    targets_BC, counted_AC = rows_BC.clone(), reference_AC[counts_A]
    all_of_them = counts_A.new_ones(len(counted_AC))
    targets_BC[corrected_B] = correct(rows_BC[corrected_B], counted_AC, all_of_them, prior_C, options)
    return targets_BC


def _reference(rows_BC: Tensor, sure_B: Tensor, options: Options, queue_QC: Tensor | None) -> tuple[Tensor, Tensor]:
    """(..., A, C) rows that may be the reference, and (..., A) whether they are."""
    enough_1 = sure_B.sum(-1, keepdim=True) >= max(options.min_reference, 1)
    if options.empty == "identity":
        unit_CC = torch.eye(rows_BC.shape[-1], dtype=rows_BC.dtype, device=rows_BC.device)
        stand_in = unit_CC.expand(*rows_BC.shape[:-2], -1, -1)
    elif options.empty == "queue" and queue_QC is not None and queue_QC.shape[-2]:
        stand_in = queue_QC.to(rows_BC)
    else:
        return rows_BC, sure_B & enough_1
    instead = ~enough_1 & (stand_in > 0).any(-1)
    return torch.cat((rows_BC, stand_in), dim=-2), torch.cat((sure_B & enough_1, instead), dim=-1)


def correct(rows_BC: Tensor, reference_AC: Tensor, counts_A: Tensor, prior_C: Tensor, options: Options) -> Tensor:
    """(..., B, C) float64: each row normalized together with the reference rows that count, and with no other row.

    A row that cannot be scaled (it holds nothing in any cluster that the prior allows) comes back unchanged.
    """
    exponent = options.power ** (options.iterations if options.each_time else 1)
    form = _by_products if exponent <= _LARGEST_EXPONENT and options.power >= 1e-3 else _in_logs
    refined_BC = form(rows_BC.double(), reference_AC.double(), counts_A, prior_C.double(), options)
    scaled_B = refined_BC.isfinite().all(-1) & (refined_BC.sum(-1) > 0.5)
    return torch.where(scaled_B[..., None], refined_BC, rows_BC.double())


def _by_products(rows_BC: Tensor, reference_AC: Tensor, counts_A: Tensor, prior_C: Tensor, options: Options) -> Tensor:
    power, prior_1C = options.power, prior_C[..., None, :]
    table_AC, row_BC = reference_AC * counts_A[..., None], rows_BC
    if power != 1:
        table_AC, row_BC = table_AC.pow(power).mul_(counts_A[..., None]), rows_BC.pow(power)
    # Scale of each reference row in the table of each row, 1 where None, and of the row itself.
    scale_BA: Tensor | None = None
    own_B1 = torch.ones_like(rows_BC[..., :1])
    for iteration in range(options.iterations):
        if options.each_time and iteration:
            row_BC, own_B1 = row_BC.pow(power), own_B1.pow(power)
            if scale_BA is not None:
                table_AC, scale_BA = table_AC.pow(power), scale_BA.pow(power)
        totals_BC = table_AC.sum(-2, keepdim=True) if scale_BA is None else scale_BA @ table_AC
        columns_BC = _inverse(torch.addcmul(totals_BC, own_B1, row_BC)).mul_(prior_1C)
        own_B1 = _inverse(torch.einsum("...bc,...bc->...b", row_BC, columns_BC)[..., None])
        if options.frozen:
            # The sure rows forget their columns' scales and the row itself keeps them: one table no longer shares them.
            row_BC, own_B1 = (row_BC * columns_BC).mul_(own_B1), torch.ones_like(own_B1)
            columns_BC = torch.ones_like(columns_BC)
        elif iteration + 1 < options.iterations:
            scale_BA = _inverse(columns_BC @ table_AC.mT)
    return (row_BC * columns_BC).mul_(own_B1)


def _inverse(values: Tensor) -> Tensor:
    """1 / values, and 0 where a value is 0."""
    return values.reciprocal().masked_fill_(values <= 0, 0.0)


def _in_logs(rows_BC: Tensor, reference_AC: Tensor, counts_A: Tensor, prior_C: Tensor, options: Options) -> Tensor:
    """The same with one table per row and in logarithms, for powers at which float64 would underflow."""
    if rows_BC.ndim > 2:
        priors = prior_C.expand(*rows_BC.shape[:-2], -1)
        batches = zip(rows_BC, reference_AC, counts_A, priors, strict=True)
        return torch.stack([_in_logs(*batch, options) for batch in batches])
    masked_AC = reference_AC.log().masked_fill(~counts_A[:, None], -torch.inf)
    size = max(1, _ELEMENTS_AT_ONCE // max(1, masked_AC.numel() + masked_AC.shape[1]))
    parts = [_log_tables(part_BC.log(), masked_AC, prior_C.log(), options) for part_BC in rows_BC.split(size)]
    return torch.cat(parts).exp()


def _log_tables(rows_BC: Tensor, reference_AC: Tensor, prior_C: Tensor, options: Options) -> Tensor:
    start_BAC = reference_AC.expand(len(rows_BC), -1, -1)
    table_BAC = torch.cat((start_BAC, rows_BC[:, None]), dim=1)
    reset_BAC = start_BAC if options.each_time else start_BAC * options.power
    for iteration in range(options.iterations):
        if options.each_time or not iteration:
            table_BAC = table_BAC * options.power
        table_BAC = _less(table_BAC, table_BAC.logsumexp(1, keepdim=True)) + prior_C
        table_BAC = _less(table_BAC, table_BAC.logsumexp(2, keepdim=True))
        if options.frozen:
            table_BAC = torch.cat((reset_BAC, table_BAC[:, -1:]), dim=1)
    return table_BAC[:, -1]


def _less(table: Tensor, totals: Tensor) -> Tensor:
    """table - totals, where nothing minus nothing stays nothing."""
    return torch.where(table == -torch.inf, table, table - totals)


def next_prior(prior_C: Tensor, targets_BC: Tensor, decay: float) -> Tensor:
    """The running mean of refined assignments after one more batch; shape (..., C)."""
    return decay * prior_C + (1 - decay) * targets_BC.to(prior_C).mean(-2)


def empty_queue(num_clusters: int, *axes: int) -> Tensor:
    """(..., QUEUE_ROWS, C) float64 of empty places."""
    return torch.zeros(*axes, QUEUE_ROWS, num_clusters, dtype=torch.float64)


def next_queue(queue_QC: Tensor, rows_BC: Tensor, sure_B: Tensor) -> Tensor:
    """The latest sure rows, newest last, as many as there are places; empty places come first."""
    both = torch.cat((queue_QC, rows_BC.detach().to(queue_QC) * sure_B[..., None]), dim=-2)
    order = (both > 0).any(-1).byte().argsort(dim=-1, stable=True)[..., -queue_QC.shape[-2] :]
    return both.gather(-2, order[..., None].expand(*order.shape, both.shape[-1]))
