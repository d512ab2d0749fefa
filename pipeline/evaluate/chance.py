"""Do a model's answers depend on the labels at all? A permutation test."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from pipeline.artifacts.evaluation import Chance
from pipeline.evaluate.answers import Answers
from pipeline.types import IntArray

PERMUTATIONS = 4999
MOST_CELLS = 20_000_000  # groups times permutations; larger test sets get fewer of the latter
FEWEST = 999
MOST_EXACT = 5000  # arrangements that are all tried
SEED = 20261126


def measure_chance(answers: Answers) -> Chance:
    """Return how often answers that do not depend on the labels hit at least as often as these.

    Labels are dealt anew to whole groups of near duplicates, which are alike in label and answer. The share
    of deals that hit as often is the one-sided p value that Cohen's kappa is 0; it is exact for small sets.
    """
    groups = answers.groups
    size = int(groups.max()) + 1
    counts = np.zeros((size, len(answers.classes)), np.int64)
    np.add.at(counts, (groups, answers.predicted), 1)
    labels = np.zeros(size, np.int64)
    labels[groups[::-1]] = answers.truth[::-1]  # a group's label is that of its first picture
    places = np.arange(size)
    hits = counts[places, labels].sum()
    of_labels = np.bincount(labels)
    log_arrangements = math.lgamma(size + 1) - sum(math.lgamma(count + 1) for count in of_labels.tolist())
    is_exact = log_arrangements <= math.log(MOST_EXACT)
    deals = _arrange(of_labels) if is_exact else _shuffle(labels)
    as_good = [bool(counts[places, dealt].sum() >= hits) for dealt in deals]
    extra = 0 if is_exact else 1  # the labels themselves are a deal, too
    return Chance(
        p_value=(sum(as_good) + extra) / (len(as_good) + extra), lowest_p_value=math.exp(-log_arrangements)
    )


def _shuffle(labels: IntArray) -> Iterator[IntArray]:
    random = np.random.default_rng(SEED)
    for _ in range(max(FEWEST, min(PERMUTATIONS, MOST_CELLS // len(labels)))):
        yield random.permutation(labels)


def _arrange(counts: IntArray) -> Iterator[IntArray]:
    """Yield every order of labels that occur so many times each; the most frequent is where no other is."""
    most = int(counts.argmax())
    others = [label for label, count in enumerate(counts) if count and label != most]
    yield from _deal(np.full(counts.sum(), most), most, [(label, int(counts[label])) for label in others])


def _deal(order: IntArray, most: int, others: list[tuple[int, int]]) -> Iterator[IntArray]:
    if not others:
        yield order
        return
    (label, count), *rest = others
    for places in itertools.combinations(np.flatnonzero(order == most).tolist(), count):
        dealt = order.copy()
        dealt[list(places)] = label
        yield from _deal(dealt, most, rest)
