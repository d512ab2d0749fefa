"""Pairs, their interval and its rounding.

Mutants of `compare` that no test kills, because they return the same: a step of bisection more or fewer; a
bisection that begins above the estimate, where the score test rejects nothing; McNemar's arguments exchanged,
and the variance at `margin` in place of `-margin` where as many are gained as lost: both are symmetric.
"""

from __future__ import annotations

import json
import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import binomtest

from pipeline.artifacts.evaluation import Comparison, Difference
from pipeline.evaluate.compare import (
    compare_pairs,
    design_effect,
    difference_interval,
    mcnemar_p_value,
    refusal_risk,
)

counts = st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 300)).map(
    lambda case: (case[0], case[1], case[0] + case[1] + case[2])
)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemars_p_value_equals_scipys(gained: int, lost: int) -> None:
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar_p_value(gained, lost) == pytest.approx(expected, abs=1e-9)


def test_mcnemars_p_value_survives_many_pictures() -> None:
    assert mcnemar_p_value(3000, 2000) == pytest.approx(binomtest(2000, 5000).pvalue, rel=1e-9)
    assert mcnemar_p_value(2500, 2500) == 1.0


def likelihood(share_lost: float, delta: float, gained: float, lost: float, same: float) -> float:
    share_gained = share_lost + delta
    rest = 1 - share_gained - share_lost
    terms = ((gained, share_gained), (lost, share_lost), (same, rest))
    return -sum(count * math.log(max(share, 1e-300)) for count, share in terms if count)


def score(delta: float, gained: float, lost: float, pictures: float) -> float:
    """The score statistic with its nuisance parameter found by search, not by Tango's formula."""
    low, high = max(0.0, -delta), (1 - delta) / 2
    same = pictures - gained - lost
    found = minimize_scalar(
        likelihood, args=(delta, gained, lost, same), bounds=(low, high), method="bounded",
        options={"xatol": 1e-13},
    ).x  # fmt: skip
    variance = pictures * (2 * found + delta * (1 - delta))
    return float((gained - lost - pictures * delta) / math.sqrt(max(variance, 1e-300)))


@settings(max_examples=40, deadline=None)
@given(counts, st.sampled_from([0.9, 0.95, 0.99]))
def test_interval_inverts_the_score_test(case: tuple[int, int, int], confidence: float) -> None:
    gained, lost, pictures = case
    low, high = difference_interval(gained, lost, pictures, confidence=confidence)
    quantile = NormalDist().inv_cdf((1 + confidence) / 2)
    for bound, sign in ((low, 1), (high, -1)):
        if -0.999 < bound < 0.999:
            assert score(bound, *case) == pytest.approx(sign * quantile, abs=2e-3)


def test_interval_of_equal_answers_is_not_a_point() -> None:
    low, high = difference_interval(0, 0, 20, confidence=0.9)
    quantile = NormalDist().inv_cdf(0.95)
    expected = quantile**2 / (20 + quantile**2)
    assert (low, high) == pytest.approx((-expected, expected))


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        # Tango (1998), and the tables of Newcombe (1998) that compare intervals of paired differences.
        ((12, 2, 50), (0.0569, 0.3404)),
        ((1, 0, 14), (-0.1564, 0.3185)),
    ],
)
def test_interval_agrees_with_published_figures(
    case: tuple[int, int, int], expected: tuple[float, float]
) -> None:
    low, high = difference_interval(*case, confidence=0.95)
    exact = [
        brentq(lambda delta: score(delta, *case) - 1.959964, -0.99, (case[0] - case[1]) / case[2]),
        brentq(lambda delta: score(delta, *case) + 1.959964, (case[0] - case[1]) / case[2], 0.99),
    ]
    assert (low, high) == pytest.approx(exact, abs=1e-4)
    assert (low, high) == pytest.approx(expected, abs=6e-3)


def test_interval_of_a_single_group_inverts_the_score_test_of_a_single_picture() -> None:
    found = difference_interval(4, 7, 11, confidence=0.95, effect=11)
    case = (4 / 11, 7 / 11, 1)
    low = brentq(lambda delta: score(delta, *case) - 1.959964, -0.9999, -3 / 11)
    high = brentq(lambda delta: score(delta, *case) + 1.959964, -3 / 11, 0.9999)
    assert found == pytest.approx((low, high), abs=1e-4)


def test_interval_stays_within_what_a_difference_can_be() -> None:
    assert difference_interval(0, 29, 29, confidence=0.95, effect=1.5)[0] == -1
    assert difference_interval(29, 0, 29, confidence=0.95, effect=1.5)[1] == 1
    assert difference_interval(0, 1_000_000, 1_000_000, confidence=0.95)[0] == -1


def test_interval_includes_a_difference_that_the_score_test_just_allows() -> None:
    pictures = NormalDist().inv_cdf(0.975) ** 2  # the bound of equal answers is then exactly a half
    assert difference_interval(0, 0, pictures, confidence=0.95) == (-0.5, 0.5)


@pytest.mark.parametrize("pictures", [1_000_000, 1_000_000_000])
def test_interval_of_all_pictures_but_one_of_a_large_group_survives_rounding(pictures: int) -> None:
    low, high = difference_interval(0, pictures - 1, pictures, confidence=0.95, effect=pictures)
    assert -1 <= low < -0.999_999
    turned = difference_interval(pictures - 1, 0, pictures, confidence=0.95, effect=pictures)
    assert turned == (-high, -low)


@given(counts, st.floats(1, 9))
def test_interval_turns_with_its_models_and_widens_with_the_design_effect(
    case: tuple[int, int, int], effect: float
) -> None:
    gained, lost, pictures = case
    low, high = difference_interval(gained, lost, pictures, confidence=0.95)
    turned = difference_interval(lost, gained, pictures, confidence=0.95)
    assert turned == pytest.approx((-high, -low), abs=1e-12)
    assert -1 <= low <= (gained - lost) / pictures <= high <= 1
    wide = difference_interval(gained, lost, pictures, confidence=0.95, effect=effect)
    assert wide[0] <= low + 1e-12
    assert wide[1] >= high - 1e-12
    same = difference_interval(gained / effect, lost / effect, pictures / effect, confidence=0.95)
    assert wide == same


class TestDesignEffect:
    def test_single_pictures_have_none(self) -> None:
        assert design_effect([1, -1, 0, 0, 1], range(5)) == 1.0

    def test_groups_that_go_together_count_as_one(self) -> None:
        assert design_effect([1] * 5 + [-1] * 5 + [0] * 10, [index // 5 for index in range(20)]) == 5.0

    def test_groups_that_cancel_out_count_no_more_than_single_pictures(self) -> None:
        assert design_effect([1, -1] * 10, [index // 2 for index in range(20)]) == 1.0

    def test_without_differences_the_groups_sizes_count(self) -> None:
        assert design_effect([0] * 6, [0, 0, 0, 1, 1, 2]) == (9 + 4 + 1) / 6

    def test_every_picture_needs_a_group(self) -> None:
        with pytest.raises(ValueError, match="shorter"):
            design_effect([1, 0, -1], ["a", "b"])

    def test_is_the_ratio_of_variances(self) -> None:
        values, groups = [1, 1, 0, -1, 0, 0, 1], [0, 0, 0, 1, 1, 2, 2]
        centred = np.array(values) - np.mean(values)
        sums = [centred[np.array(groups) == group].sum() for group in range(3)]
        expected = sum(value**2 for value in sums) / (centred**2).sum()
        assert design_effect(values, groups) == pytest.approx(max(1, expected))


class TestRefusalRisk:
    @pytest.mark.parametrize(
        ("told_apart", "pictures", "margin"), [(60, 600, 0.03), (100, 1000, 0.02), (20, 200, 0.05)]
    )
    def test_is_what_happens_to_equally_good_models(
        self, told_apart: int, pictures: int, margin: float
    ) -> None:
        random = np.random.default_rng(0)
        share = told_apart / pictures
        drawn = random.multinomial(pictures, [share / 2, share / 2, 1 - share], size=1500)
        refused = [
            difference_interval(gained, lost, pictures, confidence=0.9)[0] < -margin
            for gained, lost, _ in drawn
        ]
        stated = refusal_risk(told_apart, pictures, margin=margin, confidence=0.95)
        assert np.mean(refused) == pytest.approx(stated, abs=0.04)

    @pytest.mark.parametrize(("told_apart", "margin"), [(20, 0.05), (30, 0.1), (4, 0.02)])
    def test_follows_from_the_score_test_and_the_spread_of_a_difference(
        self, told_apart: int, margin: float
    ) -> None:
        pictures, half = 200, told_apart / 2
        null = margin / score(-margin, half, half, pictures)
        shortfall = NormalDist().inv_cdf(0.95) * null - margin
        expected = NormalDist().cdf(shortfall / (math.sqrt(told_apart) / pictures))
        found = refusal_risk(told_apart, pictures, margin=margin, confidence=0.95)
        assert found == pytest.approx(expected, abs=1e-5)

    def test_without_differences_is_all_or_nothing(self) -> None:
        assert refusal_risk(0, 20, margin=0.05, confidence=0.95) == 1.0
        assert refusal_risk(0, 2000, margin=0.05, confidence=0.95) == 0.0
        assert isinstance(refusal_risk(0, 20, margin=0.05, confidence=0.95), float)

    def test_a_bound_exactly_at_the_margin_is_none(self) -> None:
        pictures = NormalDist().inv_cdf(0.95) ** 2  # of equal answers: the bound is exactly minus a half
        assert refusal_risk(0, pictures, margin=0.5, confidence=0.95) == 0.0

    def test_groups_raise_it(self) -> None:
        alone = refusal_risk(20, 400, margin=0.03, confidence=0.95)
        together = refusal_risk(20, 400, margin=0.03, confidence=0.95, effect=3)
        assert alone < together
        assert together == refusal_risk(20 / 3, 400 / 3, margin=0.03, confidence=0.95)


class TestComparison:
    KEYS = ("a", "b", "c", "d", "e")

    def compare(self, **more: object) -> Comparison:
        candidate, champion = [True, True, False, True, False], [False, True, True, False, False]
        groups = more.pop("groups", self.KEYS)
        return compare_pairs(self.KEYS, candidate, champion, groups=groups, **more)  # type: ignore[arg-type]

    def test_lists_what_was_gained_and_lost(self) -> None:
        found = self.compare()
        assert (found.pictures, found.gained, found.lost) == (5, ("a", "d"), ("c",))
        assert found.difference == pytest.approx(0.2)
        assert found.p_value == mcnemar_p_value(2, 1)
        assert found.interval == difference_interval(2, 1, 5, confidence=0.95)
        assert found.design_effect == 1.0
        assert found.differences == {}

    def test_that_lost_more_than_it_gained_is_negative(self) -> None:
        worse = compare_pairs(
            self.KEYS, [True, False, False, False, True], [False, True, True, True, True], groups=self.KEYS
        )
        assert (worse.gained, worse.lost) == (("a",), ("b", "c", "d"))
        assert worse.difference == pytest.approx(-0.4)

    def test_counts_groups(self) -> None:
        found = self.compare(
            groups=["x", "y", "z", "x", "y"], differences={"loss": Difference(value=1, ci95=None)}
        )
        assert found.design_effect == design_effect([1, 0, -1, 1, 0], ["x", "y", "z", "x", "y"])
        assert found.design_effect > 1
        assert found.interval == difference_interval(2, 1, 5, confidence=0.95, effect=found.design_effect)
        assert found.differences == {"loss": Difference(value=1, ci95=None)}

    def test_keeps_differences_of_its_own(self) -> None:
        differences = {"loss": Difference(value=1, ci95=None)}
        found = self.compare(differences=differences)
        differences.clear()
        assert set(found.differences) == {"loss"}

    def test_survives_json(self) -> None:
        found = self.compare(differences={"loss": Difference(value=0.1, ci95=(0.0, 0.2))})
        assert Comparison.from_dict(json.loads(json.dumps(found.to_dict()))) == found

    def test_pictures_must_be_the_same(self) -> None:
        with pytest.raises(ValueError, match="shorter"):
            compare_pairs(("a", "b"), [True], [True, False], groups=[0, 1])
