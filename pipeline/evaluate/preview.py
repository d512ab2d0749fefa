"""What a gate can tell with these test pictures: known before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.config import GateConfig
from pipeline.evaluate.compare import difference_interval, refusal_risk
from pipeline.evaluate.default_rules import LEVEL, MIN_CLASS_PICTURES
from pipeline.evaluate.metrics import wilson_interval

USUAL_APART = 0.05  # the share of pictures that tells two equally good models apart, as a rule
FAIR_RISK = 0.1  # how often a gate that suits its test set refuses an equally good model
STEP = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePreview:
    """What the test pictures of a dataset version can show.

    Args:
        lines: What a user should know, a sentence each.
        problems: Rules that no model can meet, each led by its key.
    """

    lines: tuple[str, ...]
    problems: tuple[str, ...]


def preview_gate(
    test_pictures: Mapping[str, int], gate: GateConfig, *, is_first: bool = False
) -> GatePreview:
    """Return what a gate can tell with so many test pictures of each class.

    Args:
        test_pictures: By class.
        gate: The rules.
        is_first: Whether no version serves yet.
    """
    pictures = sum(test_pictures.values())
    problems = _find_problems(pictures, gate, is_first=is_first)
    return GatePreview(lines=_describe(test_pictures, pictures, gate), problems=problems)


def smallest_margin(pictures: int) -> float:
    """Return the smallest non-inferiority margin that answers identical to the champion's pass."""
    low = difference_interval(0, 0, pictures, confidence=1 - 2 * LEVEL)[0]
    return math.ceil(-low * 1000) / 1000


def pictures_for(margin: float, confidence: float) -> int:
    """Return how many test pictures a margin takes if equal models are to pass 90 % of the time."""
    pictures = 20.0
    while refusal_risk(USUAL_APART * pictures, pictures, margin=margin, confidence=confidence) > FAIR_RISK:
        pictures *= STEP
    return math.ceil(pictures)


def _find_problems(pictures: int, gate: GateConfig, *, is_first: bool) -> tuple[str, ...]:
    problems = []
    if pictures < gate.min_test_pictures:
        problems.append(f"min_test_pictures: {pictures} test pictures, the limit is {gate.min_test_pictures}")
    accuracy = gate.limits.get("accuracy")
    if pictures and accuracy is not None and accuracy.min_lower_bound is not None:
        best = wilson_interval(pictures, pictures)[0]
        if best < accuracy.min_lower_bound:
            problems.append(
                f"absolute.accuracy.min_lower_bound: with {pictures} test pictures a perfect model reaches "
                f"{best:.4f}, the limit is {accuracy.min_lower_bound:g}"
            )
    if gate.non_inferiority is not None and pictures and not is_first:
        rule = gate.non_inferiority
        low = difference_interval(0, 0, pictures, confidence=2 * rule.confidence - 1)[0]
        if low < -rule.margin:
            needed = pictures_for(rule.margin, rule.confidence)
            problems.append(
                f"non_inferiority: with {pictures} test pictures even the champion's own answers fail; the "
                f"margin {rule.margin:g} takes {needed} pictures"
            )
    if is_first and gate.first_version == "refuse":
        problems.append("first_version: this gate takes no first version from a run")
    return tuple(problems)


def _describe(test_pictures: Mapping[str, int], pictures: int, gate: GateConfig) -> tuple[str, ...]:
    if not pictures:
        return ()
    lines = [
        f"{pictures} test pictures: the smallest margin of `non_inferiority` that answers identical to the "
        f"champion's pass is {smallest_margin(pictures):g}",
    ]
    if gate.non_inferiority is not None:
        rule = gate.non_inferiority
        risk = refusal_risk(USUAL_APART * pictures, pictures, margin=rule.margin, confidence=rule.confidence)
        needed = pictures_for(rule.margin, rule.confidence)
        lines.append(
            f"`non_inferiority` refuses a model just as good as the champion {100 * risk:.0f} % of the time, "
            f"if {USUAL_APART:.0%} of the pictures tell the two apart; with {needed} pictures it would be "
            f"{FAIR_RISK:.0%}"
        )
    few = [label for label, count in test_pictures.items() if count < MIN_CLASS_PICTURES]
    if gate.defaults.class_drop and few:
        lines.append(
            f"`class_drop` cannot judge classes of fewer than {MIN_CLASS_PICTURES} test pictures: "
            f"{', '.join(few)}"
        )
    return tuple(lines)
