"""What a gate can tell with so many test pictures, before anything is trained."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pipeline.config import GateConfig
from pipeline.evaluate.preview import GatePreview, pictures_for, preview_gate, smallest_margin


def preview(pictures: int, *, is_first: bool = False, **gate: Any) -> GatePreview:
    config = GateConfig.model_validate({"min_accuracy": 0.5, **gate})
    return preview_gate({"cat": pictures // 2, "dog": pictures - pictures // 2}, config, is_first=is_first)


@pytest.mark.parametrize(
    ("pictures", "margin"),
    [(20, 0.12), (40, 0.07), (60, 0.05), (80, 0.04), (100, 0.03), (150, 0.02), (200, 0.02), (400, 0.01)],
)
def test_smallest_margin_is_the_measured_one(pictures: int, margin: float) -> None:
    assert math.ceil(100 * smallest_margin(pictures)) / 100 == margin


def test_an_equal_model_is_seldom_refused_with_the_pictures_that_would_do() -> None:
    assert pictures_for(0.05, 0.95) < pictures_for(0.02, 0.95)
    assert 150 < pictures_for(0.05, 0.95) < 300


class TestProblems:
    @pytest.mark.parametrize(
        ("pictures", "gate", "problem"),
        [
            (40, {"min_test_pictures": 41}, "min_test_pictures: 40 test pictures, the limit is 41"),
            (
                40,
                {"non_inferiority": {"margin": 0.02}},
                "non_inferiority: with 40 test pictures even",
            ),
            (
                10,
                {"min_accuracy": None, "absolute": {"accuracy": {"min_lower_bound": 0.9}}},
                "absolute.accuracy.min_lower_bound: with 10 test pictures a perfect model reaches 0.7225",
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
            (100, {"min_accuracy": None, "absolute": {"accuracy": {"min_lower_bound": 0.9}}}),
            (40, {"first_version": "refuse"}),
        ],
    )
    def test_are_none_where_a_model_can_pass(self, pictures: int, gate: dict[str, Any]) -> None:
        assert preview(pictures, **gate).problems == ()

    def test_of_a_first_version_are_that_it_is_refused(self) -> None:
        assert preview(40, is_first=True, first_version="refuse").problems == (
            "first_version: this gate takes no first version from a run",
        )
        assert preview(40, is_first=True, non_inferiority={"margin": 0.02}).problems == ()


class TestLines:
    def test_tell_margin_risk_and_the_pictures_that_would_do(self) -> None:
        lines = preview(40, non_inferiority={"margin": 0.08}).lines
        assert lines[0].startswith("40 test pictures: the smallest margin of `non_inferiority`")
        assert lines[1].startswith("`non_inferiority` refuses a model just as good as the champion")

    def test_name_classes_that_cannot_be_judged(self) -> None:
        assert preview(14).lines[-1].endswith("fewer than 8 test pictures: cat, dog")
        assert len(preview(16).lines) == 1
        assert len(preview(14, defaults={"class_drop": False}).lines) == 1

    def test_of_no_test_picture_are_none(self) -> None:
        assert preview(0).lines == ()
