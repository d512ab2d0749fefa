"""The rules that are always in force beside a gate's own, each unless it is switched off by its name.

They judge differences that the test pictures can show: a model as good as its champion passes each of them at
least about 95 % of the time, however few pictures there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.artifacts.evaluation import Comparison, Evaluation
from pipeline.artifacts.gate import Rule, Verdict
from pipeline.config import GateConfig
from pipeline.evaluate.risk import highest_difference
from pipeline.evaluate.rules import why_not_compared

LEVEL = 0.05  # of each rule: how often it refuses what it should not, at most
MIN_CLASS_PICTURES = 8  # below that, the pictures of a class show nothing about it


def judge_defaults(evaluation: Evaluation, gate: GateConfig) -> Iterator[Rule]:
    """Yield the default rules with their verdicts."""
    for name, judge in RULES.items():
        if getattr(gate.defaults, name):
            yield judge(evaluation, gate)
        else:
            text = f"{name}: switched off by `gate.defaults`"
            yield Rule(key=name, verdict=Verdict.SKIPPED, text=text)


def judge_informative(evaluation: Evaluation, gate: GateConfig) -> Rule:
    """Fail if answers are not shown to depend on the labels, or a class is never answered.

    A test set so small that not even right answers could show it is not judged.
    """
    key, chance = "informative", evaluation.chance
    silent = [
        label
        for label, row in evaluation.candidate.per_class.items()
        if row.support >= MIN_CLASS_PICTURES and row.predicted == 0
    ]
    judged = chance if chance is not None and chance.lowest_p_value <= LEVEL else None
    if judged is None and not silent:
        few = "these test pictures are too few to show it"
        return _skip(key, few if chance else "the evaluation was written before this rule")
    texts, p_value = [f"no picture is taken for {label}" for label in silent], None
    if judged is not None:
        p_value = judged.p_value
        texts.insert(0, f"answers regardless of the labels hit as often with probability {p_value:.3g}")
    is_chance = p_value is not None and p_value > LEVEL
    verdict = Verdict.FAILED if silent or is_chance else Verdict.PASSED
    return _rule(key, verdict, "; ".join(texts), value=p_value, limit=LEVEL)


def judge_not_worse(evaluation: Evaluation, gate: GateConfig) -> Rule:
    """Fail if the candidate is shown to be less accurate than the champion."""
    key, comparable = "not_worse", evaluation.comparable
    if comparable is None or comparable.comparison is None:
        return _skip(key, why_not_compared(evaluation))
    return _judge_accuracy(key, comparable.comparison, "the champion")


def judge_class_drop(evaluation: Evaluation, gate: GateConfig) -> Rule:
    """Fail if a class is shown to be worse than with the champion by more than the allowed drop."""
    key, comparable, allowed = "class_drop", evaluation.comparable, gate.max_class_drop
    if comparable is None or comparable.comparison is None:
        return _skip(key, why_not_compared(evaluation))
    classes = comparable.comparison.classes
    judged = {label: pairs for label, pairs in classes.items() if pairs.pictures >= MIN_CLASS_PICTURES}
    few = sorted(set(classes) - set(judged))
    left_out = f"; not judged, with fewer than {MIN_CLASS_PICTURES} pictures: {', '.join(few)}" if few else ""
    if not judged:
        return _skip(key, f"no class has {MIN_CLASS_PICTURES} pictures to compare")
    bounds = {
        label: highest_difference(
            pairs.gained, pairs.lost, pairs.pictures, pairs.design_effect, LEVEL / len(judged)
        )
        for label, pairs in judged.items()
    }
    worse = {label: bound for label, bound in bounds.items() if bound < -allowed}
    label = min(bounds, key=lambda name: bounds[name])
    if worse:
        drops = (f"{name} by at least {-bound:.4f}" for name, bound in sorted(worse.items()))
        text = f"recall dropped, beyond the {allowed:g} allowed: {', '.join(drops)}{left_out}"
        return _rule(key, Verdict.FAILED, text, value=bounds[label], limit=-allowed, subject=label)
    text = f"no class is shown to have dropped by more than {allowed:g}{left_out}"
    return _rule(key, Verdict.PASSED, text, value=bounds[label], limit=-allowed, subject=label)


def judge_ratchet(evaluation: Evaluation, gate: GateConfig) -> Rule:
    """Fail if the candidate is shown to be less accurate than the most accurate version of late."""
    key, comparable = "ratchet", evaluation.comparable
    if comparable is None:
        return _skip(key, why_not_compared(evaluation))
    if comparable.comparison is not None and comparable.comparison.changed == 0:
        return _rule(key, Verdict.PASSED, "every answer is the champion's")
    if evaluation.reference is None:
        return _skip(key, "no other version of the last 365 days was more accurate than the champion")
    version, comparison = evaluation.reference.version, evaluation.reference.comparison
    return _judge_accuracy(key, comparison, f"{version}, the most accurate version of the last 365 days")


def _judge_accuracy(key: str, pairs: Comparison, other: str) -> Rule:
    bound = highest_difference(len(pairs.gained), len(pairs.lost), pairs.pictures, pairs.design_effect, LEVEL)
    verdict, relation = (Verdict.FAILED, "below") if bound < 0 else (Verdict.PASSED, "not below")
    return _rule(
        key,
        verdict,
        f"on {pairs.pictures} pictures accuracy differs by {pairs.difference:+.4f} from {other}, with "
        f"{100 * (1 - LEVEL):g} % confidence by at most {bound:+.4f}, which is {relation} 0",
        value=bound,
        limit=0,
    )


def _skip(key: str, why: str) -> Rule:
    return Rule(key=key, verdict=Verdict.SKIPPED, text=f"{key}: not judged, {why}")


def _rule(
    key: str,
    verdict: Verdict,
    text: str,
    *,
    value: float | None = None,
    limit: float | None = None,
    subject: str | None = None,
) -> Rule:
    return Rule(key=key, verdict=verdict, text=f"{key}: {text}", value=value, limit=limit, subject=subject)


RULES: dict[str, Callable[[Evaluation, GateConfig], Rule]] = {
    "informative": judge_informative,
    "not_worse": judge_not_worse,
    "class_drop": judge_class_drop,
    "ratchet": judge_ratchet,
}
