from __future__ import annotations

import math

import pytest

from pipeline.config import GateConfig
from pipeline.evaluate.gate import GateDecision, decide_gate
from pipeline.evaluate.metrics import Metrics


def metrics(accuracy: float = 0.9, loss: float = 0.2, test_pictures: int = 40) -> Metrics:
    return Metrics(
        accuracy=accuracy, accuracy_ci95=(0.8, 0.95), loss=loss, test_pictures=test_pictures, confusion={}
    )


def decide(candidate: Metrics, **gate: object) -> GateDecision:
    return decide_gate(candidate, GateConfig.model_validate(gate), baseline=None, note="first version")


def test_gate_accepts_a_model_exactly_at_its_limits() -> None:
    decision = decide(metrics(), min_accuracy=0.9, max_loss=0.2, min_test_pictures=40)
    assert decision.accepted
    assert decision.reasons == ()


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        ({"min_accuracy": 0.95}, "absolute.accuracy.min: accuracy 0.9 is below the limit 0.95"),
        (
            {"absolute": {"accuracy": {"max": 0.8}}},
            "absolute.accuracy.max: accuracy 0.9 is above the limit 0.8",
        ),
        ({"max_loss": 0.1}, "absolute.loss.max: loss 0.2 is above the limit 0.1"),
        ({"absolute": {"loss": {"min": 0.3}}}, "absolute.loss.min: loss 0.2 is below the limit 0.3"),
        ({"min_test_pictures": 41}, "min_test_pictures: 40 test pictures, the limit is 41"),
    ],
)
def test_gate_refuses_with_the_rule_the_value_and_the_limit(gate: dict[str, object], reason: str) -> None:
    decision = decide(metrics(), **gate)
    assert not decision.accepted
    assert decision.reasons == (reason,)


def test_every_failed_rule_is_told() -> None:
    decision = decide(metrics(), min_accuracy=0.95, max_loss=0.1, min_test_pictures=100)
    assert [reason.partition(":")[0] for reason in decision.reasons] == [
        "min_test_pictures",
        "absolute.accuracy.min",
        "absolute.loss.max",
    ]


def test_a_loss_that_is_no_number_is_refused() -> None:
    assert not decide(metrics(loss=math.nan), max_loss=10).accepted


def test_decision_records_thresholds_and_that_there_is_no_baseline() -> None:
    decision = decide(metrics(), min_accuracy=0.5)
    assert decision.thresholds == {"min_test_pictures": 1, "absolute.accuracy.min": 0.5}
    assert decision.baseline is None
    assert decision.note == "first version"


@pytest.mark.parametrize("baseline", [None, metrics(accuracy=0.5)])
def test_decision_survives_json(baseline: Metrics | None) -> None:
    decision = decide_gate(metrics(), GateConfig(min_accuracy=0.99), baseline=baseline, note="n")
    assert GateDecision.from_dict(decision.to_dict()) == decision
