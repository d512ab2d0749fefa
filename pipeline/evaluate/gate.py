"""The decision whether a model may be deployed: pure, and never an error."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.artifacts.evaluation import Evaluation
from pipeline.artifacts.gate import FIRST_VERSION_RULE, GateDecision, Override, Rule, Verdict
from pipeline.config import GateConfig
from pipeline.evaluate.rules import judge_rules


def decide_gate(evaluation: Evaluation, gate: GateConfig) -> GateDecision:
    """Hold a candidate's evaluation against the gate's rules.

    Rules on the champion are skipped, and say so, while there is none to compare with; where no other rule
    has been judged then, they fail: a gate never passes what it has not looked at.

    Args:
        evaluation: Of the candidate and its champion.
        gate: The rules of the classifier, with the override of this run if it has one.

    Returns:
        The decision with every rule, and every one that failed, not only the first.
    """
    rules = [*judge_rules(evaluation, gate)]
    if not any(rule.counts for rule in rules):
        rules = [
            rule.failed("no other rule looks at this model") if rule.is_skipped else rule for rule in rules
        ]
    rules += _judge_first_version(evaluation, gate)
    failed = [rule for rule in rules if rule.verdict is Verdict.FAILED]
    override = _find_override(failed, gate)
    return GateDecision(
        accepted=not failed or override is not None,
        reasons=tuple(rule.text for rule in failed),
        metrics=evaluation.candidate.headline(),
        thresholds={rule.key: rule.limit for rule in rules if rule.limit is not None},
        baseline=evaluation.champion.headline() if evaluation.champion else None,
        note=evaluation.note,
        rules=tuple(rules),
        override=override,
    )


def _judge_first_version(evaluation: Evaluation, gate: GateConfig) -> Iterator[Rule]:
    key = FIRST_VERSION_RULE
    if evaluation.champion_version is not None or gate.first_version == "absolute_only":
        return
    if gate.first_version == "refuse":
        text = f"{key}: this gate takes no first version from a run"
        yield Rule(key=key, verdict=Verdict.FAILED, text=text)
    elif gate.override_by is not None:
        text = f"{key}: a first version needs a person"
        yield Rule(key=key, verdict=Verdict.FAILED, text=text)
    else:
        text = f"{key}: waits for a person's approval, as the first version of a model"
        yield Rule(key=key, verdict=Verdict.PENDING, text=text)


def _find_override(failed: list[Rule], gate: GateConfig) -> Override | None:
    forbidden = gate.first_version == "refuse" and any(rule.key == FIRST_VERSION_RULE for rule in failed)
    if not failed or forbidden or gate.override_by is None or gate.override_reason is None:
        return None
    return Override(by=gate.override_by.strip(), reason=gate.override_reason.strip())
