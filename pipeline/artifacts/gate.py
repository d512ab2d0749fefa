"""What the gate decided, and by which rules."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from pipeline.artifacts.metrics import Interval, Metrics, Number
from pipeline.artifacts.record import Record

FIRST_VERSION_RULE = "first_version"
COMPARED_PICTURES_RULE = "compared_pictures"
CLASSES_CHANGED_RULE = "classes_changed"
SPLIT_CHANGED_RULE = "split_changed"
LATENCY_RULE = "latency_ms.p95"
PERSONS_RULES = (FIRST_VERSION_RULE, COMPARED_PICTURES_RULE, CLASSES_CHANGED_RULE, SPLIT_CHANGED_RULE)


class Verdict(StrEnum):
    """The result of one rule."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    PENDING = "pending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(Record):
    """One rule and its result.

    Args:
        key: Where the rule is in the gate's configuration, e.g. `absolute.accuracy.min`.
        verdict: Passed, failed, skipped (there is nothing to judge) or pending (a later step judges).
        text: The rule for people, led by its key.
        value: What was measured.
        limit: What was asked.
        interval: Of the value, where one is known; 95 % unless the text says otherwise.
        subject: The class or slice that it is about.
        counts: Whether the rule is about what was measured, so that a gate with it has looked at the model.
    """

    key: str
    verdict: Verdict
    text: str
    value: Number | None = None
    limit: Number | None = None
    interval: Interval | None = None
    subject: str | None = None
    counts: bool = False

    @property
    def is_skipped(self) -> bool:
        """Whether there was nothing to judge."""
        return self.verdict is Verdict.SKIPPED

    def failed(self, why: str) -> Rule:
        """Return the rule as failed for another reason."""
        return replace(self, verdict=Verdict.FAILED, text=f"{self.text}, and {why}")


def add_name(reason: str, name: str | None, *, user: str) -> str:
    """Return a reason with the name that somebody typed, where it is not the signed-in user's."""
    return reason if name is None or name in ("", user) else f"{reason} (named: {name})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Override(Record):
    """Who took a version in spite of its gate, and why."""

    by: str
    reason: str

    def signed_by(self, user: str | None) -> Override:
        """Return the override under the signed-in user; the name that was typed becomes a remark."""
        return self if user is None else Override(by=user, reason=add_name(self.reason, self.by, user=user))


@dataclass(frozen=True, slots=True, kw_only=True)
class GateDecision(Record):
    """What the gate decided.

    Args:
        accepted: Whether the model may be deployed.
        reasons: Each rule that failed, led by its key; empty unless refused or overridden.
        metrics: The candidate's.
        thresholds: The limits by key.
        baseline: The champion's metrics on the same pictures, None when there is nothing to compare with.
        note: What the baseline is, or why there is none.
        rules: Every rule with its value, limit, interval and verdict.
        override: Who took the version in spite of the reasons; None unless it was overridden.
        switched_off: Rules that are in force by default and that the gate switched off.
    """

    accepted: bool
    reasons: tuple[str, ...]
    metrics: Metrics
    thresholds: dict[str, Number]
    baseline: Metrics | None
    note: str
    rules: tuple[Rule, ...] = field(default=())
    override: Override | None = None
    switched_off: tuple[str, ...] = ()

    def with_rule(self, rule: Rule, override: Override | None = None) -> GateDecision:
        """Return the decision once a pending rule was judged; a failed one refuses, unless overridden.

        Args:
            rule: The rule with its verdict.
            override: Who takes the version in spite of what fails, if the decision needed no override so far.
        """
        rules = tuple(rule if each.key == rule.key else each for each in self.rules)
        if rule.verdict is not Verdict.FAILED:
            return replace(self, rules=rules)
        override = self.override or override
        return replace(
            self,
            accepted=self.accepted and override is not None,
            reasons=(*self.reasons, rule.text),
            rules=rules,
            override=override,
        )

    @property
    def waits_for_person(self) -> bool:
        """Whether it is accepted only if a person approves."""
        return any(rule.key in PERSONS_RULES and rule.verdict is Verdict.PENDING for rule in self.rules)
