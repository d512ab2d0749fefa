"""What a gate can tell with so many test pictures, before anything is trained."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pipeline.config import GateConfig
from pipeline.evaluate.default_rules import LEVEL
from pipeline.evaluate.metrics import wilson_interval
from pipeline.evaluate.preview import (
    GatePreview,
    pictures_for,
    pictures_for_power,
    preview_gate,
    smallest_margin,
)
from pipeline.evaluate.risk import (
    chance_of_class_drop,
    chance_of_refusal,
    chance_of_worse,
    highest_difference,
)


def preview(pictures: int, *, is_first: bool = False, **gate: Any) -> GatePreview:
    config = GateConfig.model_validate({"min_accuracy": 0.5, **gate})
    return preview_gate({"cat": pictures // 2, "dog": pictures - pictures // 2}, config, is_first=is_first)


def lower_bound(limit: float) -> dict[str, Any]:
    return {"min_accuracy": None, "absolute": {"accuracy": {"min_lower_bound": limit}}}


@pytest.mark.parametrize(
    ("pictures", "margin"),
    [(20, 0.12), (40, 0.07), (60, 0.05), (80, 0.04), (100, 0.03), (150, 0.02), (200, 0.02), (400, 0.01)],
)
def test_smallest_margin_is_the_measured_one(pictures: int, margin: float) -> None:
    assert math.ceil(100 * smallest_margin(pictures)) / 100 == margin


def test_an_equal_model_is_seldom_refused_with_the_pictures_that_would_do() -> None:
    assert pictures_for(0.05, 0.95) < pictures_for(0.02, 0.95)
    assert 150 < pictures_for(0.05, 0.95) < 300


class TestChances:
    @pytest.mark.parametrize("pictures", [20, 75, 300])
    def test_are_those_of_drawn_models(self, pictures: int) -> None:
        random = np.random.default_rng(0)
        drawn = random.multinomial(pictures, [0.02, 0.12, 0.86], size=4000)
        refused = [
            highest_difference(int(gained), int(lost), pictures, 1.0, LEVEL) < 0 for gained, lost, _ in drawn
        ]
        found = chance_of_worse(pictures, LEVEL, lost=0.12, gained=0.02)
        assert found == pytest.approx(np.mean(refused), abs=0.025)

    def test_of_a_model_ten_points_worse_are_those_that_the_rule_promises(self) -> None:
        found = [chance_of_worse(pictures, LEVEL, lost=0.12, gained=0.02) for pictures in (40, 80, 200)]
        assert all(chance >= least for chance, least in zip(found, (0.5, 0.8, 0.95), strict=True))
        assert chance_of_worse(pictures_for_power(), LEVEL, lost=0.12, gained=0.02) >= 0.8
        assert chance_of_worse(round(pictures_for_power() / 1.2), LEVEL, lost=0.12, gained=0.02) < 0.8

    def test_of_an_equal_model_are_near_the_level_with_many_pictures(self) -> None:
        found = chance_of_worse(1_000_000, LEVEL, lost=0.025, gained=0.025)
        assert found == pytest.approx(0.05, abs=0.005)

    def test_add_up_over_what_a_rule_refuses(self) -> None:
        assert chance_of_refusal(30, lambda gained, lost: True, lost=0.1, gained=0.1) == pytest.approx(1)
        assert chance_of_refusal(30, lambda gained, lost: False, lost=0.1, gained=0.1) == 0
        at_least_one = chance_of_refusal(30, lambda gained, lost: lost > 0, lost=0.1, gained=0.1)
        assert at_least_one == pytest.approx(1 - 0.9**30, abs=1e-5)

    def test_of_classes_are_those_of_any_of_them(self) -> None:
        one = chance_of_worse(40, 0.025, lost=0.025, gained=0.025, allowed=0.01)
        both = chance_of_class_drop([40, 40], 0.01, 0.05)
        assert both == pytest.approx(1 - (1 - one) ** 2)
        assert both > 0
        assert chance_of_class_drop([], 0.1, 0.05) == 0


class TestProblems:
    @pytest.mark.parametrize(
        ("pictures", "gate", "problem"),
        [
            (40, {"min_test_pictures": 41}, "min_test_pictures: 40 test pictures, the limit is 41"),
            (
                40,
                {"non_inferiority": {"margin": 0.02}},
                "non_inferiority: with 40 test pictures even the champion's own answers fail; the margin "
                "0.02 takes 1",
            ),
            (
                10,
                lower_bound(0.9),
                "absolute.accuracy.min_lower_bound: with 10 test pictures a perfect model reaches 0.7225, "
                "the limit is 0.9, which takes 35 pictures",
            ),
            (
                40,
                {"absolute": {"roc_auc": {"min_lower_bound": 0.5}}},
                "absolute.roc_auc.min_lower_bound: roc_auc has no interval; use `min`",
            ),
            (
                40,
                {"absolute": {"macro_f1": {"min_lower_bound": 1.1}}},
                "absolute.macro_f1.min_lower_bound: no interval of macro_f1 reaches the limit 1.1",
            ),
            (
                40,
                lower_bound(1),
                "absolute.accuracy.min_lower_bound: no interval of accuracy reaches the limit 1",
            ),
            (
                40,
                {"absolute": {"macro_f1": {"min": 1.1}}},
                "absolute.macro_f1.min: macro_f1 is at most 1, the limit is 1.1",
            ),
            (
                40,
                {"absolute": {"loss": {"max": -0.1}}},
                "absolute.loss.max: loss is at least 0, the limit is -0.1",
            ),
        ],
    )
    def test_are_rules_that_no_model_can_meet(
        self, pictures: int, gate: dict[str, Any], problem: str
    ) -> None:
        [found] = preview(pictures, **gate).problems
        assert found.startswith(problem)

    @pytest.mark.parametrize(
        ("pictures", "gate"),
        [
            (40, {"min_test_pictures": 40}),
            (40, {"non_inferiority": {"margin": 0.08}}),
            (100, lower_bound(0.9)),
            (40, {"first_version": "refuse"}),
            (40, {"absolute": {"macro_f1": {"min": 1, "min_lower_bound": 1}, "brier": {"min": 2, "max": 0}}}),
            (40, {"absolute": {"loss": {"min": 9}}}),
            (40, {"min_test_pictures": 41, "override_by": "Ada", "override_reason": "demo"}),
        ],
    )
    def test_are_none_where_a_model_can_pass(self, pictures: int, gate: dict[str, Any]) -> None:
        assert preview(pictures, **gate).problems == ()

    def test_of_a_first_version_are_that_it_is_refused(self) -> None:
        refused = ("first_version: this gate takes no first version from a run",)
        assert preview(40, is_first=True, first_version="refuse").problems == refused
        assert preview(40, is_first=True, non_inferiority={"margin": 0.02}).problems == ()
        person = {"override_by": "Ada", "override_reason": "demo"}
        assert preview(40, is_first=True, first_version="refuse", **person).problems == refused

    @pytest.mark.parametrize("lowest", [0.3, 0.5, 0.9, 0.95, 0.99])
    def test_name_the_fewest_pictures_whose_interval_begins_there(self, lowest: float) -> None:
        [problem] = preview(1, **lower_bound(lowest)).problems
        pictures = int(problem.removesuffix(" pictures").rpartition(" ")[2])
        assert wilson_interval(pictures, pictures)[0] >= lowest
        assert wilson_interval(pictures - 1, pictures - 1)[0] < lowest
        assert preview(pictures, **lower_bound(lowest)).problems == ()


class TestLines:
    def test_tell_margin_risks_power_and_the_pictures_that_would_do(self) -> None:
        change = {"accuracy": {"max_drop": 0.02}}
        assert preview(40, non_inferiority={"margin": 0.08}, change=change).lines == (
            "40 test pictures: the smallest margin of `non_inferiority` that answers identical to the "
            "champion's pass is 0.064",
            "How often a model just as good as the champion is refused, if 5 % of the pictures tell the two "
            "apart: `not_worse` 3 %, `class_drop` 0 %, `ratchet` 3 %, `non_inferiority` 53 %, "
            "`change.accuracy.max_drop` 35 %",
            "`not_worse` refuses a model that is ten points worse 54 % of the time; 80 % takes "
            "`min_test_pictures: 76`",
            "An equally good model passes `non_inferiority` 90 % of the time with `min_test_pictures: 112`",
        )

    def test_leave_out_rules_that_are_off(self) -> None:
        off = {"defaults": dict.fromkeys(("not_worse", "class_drop", "ratchet", "informative"), False)}
        assert len(preview(4, **off).lines) == 1
        assert "`class_drop`" not in preview(40, defaults={"class_drop": False}).lines[1]

    def test_name_what_cannot_be_judged(self) -> None:
        assert preview(14).lines[-1].endswith("fewer than 8 test pictures: cat, dog")
        assert len(preview(16).lines) == 3
        assert len(preview(14, defaults={"class_drop": False}).lines) == 3
        assert preview(4).lines[-2].startswith("`informative` cannot judge so few test pictures")
        assert len(preview(6).lines) == 4

    def test_of_no_test_picture_are_none(self) -> None:
        assert preview(0).lines == ()
