"""How often the gate's default rules refuse real models that differ by their seeds only.

    python -m benchmarks.gate_retrains

Needs the shared pictures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.real_pictures import RealPictures, read_pictures
from pipeline.artifacts.evaluation import Comparison, Evaluation, Reference
from pipeline.artifacts.gate import Verdict
from pipeline.artifacts.metrics import Metrics
from pipeline.artifacts.training import HeadParameters
from pipeline.config import GateConfig
from pipeline.evaluate.compare import compare_pairs
from pipeline.evaluate.default_rules import RULES
from pipeline.trainer.head import train_head

SETS = ("kangaroo_raccoon", "sign_digits", "opera_capitol")
RETRAINS = 20
TEST_SHARE = 0.2
ON_THE_CHAMPION = ("not_worse", "class_drop", "ratchet")
GATE = GateConfig(min_test_pictures=1)
UNMEASURED = Metrics(accuracy=1, accuracy_ci95=(0, 1), loss=0, test_pictures=1, confusion={})


def retrain_rows() -> Iterator[str]:
    """Yield the rows of the table, its head first."""
    rules = " | ".join(f"`{name}`" for name in ON_THE_CHAMPION)
    yield f"| pictures of | test pictures | accuracies | answers changed | {rules} | any |"
    yield "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |"
    for name in SETS:
        yield _describe_retrains(name, read_pictures(name))


def _describe_retrains(name: str, pictures: RealPictures) -> str:
    is_test = np.random.default_rng(0).random(len(pictures.labels)) < TEST_SHARE
    truth = pictures.labels[is_test]
    answers = [_answer(pictures, is_test, seed) for seed in range(RETRAINS + 1)]
    refused: Counter[str] = Counter()
    changed, serving, best = [], answers[0], answers[0]
    for candidate in answers[1:]:
        failed = find_refusals(candidate, serving, best, truth)
        refused.update([*failed, *(["any"] if failed else [])])
        changed.append((candidate != serving).mean())
        if not failed:
            serving = candidate
            best = max(best, candidate, key=lambda each: (each == truth).sum())
    accuracies = [float((each == truth).mean()) for each in answers]
    cells = (
        f"`{name}`",
        len(truth),
        f"{min(accuracies):.3f} to {max(accuracies):.3f}",
        f"{np.mean(changed):.1%}",
        *(refused[rule] for rule in (*ON_THE_CHAMPION, "any")),
    )
    return f"| {' | '.join(map(str, cells))} |"


def _answer(pictures: RealPictures, is_test: Any, seed: int) -> Any:
    """Return the class that a head of a seed takes each test picture for."""
    features, labels = pictures.features[~is_test], pictures.labels[~is_test]
    head, _ = train_head(features, labels, len(pictures.classes), HeadParameters(seed=seed))
    return np.asarray(head.predict(pictures.features[is_test])).argmax(axis=1)


def find_refusals(candidate: Any, serving: Any, best: Any, truth: Any) -> list[str]:
    """Return the default rules on the champion that refuse a candidate.

    Args:
        candidate: Class that it takes each picture for.
        serving: The same of the champion.
        best: The same of the most accurate version of late.
        truth: Class of each picture.
    """
    evaluation = replace(
        Evaluation(job="", classes=(), candidate=UNMEASURED, champion=UNMEASURED, champion_version="v"),
        comparison=_compare(candidate, serving, truth),
        reference=Reference(version="best", comparison=_compare(candidate, best, truth)),
    )
    return [name for name in ON_THE_CHAMPION if RULES[name](evaluation, GATE).verdict is Verdict.FAILED]


def _compare(candidate: Any, other: Any, truth: Any) -> Comparison:
    return compare_pairs(
        [str(number) for number in range(len(truth))],
        (candidate == truth).tolist(),
        (other == truth).tolist(),
        groups=range(len(truth)),
        labels=[str(label) for label in truth],
        changed=int((candidate != other).sum()),
    )


if __name__ == "__main__":
    print("\n".join(retrain_rows()))
