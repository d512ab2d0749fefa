"""The decision whether a model may be deployed: pure, and never an error."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.artifacts.evaluation import Evaluation, SharedClasses
from pipeline.artifacts.gate import (
    CLASSES_CHANGED_RULE,
    COMPARED_PICTURES_RULE,
    FIRST_VERSION_RULE,
    SPLIT_CHANGED_RULE,
    GateDecision,
    Override,
    Rule,
    Verdict,
)
from pipeline.config import GateConfig
from pipeline.config.gate import ChangeAction
from pipeline.evaluate.default_rules import judge_defaults
from pipeline.evaluate.evaluation import MIN_COMPARED
from pipeline.evaluate.rules import judge_rules


def decide_gate(
    evaluation: Evaluation, gate: GateConfig, *, split_changed: ChangeAction = "require_approval"
) -> GateDecision:
    """Hold a candidate's evaluation against the gate's rules.

    Rules on the champion are skipped, and say so, while there is none to compare with; where no other rule
    has been judged then, they fail: a gate never passes what it has not looked at.

    Args:
        evaluation: Of the candidate and its champion.
        gate: The rules of the classifier, with the override of this run if it has one.
        split_changed: The classifier's `dataset.split_changed`.

    Returns:
        The decision with every rule, and every one that failed, not only the first.
    """
    rules = [*judge_rules(evaluation, gate)]
    if not any(rule.counts for rule in rules):
        rules = [
            rule.failed("no other rule looks at this model") if rule.is_skipped else rule for rule in rules
        ]
    rules += judge_defaults(evaluation, gate)
    rules += _judge_first_version(evaluation, gate)
    rules += _judge_comparable(evaluation, gate)
    classes, split = evaluation.class_changes, evaluation.split_changes
    if classes is not None:
        what = "this gate takes no version with other classes"
        rules.append(_judge_change(CLASSES_CHANGED_RULE, classes.text, what, gate.classes_changed, gate))
    if split is not None:
        what = "this dataset takes no other way to choose test pictures"
        rules.append(_judge_change(SPLIT_CHANGED_RULE, split.text, what, split_changed, gate))
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
        switched_off=gate.defaults.switched_off,
    )


def _judge_first_version(evaluation: Evaluation, gate: GateConfig) -> Iterator[Rule]:
    key = FIRST_VERSION_RULE
    if evaluation.champion_version is not None or gate.first_version == "absolute_only":
        return
    if gate.first_version == "refuse":
        text = f"{key}: this gate takes no first version from a run"
        yield Rule(key=key, verdict=Verdict.FAILED, text=text)
    else:
        yield _ask_person(key, "a first version of a model", gate)


def _judge_comparable(evaluation: Evaluation, gate: GateConfig) -> Iterator[Rule]:
    """Ask a person where test pictures cannot be compared with the champion and too few others are left."""
    shared = evaluation.shared
    if shared is not None and shared.pictures < min(MIN_COMPARED, evaluation.candidate.test_pictures):
        yield _ask_person(COMPARED_PICTURES_RULE, _describe_left_out(evaluation, shared), gate)


def _describe_left_out(evaluation: Evaluation, shared: SharedClasses) -> str:
    few = f"{shared.pictures} are fewer than the {MIN_COMPARED} that a comparison takes"
    unknown = [label for label in evaluation.classes if label not in shared.classes]
    reasons = []
    if unknown:
        reasons.append(f"the champion does not know the classes {', '.join(unknown)} as they are now")
    if shared.trained_on:
        reasons.append(f"the champion was trained on {shared.trained_on} of the test pictures")
    return f"{' and '.join(reasons)}, and the other {few}"


def _judge_change(key: str, text: str, refusal: str, action: ChangeAction, gate: GateConfig) -> Rule:
    if action == "allow":
        return Rule(key=key, verdict=Verdict.PASSED, text=f"{key}: {text}")
    if action == "refuse":
        return Rule(key=key, verdict=Verdict.FAILED, text=f"{key}: {refusal}: {text}")
    return _ask_person(key, text, gate)


def _ask_person(key: str, why: str, gate: GateConfig) -> Rule:
    """Wait for a person's approval; an override is one, and is recorded beside the failed rule."""
    if gate.override_by is not None:
        return Rule(key=key, verdict=Verdict.FAILED, text=f"{key}: needs a person: {why}")
    return Rule(key=key, verdict=Verdict.PENDING, text=f"{key}: waits for a person's approval: {why}")


def _find_override(failed: list[Rule], gate: GateConfig) -> Override | None:
    forbidden = gate.first_version == "refuse" and any(rule.key == FIRST_VERSION_RULE for rule in failed)
    return read_override(gate) if failed and not forbidden else None


def read_override(gate: GateConfig) -> Override | None:
    """Return who takes this run's version in spite of its gate; None if nobody does."""
    if gate.override_by is None or gate.override_reason is None:
        return None
    return Override(by=gate.override_by.strip(), reason=gate.override_reason.strip())
