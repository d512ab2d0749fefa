"""The decision whether a model may be deployed: pure, and never an error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.config import GateConfig
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.metrics import Metrics
from pipeline.evaluate.rules import Rule, Verdict, judge_rules
from pipeline.types import JsonDict

FIRST_VERSION = "first_version"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateDecision:
    """What the gate said, and by what.

    Args:
        accepted: Whether the model may be deployed.
        reasons: Each rule that failed, led by its key; empty unless refused or overridden.
        metrics: The candidate's.
        thresholds: The limits by key.
        baseline: The champion's metrics on the same pictures, None when there is nothing to compare with.
        note: What the baseline is, or why there is none.
        rules: Every rule with its value, limit, interval and verdict.
        override: Who took the version in spite of the reasons, and why; None unless somebody did.
    """

    accepted: bool
    reasons: tuple[str, ...]
    metrics: Metrics
    thresholds: JsonDict
    baseline: Metrics | None
    note: str
    rules: tuple[Rule, ...] = field(default=())
    override: dict[str, str] | None = None

    @property
    def waits_for_person(self) -> bool:
        """Whether it is accepted only if a person approves."""
        return any(rule.key == FIRST_VERSION and rule.verdict is Verdict.PENDING for rule in self.rules)

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        return {
            "accepted": self.accepted,
            "reasons": list(self.reasons),
            "metrics": self.metrics.to_dict(),
            "thresholds": self.thresholds,
            "baseline": self.baseline.to_dict() if self.baseline else None,
            "note": self.note,
            "rules": [rule.to_dict() for rule in self.rules],
            "override": self.override,
        }

    @classmethod
    def from_dict(cls, value: JsonDict) -> GateDecision:
        """Read what `to_dict` wrote, now or before there were rules."""
        metrics, baseline = Metrics.from_dict(value["metrics"]), value["baseline"]
        return cls(
            accepted=value["accepted"],
            reasons=tuple(value["reasons"]),
            metrics=metrics,
            thresholds=value["thresholds"],
            baseline=Metrics.from_dict(baseline) if baseline else None,
            note=value["note"],
            rules=tuple(Rule.from_dict(rule) for rule in value.get("rules", ())),
            override=value.get("override"),
        )


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
    key = FIRST_VERSION
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


def _find_override(failed: list[Rule], gate: GateConfig) -> dict[str, str] | None:
    forbidden = gate.first_version == "refuse" and any(rule.key == FIRST_VERSION for rule in failed)
    if not failed or forbidden or gate.override_by is None or gate.override_reason is None:
        return None
    return {"by": gate.override_by.strip(), "reason": gate.override_reason.strip()}
