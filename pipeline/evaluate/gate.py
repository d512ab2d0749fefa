"""The decision whether a model may be deployed: pure, and never an error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.config import GateConfig
from pipeline.evaluate.metrics import Metrics
from pipeline.types import JsonDict


@dataclass(frozen=True, slots=True, kw_only=True)
class GateDecision:
    """What the gate said, and by what.

    Args:
        accepted: Whether the model may be deployed.
        reasons: Each rule that failed, led by its key; empty when accepted.
        metrics: The candidate's.
        thresholds: The rules.
        baseline: The champion's metrics on the same pictures, None when there is nothing to compare with.
        note: What the baseline is, or why there is none.
    """

    accepted: bool
    reasons: tuple[str, ...]
    metrics: Metrics
    thresholds: JsonDict
    baseline: Metrics | None
    note: str

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        return {
            "accepted": self.accepted,
            "reasons": list(self.reasons),
            "metrics": self.metrics.to_dict(),
            "thresholds": self.thresholds,
            "baseline": self.baseline.to_dict() if self.baseline else None,
            "note": self.note,
        }

    @classmethod
    def from_dict(cls, value: JsonDict) -> GateDecision:
        """Read what `to_dict` wrote."""
        metrics, baseline = Metrics.from_dict(value["metrics"]), value["baseline"]
        return cls(
            accepted=value["accepted"],
            reasons=tuple(value["reasons"]),
            metrics=metrics,
            thresholds=value["thresholds"],
            baseline=Metrics.from_dict(baseline) if baseline else None,
            note=value["note"],
        )


def decide_gate(metrics: Metrics, gate: GateConfig, *, baseline: Metrics | None, note: str) -> GateDecision:
    """Hold a candidate's metrics against the gate's rules.

    Args:
        metrics: Of the candidate.
        gate: The rules of the classifier.
        baseline: The champion's metrics on the same pictures, if there are any.
        note: What the baseline is, or why there is none.

    Returns:
        The decision with every rule that failed, not only the first.
    """
    reasons = []
    thresholds: dict[str, Any] = {"min_test_pictures": gate.min_test_pictures}
    if metrics.test_pictures < gate.min_test_pictures:
        reasons.append(
            f"min_test_pictures: {metrics.test_pictures} test pictures, the limit is {gate.min_test_pictures}"
        )
    for name, limit in sorted(gate.limits.items()):
        value = getattr(metrics, name)
        bounds = (("min", limit.min, "is below"), ("max", limit.max, "is above"))
        for bound, threshold, verb in bounds:
            if threshold is None:
                continue
            thresholds[f"absolute.{name}.{bound}"] = threshold
            kept = value >= threshold if bound == "min" else value <= threshold
            if not kept:  # also when the value is no number
                reasons.append(f"absolute.{name}.{bound}: {name} {value:.6g} {verb} the limit {threshold:g}")
    return GateDecision(
        accepted=not reasons,
        reasons=tuple(reasons),
        metrics=metrics,
        thresholds=thresholds,
        baseline=baseline,
        note=note,
    )
