"""Each rule of a gate, held against an evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from pipeline.artifacts.evaluation import Comparison, Evaluation, SliceMetrics
from pipeline.artifacts.gate import LATENCY_RULE, Rule, Verdict
from pipeline.artifacts.metrics import Interval, Metrics
from pipeline.config import GateConfig, SliceRule
from pipeline.config.gate import LOWER_IS_BETTER, NonInferiority
from pipeline.evaluate.compare import difference_interval, refusal_risk

DIGITS = 6


def judge_rules(evaluation: Evaluation, gate: GateConfig) -> Iterator[Rule]:
    """Yield every rule of a gate with its verdict, in the order of the documentation."""
    yield _judge_count(evaluation, gate)
    yield from _judge_absolute(evaluation, gate)
    yield from _judge_change(evaluation, gate)
    if gate.non_inferiority is not None:
        yield _judge_non_inferiority(evaluation, gate.non_inferiority)
    yield from _judge_classes(evaluation, gate)
    for rule in gate.slices:
        yield from _judge_slices(evaluation, rule)
    if gate.size_mb is not None:
        yield _judge_bound("size_mb", "the model's megabytes", evaluation.size_mb, "max", gate.size_mb)
    if gate.latency_ms is not None:
        yield Rule(
            key=LATENCY_RULE,
            verdict=Verdict.PENDING,
            text="latency_ms.p95: judged by the smoke test, before the version gets traffic",
            limit=gate.latency_ms.p95,
            counts=True,
        )


def _judge_count(evaluation: Evaluation, gate: GateConfig) -> Rule:
    tested, limit = evaluation.candidate.test_pictures, gate.min_test_pictures
    return Rule(
        key="min_test_pictures",
        verdict=Verdict.PASSED if tested >= limit else Verdict.FAILED,
        text=f"min_test_pictures: {tested} test pictures, the limit is {limit}",
        value=tested,
        limit=limit,
        counts="min_test_pictures" in gate.model_fields_set,
    )


def _judge_bound(
    key: str,
    name: str,
    value: float | None,
    bound: str,
    limit: float,
    *,
    interval: Interval | None = None,
    subject: str | None = None,
) -> Rule:
    """Hold one value against one bound; a value that is undefined or no number fails."""
    subject_text = f" of {subject}" if subject is not None else ""
    if value is None or math.isnan(value):
        return Rule(
            key=key,
            verdict=Verdict.FAILED,
            text=f"{key}: {name}{subject_text} is undefined on these pictures; the limit is {limit:g}",
            limit=limit,
            subject=subject,
            counts=True,
        )
    kept = value >= limit if bound == "min" else value <= limit
    relation = {
        ("min", True): "is not below",
        ("min", False): "is below",
        ("max", True): "is not above",
        ("max", False): "is above",
    }[bound, kept]
    return Rule(
        key=key,
        verdict=Verdict.PASSED if kept else Verdict.FAILED,
        text=f"{key}: {name}{subject_text} {value:.{DIGITS}g} {relation} the limit {limit:g}",
        value=value,
        limit=limit,
        interval=interval,
        subject=subject,
        counts=True,
    )


def _judge_absolute(evaluation: Evaluation, gate: GateConfig) -> Iterator[Rule]:
    metrics = evaluation.candidate
    for name, limit in sorted(gate.limits.items()):
        for bound, threshold in (("min", limit.min), ("max", limit.max)):
            if threshold is not None:
                yield _judge_bound(
                    f"absolute.{name}.{bound}",
                    name,
                    metrics.value_of(name),
                    bound,
                    threshold,
                    interval=metrics.interval_of(name),
                )
        if limit.min_lower_bound is not None:
            interval = metrics.interval_of(name)
            yield _judge_bound(
                f"absolute.{name}.min_lower_bound",
                f"the lower end of the 95 % interval of {name}",
                interval[0] if interval else None,
                "min",
                limit.min_lower_bound,
            )


def _skip(key: str, limit: float, evaluation: Evaluation) -> Rule:
    text = f"{key}: not judged, {why_not_compared(evaluation)}"
    return Rule(key=key, verdict=Verdict.SKIPPED, text=text, limit=limit)


def why_not_compared(evaluation: Evaluation) -> str:
    """Tell why a rule on the champion has nothing to judge."""
    comparable = evaluation.comparable
    if comparable is None:
        return evaluation.note
    if comparable.pictures == 0:
        return "no test picture can be compared with the champion"
    return "the evaluation was written before this rule"


def _judge_change(evaluation: Evaluation, gate: GateConfig) -> Iterator[Rule]:
    for name, drop in sorted(gate.change.items()):
        for bound in ("max_drop", "max_relative_drop"):
            limit = getattr(drop, bound)
            if limit is None:
                continue
            key = f"change.{name}.{bound}"
            comparable = evaluation.comparable
            if comparable is None or comparable.candidate is None or comparable.champion is None:
                yield _skip(key, limit, evaluation)
            else:
                yield _judge_drop(
                    comparable.comparison, comparable.candidate, comparable.champion, name, bound, limit
                )


def _judge_drop(
    pairs: Comparison | None, candidate: Metrics, champion: Metrics, name: str, bound: str, limit: float
) -> Rule:
    one, other = candidate.value_of(name), champion.value_of(name)
    value, interval = None, None
    if one is not None and other is not None:
        sign = 1 if name in LOWER_IS_BETTER else -1
        value = sign * (one - other)
        interval = _drop_interval(pairs, name, sign)
        if bound == "max_relative_drop":
            value, interval = _relative(value, other), None
    return _judge_bound(
        f"change.{name}.{bound}",
        f"the drop of {name}{' as a share' if bound == 'max_relative_drop' else ''}",
        value,
        "max",
        limit,
        interval=interval,
    )


def _relative(drop: float, base: float) -> float | None:
    if base == 0:
        return None if drop > 0 else 0.0
    return drop / base


def _drop_interval(comparison: Comparison | None, name: str, sign: int) -> Interval | None:
    if comparison is None:
        return None
    difference = comparison.differences.get(name)
    interval = comparison.interval if name == "accuracy" else difference and difference.ci95
    if not interval:
        return None
    low, high = sorted(sign * bound for bound in interval)
    return low, high


def _judge_non_inferiority(evaluation: Evaluation, rule: NonInferiority) -> Rule:
    """Pass if the one-sided lower bound of the paired difference of accuracies is within the margin."""
    key, comparable = "non_inferiority", evaluation.comparable
    pairs = comparable.comparison if comparable else None
    if pairs is None:
        return _skip(key, -rule.margin, evaluation)
    gained, lost, effect = len(pairs.gained), len(pairs.lost), pairs.design_effect
    low, high = difference_interval(
        gained, lost, pairs.pictures, confidence=2 * rule.confidence - 1, effect=effect
    )
    risk = refusal_risk(
        gained + lost, pairs.pictures, margin=rule.margin, confidence=rule.confidence, effect=effect
    )
    kept = low >= -rule.margin
    return Rule(
        key=key,
        verdict=Verdict.PASSED if kept else Verdict.FAILED,
        text=f"{key}: accuracy differs by {pairs.difference:+.4f} from the champion's, with "
        f"{rule.confidence:.4g} confidence by at least {low:+.4f}, which is {'not ' if kept else ''}below "
        f"the margin {-rule.margin:g}; with these {pairs.pictures} pictures a model just as good as the "
        f"champion is refused {100 * risk:.0f} % of the time",
        value=pairs.difference,
        limit=-rule.margin,
        interval=(low, high),
        counts=True,
    )


def _judge_classes(evaluation: Evaluation, gate: GateConfig) -> Iterator[Rule]:
    for name, limit in sorted(gate.per_class.items()):
        for label in evaluation.classes:
            row = evaluation.candidate.per_class.get(label)
            value = row.value_of(name) if row else None
            if value is None and name == "precision" and row and row.support:
                value = 0.0  # there are pictures of the class, and the model never answers it
            yield _judge_bound(
                f"per_class.{name}.min",
                name,
                value,
                "min",
                limit.min,
                interval=row.interval_of(name) if row else None,
                subject=label,
            )


def _judge_slices(evaluation: Evaluation, rule: SliceRule) -> Iterator[Rule]:
    for bound in ("min", "max", "max_drop"):
        limit, slices = getattr(rule, bound), evaluation.slices
        if bound == "max_drop" and evaluation.comparable is not None:
            slices = evaluation.comparable.slices
        parts = slices.get(rule.by, {})
        if limit is None:
            continue
        for value, measured in parts.items():
            yield _judge_slice(evaluation, rule, f"{rule.by}={value}", measured, bound)
        if not parts:
            yield _judge_bound(f"slices.{rule.by}.{rule.metric}.{bound}", rule.metric, None, bound, limit)


def _judge_slice(
    evaluation: Evaluation, rule: SliceRule, subject: str, measured: SliceMetrics, bound: str
) -> Rule:
    key, limit = f"slices.{rule.by}.{rule.metric}.{bound}", getattr(rule, bound)
    if measured.pictures < rule.min_pictures:
        return Rule(
            key=key,
            verdict=Verdict.SKIPPED,
            text=f"{key}: not judged, {subject} has only {measured.pictures} pictures",
            limit=limit,
            subject=subject,
        )
    if bound != "max_drop":
        return _judge_bound(
            key,
            rule.metric,
            measured.value_of(rule.metric),
            bound,
            limit,
            interval=measured.accuracy_ci95 if rule.metric == "accuracy" else None,
            subject=subject,
        )
    if measured.champion is None:
        return replace(_skip(key, limit, evaluation), subject=subject)
    sign = 1 if rule.metric in LOWER_IS_BETTER else -1
    drop = sign * (measured.value_of(rule.metric) - measured.champion.value_of(rule.metric))
    return _judge_bound(key, f"the drop of {rule.metric}", drop, "max", limit, subject=subject)
