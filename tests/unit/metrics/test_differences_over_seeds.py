"""Differences of methods that were trained with several seeds."""

import numpy as np
import pytest

from metaloop.metrics.interval import Spread, seed_spread
from metaloop.metrics.paired import stratified_difference, with_seeds


def test_C11_equal_methods_of_few_seeds_rarely_differ() -> None:
    """Over episodes alone, two lucky seeds look like a better method."""
    random, tables, false = np.random.default_rng(1), 600, {"episodes": 0, "seeds": 0}
    for _ in range(tables):
        difficulty = random.normal(size=200)
        runs = difficulty + 0.3 * random.normal(size=(2, 3, 1)) + 0.5 * random.normal(size=(2, 3, 200))
        scores = runs.mean(1)
        difference = stratified_difference([scores[0].tolist()], [scores[1].tolist()])
        false["episodes"] += difference.p_value < 0.05
        false["seeds"] += with_seeds(difference, *(seed_spread(each.mean(-1)) for each in runs)).p_value < 0.05
    assert false["episodes"] / tables > 0.5
    assert false["seeds"] / tables < 0.06


def test_one_seed_each_changes_nothing_and_one_seed_borrows_the_others_spread() -> None:
    difference = stratified_difference([[0.1, 0.5, 0.7]], [[0.2, 0.3, 0.3]])
    one, three = Spread(0.5, None, 1), Spread(0.5, 0.2, 3)
    assert with_seeds(difference, one, one) == difference
    widened = with_seeds(difference, one, three)
    assert widened.interval.mean == difference.interval.mean
    assert widened.interval.freedom == pytest.approx(
        (v := np.array([np.var([-0.1, 0.2, 0.4], ddof=1) / 3, 0.04, 0.04 / 3])).sum() ** 2 / (v**2 / 2).sum()
    )
