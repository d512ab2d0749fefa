"""Two models on the same pictures: who gained, who lost, and how sure one can be of the difference.

Accuracies are compared in pairs. Only the pictures on which exactly one model is right tell them apart.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from statistics import NormalDist

from pipeline.artifacts.evaluation import ClassPairs, Comparison, Difference

STEPS = 60  # of bisection: finer than a float needs


def compare_pairs(
    keys: Sequence[str],
    candidate: Sequence[bool],
    champion: Sequence[bool],
    *,
    groups: Sequence[Hashable],
    labels: Sequence[str] = (),
    changed: int | None = None,
    differences: Mapping[str, Difference] | None = None,
) -> Comparison:
    """Compare two models picture by picture.

    Args:
        keys: Ids of the pictures.
        candidate: Whether the candidate is right on each.
        champion: Whether the champion is.
        groups: Group of near duplicates of each.
        labels: Label of each; without them classes are not compared.
        changed: Pictures that the two answer differently.
        differences: Of the other metrics, by name.
    """
    pairs = list(zip(keys, candidate, champion, strict=True))
    gained = tuple(key for key, one, other in pairs if one and not other)
    lost = tuple(key for key, one, other in pairs if other and not one)
    signs = [one - other for _, one, other in pairs]
    effect = design_effect(signs, groups)
    return Comparison(
        pictures=len(pairs),
        gained=gained,
        lost=lost,
        difference=(len(gained) - len(lost)) / len(pairs),
        interval=difference_interval(len(gained), len(lost), len(pairs), confidence=0.95, effect=effect),
        p_value=mcnemar_p_value(len(gained), len(lost)),
        design_effect=effect,
        differences=dict(differences or {}),
        changed=changed,
        classes=_compare_classes(signs, groups, labels),
    )


def _compare_classes(
    signs: Sequence[int], groups: Sequence[Hashable], labels: Sequence[str]
) -> dict[str, ClassPairs]:
    places: dict[str, list[int]] = {}
    for place, label in enumerate(labels):
        places.setdefault(label, []).append(place)
    compared = {}
    for label, chosen in places.items():
        own = [signs[place] for place in chosen]
        compared[label] = ClassPairs(
            pictures=len(own),
            gained=own.count(1),
            lost=own.count(-1),
            design_effect=design_effect(own, [groups[place] for place in chosen]),
        )
    return compared


def mcnemar_p_value(gained: int, lost: int) -> float:
    """Return the two-sided exact p value that a picture told apart is as often gained as lost."""
    total = gained + lost
    tail = ways = 1
    for count in range(min(gained, lost)):
        ways = ways * (total - count) // (count + 1)
        tail += ways
    return min(1.0, 2 * tail / (1 << total))


def design_effect(differences: Sequence[int], groups: Sequence[Hashable]) -> float:
    """Return by what factor grouping raises the variance of a mean difference; at least 1.

    Args:
        differences: For each picture 1 if gained, -1 if lost, else 0.
        groups: Group of each picture.
    """
    total = len(differences)
    mean = sum(differences) / total
    sums: dict[Hashable, float] = {}
    for value, group in zip(differences, groups, strict=True):
        sums[group] = sums.get(group, 0.0) + value - mean
    alone = sum((value - mean) ** 2 for value in differences)
    if alone == 0:  # nothing tells them apart, so nothing tells how alike a group's members are
        return sum(size**2 for size in Counter(groups).values()) / total
    return max(1.0, sum(value**2 for value in sums.values()) / alone)


def difference_interval(
    gained: float, lost: float, pictures: float, *, confidence: float, effect: float = 1.0
) -> tuple[float, float]:
    """Return Tango's score interval of a paired difference of shares.

    Unlike a bootstrap's, it does not shrink to a point when no picture tells the models apart.

    Args:
        gained: Pictures that only the first model gets right.
        lost: Pictures that only the second gets right.
        pictures: All of them.
        confidence: Of the two-sided interval.
        effect: The design effect: so many pictures count as one.
    """
    quantile = NormalDist().inv_cdf((1 + confidence) / 2)
    gained, lost, pictures = gained / effect, lost / effect, pictures / effect
    low = _solve(gained, lost, pictures, quantile)
    high = -_solve(lost, gained, pictures, quantile)
    return low, high


def _solve(gained: float, lost: float, pictures: float, quantile: float) -> float:
    """Return the smallest difference that the score test does not reject."""
    low, high = -1.0, (gained - lost) / pictures
    for _ in range(STEPS):
        middle = (low + high) / 2
        if gained - lost - pictures * middle > quantile * math.sqrt(
            pictures * _null_variance(gained, lost, pictures, middle)
        ):
            low = middle
        else:
            high = middle
    return high


def _null_variance(gained: float, lost: float, pictures: float, difference: float) -> float:
    """Return the variance of one picture's difference as if `difference` were true (Tango 1998)."""
    a = 2 * pictures
    b = (2 * pictures - gained + lost) * difference - gained - lost
    c = -lost * difference * (1 - difference)
    share_lost = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    return max(0.0, 2 * share_lost + difference * (1 - difference))


def refusal_risk(
    told_apart: float, pictures: float, *, margin: float, confidence: float, effect: float = 1.0
) -> float:
    """Return how probably the non-inferiority rule refuses a model that is exactly as good as its champion.

    Args:
        told_apart: Pictures on which exactly one model is right.
        pictures: All of them.
        margin: Of the rule.
        confidence: Of the rule's one-sided bound.
        effect: The design effect.
    """
    told_apart, pictures = told_apart / effect, pictures / effect
    quantile = NormalDist().inv_cdf(confidence)
    null = math.sqrt(_null_variance(told_apart / 2, told_apart / 2, pictures, -margin) / pictures)
    shortfall = quantile * null - margin
    spread = math.sqrt(told_apart) / pictures
    if spread == 0:
        return float(shortfall > 0)
    return NormalDist().cdf(shortfall / spread)
