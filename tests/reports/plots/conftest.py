from platform.ledger.rows import PRUNED
from typing import Any

import pytest

DELTA, K2 = "spc.strong_threshold", "spc.graph_neighbors"
OBJECTIVE = "spc/selection_loss"
SEARCH = {DELTA: {"choice": [0.9, 0.95]}, K2: {"choice": [5, 20]}}


@pytest.fixture
def two_parameters(book: Any) -> Any:
    """Six settings of two parameters, of which the fourth was pruned and two times two share their values."""
    ledger_book = book(seeds=[0], search=SEARCH)
    settings = [(0.9, 5, 0.6), (0.95, 5, 0.7), (0.9, 20, 0.8), (0.95, 20, None), (0.9, 20, 0.9), (0.9, 5, 0.5)]
    for number, (delta, k2, acc) in enumerate(settings):
        metrics = None if acc is None else {"acc": acc, OBJECTIVE: -acc}
        ledger_book.configuration(number, {0: metrics}, {DELTA: delta, K2: k2})
    ledger_book.ledger.stop(ledger_book.launch.id, f"{ledger_book.launch.id}-3-0", PRUNED, "behind", {}, 1.0)
    return ledger_book
