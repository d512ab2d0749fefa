"""How probably a rule on the champion refuses a model, before there is one: exact sums over paired answers.

Two models that differ on some pictures gain and lose by chance. What a rule does with so many gained and lost
is asked of the rule itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

from pipeline.evaluate.compare import difference_interval

EQUAL_APART = 0.05  # the share of pictures that tells two equally good models apart, as a rule
WORSE_LOST, WORSE_GAINED = 0.12, 0.02  # a model ten points worse
MOST_PICTURES = 5000  # more change no figure that is shown
NEGLIGIBLE = 1e-7

Refuses = Callable[[int, int], bool]


def highest_difference(gained: int, lost: int, pictures: int, effect: float, level: float) -> float:
    """Return the one-sided upper bound of the difference of accuracies: Tango's, with the design effect."""
    return difference_interval(gained, lost, pictures, confidence=1 - 2 * level, effect=effect)[1]


def chance_of_refusal(pictures: int, refuses: Refuses, *, lost: float, gained: float) -> float:
    """Return how probably a rule refuses a model that loses and gains such shares of the pictures.

    Args:
        pictures: How many are compared.
        refuses: Whether the rule refuses with so many gained and lost; the more lost, the rather.
        lost: Share that only the champion gets right.
        gained: Share that only the candidate gets right.
    """
    apart = lost + gained
    return sum(
        share * _tail(differing, lost / apart, _first_refused(differing, refuses))
        for differing, share in _binomial(pictures, apart)
    )


def chance_of_worse(pictures: int, level: float, *, lost: float, gained: float, allowed: float = 0) -> float:
    """Return how probably a model is refused because the bound of its difference is below minus a drop."""
    pictures = min(pictures, MOST_PICTURES)

    def refuses(more: int, fewer: int) -> bool:
        return highest_difference(more, fewer, pictures, 1.0, level) < -allowed

    return chance_of_refusal(pictures, refuses, lost=lost, gained=gained)


def chance_of_class_drop(class_pictures: Iterable[int], allowed: float, level: float) -> float:
    """Return how probably an equally good model is refused for any of its judged classes."""
    counts = list(class_pictures)
    half = EQUAL_APART / 2

    @lru_cache
    def of_class(pictures: int) -> float:
        return chance_of_worse(pictures, level / len(counts), lost=half, gained=half, allowed=allowed)

    return 1 - math.prod(1 - of_class(pictures) for pictures in counts)


def _first_refused(differing: int, refuses: Refuses) -> int:
    """Return the fewest lost pictures, of those that tell the models apart, that a rule refuses."""
    low, high = 0, differing + 1
    while low < high:
        middle = (low + high) // 2
        if refuses(differing - middle, middle):
            high = middle
        else:
            low = middle + 1
    return low


def _binomial(trials: int, share: float) -> Iterator[tuple[int, float]]:
    """Yield the counts of successes that are not negligible, with their probabilities."""
    for count in range(trials + 1):
        probability = _probability(trials, count, share)
        if probability > NEGLIGIBLE:
            yield count, probability


def _tail(trials: int, share: float, least: int) -> float:
    return sum(_probability(trials, count, share) for count in range(least, trials + 1))


def _probability(trials: int, count: int, share: float) -> float:
    ways = math.lgamma(trials + 1) - math.lgamma(count + 1) - math.lgamma(trials - count + 1)
    return math.exp(ways + count * math.log(share) + (trials - count) * math.log1p(-share))
