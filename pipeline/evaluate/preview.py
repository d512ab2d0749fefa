"""What a gate can tell with these test pictures: known before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from pipeline.artifacts.gate import FIRST_VERSION_RULE
from pipeline.config import GateConfig
from pipeline.config.gate import Limit, NonInferiority
from pipeline.evaluate.compare import difference_interval, refusal_risk
from pipeline.evaluate.default_rules import LEVEL, MIN_CLASS_PICTURES
from pipeline.evaluate.metrics import wilson_interval
from pipeline.evaluate.risk import (
    EQUAL_APART,
    MOST_PICTURES,
    WORSE_GAINED,
    WORSE_LOST,
    chance_of_class_drop,
    chance_of_refusal,
    chance_of_worse,
)

FAIR_RISK = 0.1  # how often a gate that suits its test set refuses an equally good model
FAIR_POWER = 0.8  # how often it refuses one that is ten points worse
STEP = 1.1
WITH_INTERVAL = frozenset({"accuracy", "loss", "brier", "macro_f1", "weighted_f1"})
HIGHEST = {"loss": math.inf, "brier": 2.0}  # of the other metrics it is 1


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
    problems = tuple(_find_problems(pictures, gate, is_first=is_first))
    if gate.override_by is not None:  # a person takes the version in spite of everything but this
        problems = tuple(each for each in problems if each.startswith(FIRST_VERSION_RULE))
    return GatePreview(lines=tuple(_describe(test_pictures, gate)) if pictures else (), problems=problems)


def smallest_margin(pictures: int) -> float:
    """Return the smallest non-inferiority margin that answers identical to the champion's pass."""
    low = difference_interval(0, 0, pictures, confidence=1 - 2 * LEVEL)[0]
    return math.ceil(-low * 1000) / 1000


def pictures_for(margin: float, confidence: float) -> int:
    """Return how many test pictures a margin takes if equal models are to pass 90 % of the time."""
    pictures = 20.0
    while refusal_risk(EQUAL_APART * pictures, pictures, margin=margin, confidence=confidence) > FAIR_RISK:
        pictures *= STEP
    return math.ceil(pictures)


@cache
def pictures_for_power() -> int:
    """Return how many test pictures `not_worse` takes to refuse a model ten points worse 80 % of the time."""
    pictures = 20.0
    while _power(math.ceil(pictures)) < FAIR_POWER:
        pictures *= STEP
    return math.ceil(pictures)


def _power(pictures: int) -> float:
    return chance_of_worse(pictures, LEVEL, lost=WORSE_LOST, gained=WORSE_GAINED)


def _find_problems(pictures: int, gate: GateConfig, *, is_first: bool) -> Iterator[str]:
    if pictures < gate.min_test_pictures:
        yield f"min_test_pictures: {pictures} test pictures, the limit is {gate.min_test_pictures}"
    for name, limit in sorted(gate.limits.items()):
        yield from _find_unreachable(name, limit, pictures)
    if gate.non_inferiority is not None and pictures and not is_first:
        yield from _find_narrow_margin(gate.non_inferiority, pictures)
    if is_first and gate.first_version == "refuse":
        yield f"{FIRST_VERSION_RULE}: this gate takes no first version from a run"


def _find_unreachable(name: str, limit: Limit, pictures: int) -> Iterator[str]:
    """Yield the bounds of a metric that even a perfect model is beyond."""
    key, highest = f"absolute.{name}", HIGHEST.get(name, 1.0)
    if limit.min is not None and limit.min > highest:
        yield f"{key}.min: {name} is at most {highest:g}, the limit is {limit.min:g}"
    if limit.max is not None and limit.max < 0:
        yield f"{key}.max: {name} is at least 0, the limit is {limit.max:g}"
    lowest = limit.min_lower_bound
    if lowest is None:
        return
    if name not in WITH_INTERVAL:
        yield f"{key}.min_lower_bound: {name} has no interval; use `min`"
    elif lowest > highest or (name == "accuracy" and lowest == 1):
        yield f"{key}.min_lower_bound: no interval of {name} reaches the limit {lowest:g}"
    elif name == "accuracy" and pictures and wilson_interval(pictures, pictures)[0] < lowest:
        best = wilson_interval(pictures, pictures)[0]
        yield (
            f"{key}.min_lower_bound: with {pictures} test pictures a perfect model reaches {best:.4f}, the "
            f"limit is {lowest:g}, which takes {_pictures_for_lower_bound(lowest)} pictures"
        )


def _pictures_for_lower_bound(lowest: float) -> int:
    """Return with how many test pictures the interval of a perfect model begins there."""
    squared = wilson_interval(1, 1)[0]  # n / (n + z^2) for n = 1
    return math.ceil(lowest / (1 - lowest) * (1 - squared) / squared - 1e-9)


def _find_narrow_margin(rule: NonInferiority, pictures: int) -> Iterator[str]:
    low = difference_interval(0, 0, pictures, confidence=2 * rule.confidence - 1)[0]
    if low < -rule.margin:
        needed = pictures_for(rule.margin, rule.confidence)
        yield (
            f"non_inferiority: with {pictures} test pictures even the champion's own answers fail; the "
            f"margin {rule.margin:g} takes {needed} pictures"
        )


def _describe(test_pictures: Mapping[str, int], gate: GateConfig) -> Iterator[str]:
    pictures = sum(test_pictures.values())
    yield (
        f"{pictures} test pictures: the smallest margin of `non_inferiority` that answers identical to the "
        f"champion's pass is {smallest_margin(pictures):g}"
    )
    risks = ", ".join(f"`{rule}` {_percent(risk)}" for rule, risk in _measure_risks(test_pictures, gate))
    if risks:
        yield (
            "How often a model just as good as the champion is refused, if "
            f"{_percent(EQUAL_APART)} of the pictures tell the two apart: {risks}"
        )
    if gate.defaults.not_worse:
        yield (
            f"`not_worse` refuses a model that is ten points worse {_percent(_power(pictures))} of the time; "
            f"{_percent(FAIR_POWER)} takes `min_test_pictures: {pictures_for_power()}`"
        )
    if (rule := gate.non_inferiority) is not None:
        yield (
            f"An equally good model passes `non_inferiority` {_percent(1 - FAIR_RISK)} of the time with "
            f"`min_test_pictures: {pictures_for(rule.margin, rule.confidence)}`"
        )
    yield from _describe_unjudged(test_pictures, gate)


def _measure_risks(test_pictures: Mapping[str, int], gate: GateConfig) -> Iterator[tuple[str, float]]:
    """Yield how often each rule on the champion refuses an equally good model."""
    pictures, half = sum(test_pictures.values()), EQUAL_APART / 2
    if gate.defaults.not_worse:
        yield "not_worse", chance_of_worse(pictures, LEVEL, lost=half, gained=half)
    if gate.defaults.class_drop:
        judged = [count for count in test_pictures.values() if count >= MIN_CLASS_PICTURES]
        yield "class_drop", chance_of_class_drop(judged, gate.max_class_drop, LEVEL)
    if gate.defaults.ratchet:
        yield "ratchet", chance_of_worse(pictures, LEVEL, lost=half, gained=half)
    if (rule := gate.non_inferiority) is not None:
        told_apart = EQUAL_APART * pictures
        yield (
            "non_inferiority",
            refusal_risk(told_apart, pictures, margin=rule.margin, confidence=rule.confidence),
        )
    drop = gate.change.get("accuracy")
    if drop is not None and drop.max_drop is not None:
        most, counted = drop.max_drop, min(pictures, MOST_PICTURES)
        chance = chance_of_refusal(
            counted, lambda gained, lost: lost - gained > most * counted, lost=half, gained=half
        )
        yield "change.accuracy.max_drop", chance


def _describe_unjudged(test_pictures: Mapping[str, int], gate: GateConfig) -> Iterator[str]:
    pictures = sum(test_pictures.values())
    arrangements = math.lgamma(pictures + 1) - sum(math.lgamma(count + 1) for count in test_pictures.values())
    if gate.defaults.informative and math.exp(-arrangements) > LEVEL:
        yield "`informative` cannot judge so few test pictures: right answers could be chance"
    few = [label for label, count in test_pictures.items() if count < MIN_CLASS_PICTURES]
    if gate.defaults.class_drop and few:
        yield (
            f"`class_drop` cannot judge classes of fewer than {MIN_CLASS_PICTURES} test pictures: "
            f"{', '.join(few)}"
        )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
