"""How probably a rule refuses, held against sums over every outcome.

Mutants of `risk` that no test kills, because they return the same to the digits that are shown: another
threshold of what is negligible, `>=` for `>` there, and a search that begins one past the last count.
"""

from __future__ import annotations

import itertools

import pytest
from scipy.stats import binom, multinomial

from pipeline.evaluate.compare import difference_interval
from pipeline.evaluate.risk import (
    MOST_PICTURES,
    Refuses,
    chance_of_class_drop,
    chance_of_refusal,
    chance_of_worse,
    highest_difference,
)


def sum_over_outcomes(pictures: int, refuses: Refuses, *, lost: float, gained: float) -> float:
    """Add up the probabilities of all counts of gained and lost pictures that a rule refuses."""
    outcomes = multinomial(pictures, [gained, lost, 1 - gained - lost])
    return sum(
        float(outcomes.pmf([more, fewer, pictures - more - fewer]))
        for more, fewer in itertools.product(range(pictures + 1), repeat=2)
        if more + fewer <= pictures and refuses(more, fewer)
    )


@pytest.mark.parametrize("limit", [-2, 0, 1, 5])
def test_of_refusal_adds_up_every_outcome_that_is_refused(limit: int) -> None:
    def refuses(gained: int, lost: int) -> bool:
        return lost - gained > limit

    expected = sum_over_outcomes(12, refuses, lost=0.3, gained=0.1)
    assert chance_of_refusal(12, refuses, lost=0.3, gained=0.1) == pytest.approx(expected, abs=1e-6)


def test_of_refusal_asks_for_no_more_pictures_than_tell_the_models_apart() -> None:
    asked: list[tuple[int, int]] = []

    def refuses(gained: int, lost: int) -> bool:
        asked.append((gained, lost))
        return lost >= 4

    found = chance_of_refusal(6, refuses, lost=0.4, gained=0.2)
    assert found == pytest.approx(binom.sf(3, 6, 0.4), abs=1e-6)
    assert all(gained >= 0 and 0 <= lost and gained + lost <= 6 for gained, lost in asked)


def test_of_worse_is_that_of_the_bound_below_the_allowed_drop() -> None:
    for allowed in (0.0, 0.1):

        def refuses(gained: int, lost: int, allowed: float = allowed) -> bool:
            return highest_difference(gained, lost, 15, 1.0, 0.05) < -allowed

        expected = sum_over_outcomes(15, refuses, lost=0.35, gained=0.05)
        found = chance_of_worse(15, 0.05, lost=0.35, gained=0.05, allowed=allowed)
        assert found == pytest.approx(expected, abs=1e-6)
    without = chance_of_worse(15, 0.05, lost=0.35, gained=0.05)
    assert without == chance_of_worse(15, 0.05, lost=0.35, gained=0.05, allowed=0)


def test_of_worse_counts_five_thousand_pictures_at_most() -> None:
    def chance(pictures: int) -> float:
        return chance_of_worse(pictures, 0.05, lost=0.0006, gained=0.0002)

    assert MOST_PICTURES == 5000
    assert chance(4999) != chance(5000) == chance(5001) == chance(10**9)


def test_of_class_drop_is_that_of_any_class_at_a_share_of_the_level() -> None:
    alone = [chance_of_worse(n, 0.05 / 2, lost=0.025, gained=0.025, allowed=0.01) for n in (30, 80)]
    assert alone[0] != alone[1]
    found = chance_of_class_drop(iter([30, 80]), 0.01, 0.05)
    assert found == pytest.approx(1 - (1 - alone[0]) * (1 - alone[1]), abs=1e-9)


def test_highest_difference_is_the_upper_end_of_an_interval_with_the_level_at_each_end() -> None:
    assert (
        highest_difference(3, 9, 60, 1.5, 0.05)
        == (difference_interval(3, 9, 60, confidence=0.9, effect=1.5)[1])
    )
    assert highest_difference(3, 9, 60, 1.5, 0.05) != highest_difference(3, 9, 60, 1.5, 0.025)
