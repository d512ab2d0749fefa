"""How often the gate's default rules refuse what they should not, and let through what they should not.

    python -m benchmarks gate

By simulation, and on real pictures where they are at hand. Takes about three minutes on two cores.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
from scipy.stats import hypergeom

from benchmarks.gate_retrains import RETRAINS, retrain_rows
from pipeline.artifacts.evaluation import ClassPairs, Comparison, Evaluation
from pipeline.artifacts.gate import Verdict
from pipeline.artifacts.metrics import Metrics
from pipeline.config import GateConfig
from pipeline.evaluate.default_rules import LEVEL, MIN_CLASS_PICTURES, judge_class_drop, judge_not_worse

DRAWS = 20_000
SIZES = (20, 40, 80, 150, 300, 800, 2000)
APART = (0.02, 0.05, 0.10, 0.20, 0.30)
CLASSES = (2, 5, 10, 50)
GATE = GateConfig(min_test_pictures=1)
CHURN = ((0.01, 0.0), (0.02, 0.01), (0.03, 0.02), (0.05, 0.04))  # of the pictures: lost and gained
REPEATS = 400


def row(*cells: Any) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def shown_worse(gained: Any, lost: Any, pictures: Any, effect: float, level: float, allowed: float) -> Any:
    """Return where the upper bound of Tango's interval is below minus the allowed drop: the score test."""
    gained, lost, n = gained / effect, lost / effect, pictures / effect
    quantile = NormalDist().inv_cdf(1 - level)
    difference = -allowed
    a = 2 * n
    b = (2 * n - lost + gained) * -difference - gained - lost  # the roles of the two are exchanged
    c = -gained * -difference * (1 + difference)
    share = (np.sqrt(np.maximum(0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = np.maximum(0, 2 * share - difference * (1 + difference))
    return lost - gained - n * allowed > quantile * np.sqrt(n * variance)


def class_sizes(pictures: int, classes: int, is_equal: bool) -> list[int]:
    """Return the pictures of each class: as equal as can be, or 9:1 for the first against the others."""
    if is_equal:
        return [pictures // classes + (number < pictures % classes) for number in range(classes)]
    rest = max(classes - 1, pictures // 10)
    others = class_sizes(rest, classes - 1, True)
    return [pictures - rest, *others]


def draw_pairs(random: Any, sizes: list[int], apart: float, drop: float, group: int) -> tuple[Any, Any]:
    """Return gained and lost pictures of each class; those of a group are alike."""
    gained, lost = np.zeros((DRAWS, len(sizes))), np.zeros((DRAWS, len(sizes)))
    for number, size in enumerate(sizes):
        shares = [(apart - drop) / 2, (apart + drop) / 2, 1 - apart]
        drawn = group * random.multinomial(max(1, size // group) if size else 0, shares, size=DRAWS)
        gained[:, number], lost[:, number] = drawn[:, 0], drawn[:, 1]
    return gained, lost


def judge(gained: Any, lost: Any, sizes: list[int], group: int) -> tuple[Any, Any]:
    """Return which draws `not_worse` and `class_drop` refuse."""
    pictures = np.array([group * max(1, size // group) if size else 0 for size in sizes])
    worse = shown_worse(gained.sum(axis=1), lost.sum(axis=1), pictures.sum(), group, LEVEL, 0)
    judged = pictures >= MIN_CLASS_PICTURES
    dropped = np.zeros(len(worse), bool)
    if judged.any():
        level = LEVEL / judged.sum()
        dropped = shown_worse(
            gained[:, judged], lost[:, judged], pictures[judged], group, level, GATE.max_class_drop
        ).any(axis=1)
    return worse, dropped


def check_against_rules(random: Any) -> None:
    """Make sure that the closed form here and the rules of the gate agree on 300 drawn tables."""
    for _ in range(300):
        sizes, group = random.integers(4, 60, 3).tolist(), int(random.choice([1, 3]))
        sizes = [group * size for size in sizes]
        drawn = [random.multinomial(size // group, [0.1, 0.25, 0.65]) * group for size in sizes]
        gained, lost = (np.array([[part[side] for part in drawn]]) for side in (0, 1))
        classes = {
            str(number): ClassPairs(
                pictures=size, gained=int(part[0]), lost=int(part[1]), design_effect=float(group)
            )
            for number, (size, part) in enumerate(zip(sizes, drawn, strict=True))
        }
        names = tuple(map(str, range(10_000)))
        comparison = Comparison(
            pictures=sum(sizes),
            gained=names[: int(gained.sum())],
            lost=names[: int(lost.sum())],
            difference=0,
            interval=(0, 0),
            p_value=1,
            design_effect=float(group),
            classes=classes,
        )
        evaluation = replace(EMPTY, champion=METRICS, comparison=comparison)
        expected = [judge_not_worse(evaluation, GATE), judge_class_drop(evaluation, GATE)]
        refused = [bool(each[0]) for each in judge(gained, lost, sizes, group)]
        if [rule.verdict is Verdict.FAILED for rule in expected] != refused:
            raise AssertionError(f"the simulation does not judge as the gate does: {sizes}, {drawn}")


METRICS = Metrics(accuracy=1, accuracy_ci95=(0, 1), loss=0, test_pictures=1, confusion={})
EMPTY = Evaluation(job="", classes=(), candidate=METRICS)


def simulate_equal_models() -> Iterator[str]:
    """Yield how often equally good models are refused: the worst cell of each number of pictures."""
    yield row("pictures", "worst cell", "`not_worse`", "`class_drop`", "either", "mean of all cells")
    yield row("---:", "---", *["---:"] * 4)
    random = np.random.default_rng(1)
    for pictures in SIZES:
        cells = []
        for apart, classes, is_equal, group in itertools.product(APART, CLASSES, (True, False), (1, 3)):
            sizes = class_sizes(pictures, classes, is_equal)
            worse, dropped = judge(*draw_pairs(random, sizes, apart, 0, group), sizes, group)
            cells.append(
                ((worse | dropped).mean(), worse.mean(), dropped.mean(), (apart, classes, is_equal, group))
            )
        either, worse, dropped, (apart, classes, is_equal, group) = max(cells)
        name = (
            f"{apart:.0%} told apart, {classes} classes {'equal' if is_equal else '9:1'}, groups of {group}"
        )
        mean = float(np.mean([cell[0] for cell in cells]))
        yield row(pictures, name, f"{worse:.1%}", f"{dropped:.1%}", f"{either:.1%}", f"{mean:.1%}")


def simulate_power() -> Iterator[str]:
    """Yield how often a model that is ten points worse is refused by `not_worse`: 12 % lost, 2 % gained."""
    yield row("pictures", "refused")
    yield row("---:", "---:")
    random = np.random.default_rng(2)
    for pictures in (40, 80, 200):
        worse, _ = judge(*draw_pairs(random, [pictures], 0.14, 0.10, 1), [pictures], 1)
        yield row(pictures, f"{worse.mean():.0%}")


@cache
def is_chance(hits_first: int, many: int, few: int, answered_first: int) -> bool:
    """Return whether `informative` refuses two classes' answers: Fisher's exact test, and a silent class."""
    answered_few = many + few - answered_first
    silent = (few >= MIN_CLASS_PICTURES and answered_few == 0) or answered_first == 0
    p_value = hypergeom.sf(hits_first - 1, many + few, many, answered_first)
    return bool(silent or p_value > LEVEL)


def simulate_informative() -> Iterator[str]:
    """Yield how often useless models pass `informative`, and how often a good one is refused."""
    yield row("pictures", "classes", "answers at random, passed", "recall .97 and .90, refused")
    yield row("---:", "---", "---:", "---:")
    random = np.random.default_rng(3)
    for pictures in SIZES:
        for name, share in (("equal", 0.5), ("9:1", 0.1)):
            few = round(share * pictures)
            many = pictures - few
            rates = []
            for right_first, right_few in ((1 - share, share), (0.97, 0.90)):
                hits = random.binomial(many, right_first, DRAWS)
                others = few - random.binomial(few, right_few, DRAWS)
                refused = [
                    is_chance(int(a), many, few, int(a + b)) for a, b in zip(hits, others, strict=True)
                ]
                rates.append(float(np.mean(refused)))
            yield row(pictures, name, f"{1 - rates[0]:.1%}", f"{rates[1]:.1%}")


def retrain(random: Any, pictures: int, churn: tuple[float, float], *, with_ratchet: bool) -> int:
    """Return how many of 20 retrains are let through, each a point worse than what serves."""
    serving = random.random(pictures) < 0.95
    best = serving
    passed = 0
    for _ in range(RETRAINS):
        accuracy = 0.95 - 0.01 * passed
        lost, gained = churn[0] / accuracy, churn[1] / (1 - accuracy)
        drawn = random.random(pictures)
        candidate = np.where(serving, drawn >= lost, drawn < gained)
        others = [serving, best] if with_ratchet else [serving]
        if any(is_worse(candidate, other) for other in others):
            continue
        passed, serving = passed + 1, candidate
        best = candidate if candidate.sum() > best.sum() else best
    return passed


def is_worse(candidate: Any, other: Any) -> bool:
    """Return whether `not_worse` refuses."""
    gained, lost = int((candidate & ~other).sum()), int((other & ~candidate).sum())
    return lost > gained and (lost - gained) / math.sqrt(lost + gained) > NormalDist().inv_cdf(1 - LEVEL)


def simulate_retrains() -> Iterator[str]:
    """Yield what 20 retrains lose that are a point worse each, with and without the ratchet."""
    yield row("test pictures", "lost and gained each time", "points lost without `ratchet`", "with it")
    yield row("---:", "---", "---:", "---:")
    for pictures, churn in itertools.product((100, 300, 1000), CHURN):
        random = np.random.default_rng(4)
        points = [
            float(np.mean([retrain(random, pictures, churn, with_ratchet=is_on) for _ in range(REPEATS)]))
            for is_on in (False, True)
        ]
        yield row(pictures, f"{churn[0]:.0%}, {churn[1]:.0%}", *(f"{each:.1f}" for each in points))


def measure() -> str:
    """Return the section of docs/performance.md."""
    check_against_rules(np.random.default_rng(0))
    simulations = (
        simulate_equal_models,
        simulate_power,
        simulate_informative,
        simulate_retrains,
        retrain_rows,
    )
    equal, power, informative, retrains, flaps = ("\n".join(simulate()) for simulate in simulations)
    apart, classes = ", ".join(f"{share:.0%}" for share in APART), ", ".join(map(str, CLASSES))
    return f"""## Default rules of the gate

By simulation (`python -m benchmarks gate`), {DRAWS:,} made-up test sets a cell. The closed form that
judges them is held to the gate's own rules first.

Models exactly as good as the champion, refused. For each number of pictures the worst of
{len(APART) * len(CLASSES) * 4} cells: told apart {apart}; {classes} classes, equal or 9:1;
pictures alone or in groups of 3 that are right or wrong together. The standard error of a rate of
6 % is 0.2 %.

{equal}

Models that are ten points worse (12 % of the pictures lost, 2 % gained), refused by `not_worse`:

{power}

`informative`: answers drawn by the share of the classes whatever the picture, and a good model.

{informative}

Twenty retrains, each truly a point less accurate than what serves, mean of {REPEATS} repetitions. How
much the ratchet saves depends on the churn of a retrain: the more answers differ, the less 100
pictures can show. A retrain of the first row loses none of the 100 pictures 37 % of the time. It
then answers as the champion does and passes whatever the rule, so that no ratchet loses less than
7.3.

{retrains}

Real pictures: {RETRAINS} retrains of the default head on the same training pictures, each with another
seed, held by the gate's own rules against what serves and the best so far. Refused by:

{flaps}
"""


if __name__ == "__main__":
    print(measure())
