"""Is the gate honest? Its error rates and the coverage of its intervals, by simulation.

    python -m benchmarks.gate_simulation [SETS]

Prints its section of docs/performance.md. Takes about five minutes on two cores.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from pipeline.evaluate.answers import Answers
from pipeline.evaluate.bootstrap import bootstrap_intervals
from pipeline.evaluate.compare import design_effect, difference_interval, refusal_risk
from pipeline.evaluate.metrics import wilson_interval
from pipeline.evaluate.scores import average_over_classes, class_scores

SETS = 2000
CONFIDENCE = 0.95
BOOTSTRAP_REPLICATES = 400
# Pictures, share on which exactly one of the two models is right, margin.
COMPARISONS = (
    (200, 0.10, 0.05),
    (500, 0.10, 0.03),
    (1000, 0.05, 0.02),
    (1000, 0.20, 0.03),
    (3000, 0.10, 0.02),
)
CLASS_SHARES = np.array([0.5, 0.3, 0.2])
SURE = np.array([[0.90, 0.06, 0.04], [0.10, 0.80, 0.10], [0.10, 0.15, 0.75]])


def row(*cells: Any) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(str(cell) for cell in cells)} |"


@cache
def is_accepted(gained: int, lost: int, pictures: int, margin: float, effect: float = 1.0) -> bool:
    """Return what the non-inferiority rule says."""
    interval = difference_interval(gained, lost, pictures, confidence=2 * CONFIDENCE - 1, effect=effect)
    return interval[0] >= -margin


def simulate_rule(sets: int) -> Iterator[str]:
    """Yield the false refusals of equally good models and the false accepts of models worse by the margin."""
    yield row("pictures", "told apart", "margin", "false accepts", "stated", "false refusals", "stated")
    yield row(*["---:"] * 7)
    random = np.random.default_rng(1)
    for pictures, apart, margin in COMPARISONS:
        rates = []
        for drop in (margin, 0.0):
            shares = [(apart - drop) / 2, (apart + drop) / 2, 1 - apart]
            drawn = random.multinomial(pictures, shares, size=sets)
            accepted = [is_accepted(int(a), int(b), pictures, margin) for a, b, _ in drawn]
            rates.append(float(np.mean(accepted)))
        stated = refusal_risk(apart * pictures, pictures, margin=margin, confidence=CONFIDENCE)
        yield row(
            pictures,
            f"{apart:.0%}",
            margin,
            f"{rates[0]:.1%}",
            f"at most {1 - CONFIDENCE:.1%}",
            f"{1 - rates[1]:.1%}",
            f"{stated:.1%}",
        )


def simulate_groups(sets: int) -> Iterator[str]:
    """Yield the false accepts where near duplicates are right or wrong together, with and without groups."""
    yield row("pictures", "group size", "margin", "false accepts", "if groups were ignored")
    yield row(*["---:"] * 5)
    random = np.random.default_rng(2)
    pictures, apart, margin = 600, 0.1, 0.04
    for size in (2, 4):
        shares, kept, ignored = [(apart - margin) / 2, (apart + margin) / 2, 1 - apart], [], []
        groups = np.arange(pictures) // size
        for _ in range(sets):
            values = random.choice([1, -1, 0], p=shares, size=pictures // size)[groups]
            gained, lost = int((values == 1).sum()), int((values == -1).sum())
            effect = round(design_effect(values.tolist(), groups.tolist()), 2)
            kept.append(is_accepted(gained, lost, pictures, margin, effect))
            ignored.append(is_accepted(gained, lost, pictures, margin))
        yield row(pictures, size, margin, f"{np.mean(kept):.1%}", f"{np.mean(ignored):.1%}")


def simulate_wilson(sets: int) -> Iterator[str]:
    """Yield how often Wilson's 95 % interval holds the truth, averaged over p in [0.5, 0.99]."""
    yield row("pictures", "coverage of Wilson's interval")
    yield row("---:", "---:")
    random = np.random.default_rng(3)
    shares = np.linspace(0.5, 0.99, 50)
    for pictures in (10, 20, 40, 200, 1000):
        bounds = np.array([wilson_interval(hits, pictures) for hits in range(pictures + 1)])
        hits = random.binomial(pictures, shares, size=(sets, len(shares)))
        held = (bounds[hits, 0] <= shares) & (shares <= bounds[hits, 1])
        yield row(pictures, f"{held.mean():.1%}")


def draw_answers(random: np.random.Generator, pictures: int, group: int) -> Answers:
    """Return the answers of a made-up model; the pictures of a group are alike."""
    singles = -(-pictures // group)
    groups = np.arange(pictures) // group
    truth = random.choice(len(CLASS_SHARES), p=CLASS_SHARES, size=singles)[groups]
    chance = random.random(singles)[groups]
    predicted = (chance[:, None] > np.cumsum(SURE[truth], axis=1)).sum(axis=1)
    probabilities = np.full((pictures, 3), 0.1)
    probabilities[np.arange(pictures), predicted] = 0.8
    return Answers(
        keys=tuple(map(str, range(pictures))),
        classes=("a", "b", "c"),
        truth=truth,
        probabilities=probabilities,
        predicted=predicted,
        groups=groups,
    )


def true_values() -> dict[str, float]:
    """Return the metrics of the made-up model on endlessly many pictures."""
    table = CLASS_SHARES[:, None] * SURE
    f1 = class_scores(table.diagonal(), table.sum(axis=0), table.sum(axis=1))[2]
    macro, weighted = average_over_classes(f1, CLASS_SHARES)
    hits = table.trace()
    return {
        "macro_f1": float(macro),
        "weighted_f1": float(weighted),
        "loss": float(-hits * np.log(0.8) - (1 - hits) * np.log(0.1)),
    }


def simulate_bootstrap(sets: int) -> Iterator[str]:
    """Yield how often the group bootstrap's 95 % intervals hold the truth."""
    truth = true_values()
    yield row("pictures", "group size", *(f"coverage of {name}" for name in truth))
    yield row(*["---:"] * (2 + len(truth)))
    random = np.random.default_rng(4)
    for pictures, group in ((40, 1), (200, 1), (500, 1), (1000, 1), (1500, 3)):
        held = dict.fromkeys(truth, 0)
        for _ in range(sets):
            answers = draw_answers(random, pictures, group)
            intervals, _f1 = bootstrap_intervals(answers, replicates=BOOTSTRAP_REPLICATES)
            for name, value in truth.items():
                interval = intervals[name]
                held[name] += interval is not None and interval[0] <= value <= interval[1]
        yield row(pictures, group, *(f"{held[name] / sets:.1%}" for name in truth))


def measure(sets: int = SETS) -> str:
    """Return the section of docs/performance.md."""
    rule, groups, wilson, bootstrap = (
        "\n".join(simulate(sets))
        for simulate in (simulate_rule, simulate_groups, simulate_wilson, simulate_bootstrap)
    )
    return f"""## Statistical honesty of the gate

By simulation, {sets:,} made-up test sets a line (`python -m benchmarks.gate_simulation`), 95 % confidence. The standard error of a rate of 5 % is {np.sqrt(0.0475 / sets):.1%}.

The non-inferiority rule. *False accepts*: candidates that are worse by exactly the margin. *False refusals*: candidates exactly as good as the champion; the stated rate is what the
gate itself tells (`refusal_risk`), from the share of pictures on which exactly one of the two is right.

{rule}

Near duplicates are right or wrong together. The design effect keeps the level; counted as if they were single pictures, they would not:

{groups}

Wilson's interval, averaged over p from 0.5 to 0.99:

{wilson}

The group bootstrap's percentile intervals, for a model of three classes of unequal size:

{bootstrap}
"""  # noqa: E501


if __name__ == "__main__":
    print(measure(*map(int, sys.argv[1:2])))
