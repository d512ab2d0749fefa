"""The last check before traffic: online answers of the deployed version must equal the evaluated ones."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from pipeline.artifacts.gate import LATENCY_RULE, Rule, Verdict
from pipeline.artifacts.steps import SmokeTestResult
from pipeline.deploy.staging import discard_version, model_of_version
from pipeline.errors import PlatformUnavailable, SmokeTestFailed
from pipeline.evaluate.predictions import Prediction
from pipeline.ml_engine.protocol import MLEngine
from pipeline.storage import Storage
from pipeline.types import JsonObject, JsonValue

log = logging.getLogger(__name__)

TOLERANCE = 1e-3
PICTURES_PER_CLASS = 2
MIN_ANSWERS = 20


def read_golden_instances(
    storage: Storage,
    test_uris: Iterable[str],
    labels: Mapping[str, str],
    *,
    per_class: int = PICTURES_PER_CLASS,
) -> list[JsonObject]:
    """Return the first test pictures of each class as `keyed` instances, in the order of the files."""
    left = dict.fromkeys(labels.values(), per_class)
    golden: list[JsonObject] = []
    for uri in test_uris:
        for line in storage.read_bytes(uri).splitlines():
            if not any(left.values()):
                return golden
            instance: JsonObject = json.loads(line)
            label = labels[str(instance["key"])]
            if left[label]:
                left[label] -= 1
                golden.append(instance)
    return golden


def smoke_test(
    engine: MLEngine,
    *,
    model: str,
    version: str,
    instances: Sequence[JsonObject],
    expected: Mapping[str, Prediction],
    latency_budget_seconds: float,
    timer: Callable[[], float] = time.monotonic,
) -> SmokeTestResult:
    """Predict golden pictures online, one by one, and compare with the answers of batch prediction.

    They go round until twenty answers have been timed, every one of them compared.

    Args:
        engine: Where the version is.
        model: Name of the model.
        version: The version.
        instances: Golden pictures.
        expected: The answers that were evaluated, by key.
        latency_budget_seconds: The longest that any answer may take.
        timer: Tells seconds.

    Raises:
        SmokeTestFailed: naming the picture, if an answer differs by more than 1e-3; or if one comes too late.
        PlatformUnavailable: if the engine did not answer at all, which says nothing about the version.
    """
    if not instances:
        raise SmokeTestFailed(f"There is no golden picture to test {version} of {model} with.")
    differences: list[float] = []
    seconds: list[float] = []
    for number in range(max(len(instances), MIN_ANSWERS + 1)):
        instance = instances[number % len(instances)]
        start = timer()
        [answer] = engine.predict(model, [instance], version=version, signature_name="keyed", is_test=True)
        seconds.append(timer() - start)
        differences.append(_difference(_named(answer, model, version), expected[str(instance["key"])]))
    timed = sorted(seconds[1:])
    _check_latency(model, version, timed[-1], latency_budget_seconds)
    return SmokeTestResult(
        pictures=len(instances),
        max_difference=max(differences),
        slowest_seconds=timed[-1],
        answers=len(timed),
        median_ms=1000 * timed[len(timed) // 2],
        p95_ms=1000 * timed[math.ceil(0.95 * len(timed)) - 1],
    )


def judge_latency(result: SmokeTestResult, limit_ms: float) -> Rule:
    """Hold the answers of a smoke test to the gate's `latency_ms.p95`."""
    return Rule(
        key=LATENCY_RULE,
        verdict=Verdict.PASSED if result.p95_ms <= limit_ms else Verdict.FAILED,
        text=f"{LATENCY_RULE}: of {result.answers} answers, 95 % came within {result.p95_ms:.1f} ms; "
        f"the limit is {limit_ms:g} ms",
        value=result.p95_ms,
        limit=limit_ms,
        counts=True,
    )


def _check_latency(model: str, version: str, slowest: float, budget: float) -> None:
    if slowest > budget:
        raise SmokeTestFailed(
            f"{version} of {model} took {slowest:.2f} s for one picture; the budget is {budget} s.",
            seconds=slowest,
        )


def _named(answer: JsonValue, model: str, version: str) -> Prediction:
    if not isinstance(answer, dict):
        raise SmokeTestFailed(f"{version} of {model} gave no answer by name: {answer}.")
    return Prediction.from_dict(answer)


def _difference(answer: Prediction, expected: Prediction) -> float:
    same_shape = answer.key == expected.key and len(answer.outputs) == len(expected.outputs)
    pairs = zip(answer.outputs, expected.outputs, strict=False)
    difference = max((abs(a - b) for a, b in pairs), default=math.inf)
    if not same_shape or not difference <= TOLERANCE:
        raise SmokeTestFailed(
            f"Picture {expected.key}: online prediction says {answer.key}: {list(answer.outputs)}, the "
            f"evaluation saw {list(expected.outputs)}; they may differ by {TOLERANCE}.",
            key=expected.key,
        )
    return difference


def smoke_test_or_delete(
    engine: MLEngine,
    *,
    model: str,
    version: str,
    instances: Sequence[JsonObject],
    expected: Mapping[str, Prediction],
    latency_budget_seconds: float,
    timer: Callable[[], float] = time.monotonic,
) -> SmokeTestResult:
    """Run the smoke test; a version that fails it is deleted before the error is raised.

    The first version of a model is tested where it is: in the hidden model.
    """
    try:
        return smoke_test(
            engine,
            model=model_of_version(engine, model, version),
            version=version,
            instances=instances,
            expected=expected,
            latency_budget_seconds=latency_budget_seconds,
            timer=timer,
        )
    except PlatformUnavailable:
        raise
    except Exception:
        log.exception("smoke test of %s failed; deleting the version", version)
        discard_version(engine, model, version)
        raise
