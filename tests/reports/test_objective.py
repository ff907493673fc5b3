from platform.reports.objective import Objective

import pytest


@pytest.mark.parametrize(("mode", "best"), [("min", -2.0), ("max", 3.0)])
def test_the_best_value_has_the_least_cost(mode: str, best: float) -> None:
    objective = Objective("spc/x", mode)
    assert min((1.0, -2.0, 3.0), key=lambda value: objective.sign * value) == best
