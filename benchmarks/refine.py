"""Refined assignments: matrix products against one table for each unsure row.

    python benchmarks/refine.py [--rows 50000] [--clusters 10] [--batch 256]

Both give the same numbers (tests/maths/test_refine.py). One pass over all rows in batches, three rounds of normalizing.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from trainables.maths import refine

OPTIONS = refine.Options()


def by_tables(rows_BC: Tensor) -> Tensor:
    """The algorithm as it is written down."""
    unsure_B = refine.top_entropy(rows_BC, OPTIONS.top_k) >= OPTIONS.threshold
    refined_BC, sure_AC = rows_BC.clone(), rows_BC[~unsure_B]
    if not len(sure_AC):
        return refined_BC
    for row in unsure_B.nonzero().flatten().tolist():
        table = torch.cat((sure_AC, rows_BC[row : row + 1])) ** OPTIONS.power
        for _ in range(OPTIONS.iterations):
            table = table / table.sum(0) / rows_BC.shape[1]
            table = table / table.sum(1, keepdim=True)
        refined_BC[row] = table[-1]
    return refined_BC


def by_products(rows_BC: Tensor) -> Tensor:
    return refine.refine_assignments(rows_BC, OPTIONS).targets_BC


def seconds(form: Callable[[Tensor], Tensor], batches: tuple[Tensor, ...]) -> float:
    started = time.perf_counter()
    for batch_BC in batches:
        form(batch_BC)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 50_000), ("clusters", 10), ("batch", 256), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    draw = torch.Generator().manual_seed(0)
    rows_NC = (2 * torch.randn(args.rows, args.clusters, generator=draw, dtype=torch.float64)).softmax(1)
    batches = rows_NC.split(args.batch)
    unsure = float((refine.top_entropy(rows_NC, OPTIONS.top_k) >= OPTIONS.threshold).double().mean())
    apart = float((by_tables(batches[0]) - by_products(batches[0])).abs().max())
    print(
        f"{args.rows} rows, {args.clusters} clusters, batches of {args.batch}; unsure {unsure:.0%}; apart {apart:.1e}"
    )
    times = {form.__name__: [seconds(form, batches) for _ in range(args.repeats)] for form in (by_tables, by_products)}
    for name, found in times.items():
        print(f"{name:12} {statistics.median(found):8.3f} s  ({min(found):.3f} to {max(found):.3f})")
    print(f"ratio {statistics.median(times['by_tables']) / statistics.median(times['by_products']):.1f}")


if __name__ == "__main__":
    main()
