"""The last check before traffic: the deployed version must say online what it was evaluated on."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.errors import PlatformUnavailable, SmokeTestFailed
from pipeline.evaluate.predictions import Prediction
from pipeline.ml_engine.protocol import MLEngine
from pipeline.storage import Storage
from pipeline.types import JsonDict

log = logging.getLogger(__name__)

TOLERANCE = 1e-3
PICTURES_PER_CLASS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeTest:
    """What a passed smoke test saw.

    Args:
        pictures: How many golden pictures were predicted online.
        max_difference: Largest difference from the evaluated outputs.
        slowest_seconds: The longest answer, the first one (which may warm things up) left out.
    """

    pictures: int
    max_difference: float
    slowest_seconds: float

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        return asdict(self)


def read_golden_instances(
    storage: Storage,
    test_uris: Iterable[str],
    labels: Mapping[str, str],
    *,
    per_class: int = PICTURES_PER_CLASS,
) -> list[JsonDict]:
    """Return the first test pictures of each class as `keyed` instances, in the order of the files."""
    left = dict.fromkeys(labels.values(), per_class)
    golden: list[JsonDict] = []
    for uri in test_uris:
        for line in storage.read_bytes(uri).splitlines():
            if not any(left.values()):
                return golden
            instance: JsonDict = json.loads(line)
            label = labels[instance["key"]]
            if left[label]:
                left[label] -= 1
                golden.append(instance)
    return golden


def smoke_test(
    engine: MLEngine,
    *,
    model: str,
    version: str,
    instances: list[JsonDict],
    expected: Mapping[str, Prediction],
    latency_budget_seconds: float,
    timer: Callable[[], float] = time.monotonic,
) -> SmokeTest:
    """Predict golden pictures online, one by one, and compare with what batch prediction said of them.

    Raises:
        SmokeTestFailed: naming the picture, if an answer differs by more than 1e-3 or comes too late.
        PlatformUnavailable: if the engine did not answer at all, which says nothing about the version.
    """
    if not instances:
        raise SmokeTestFailed(f"There is no golden picture to test {version} of {model} with.")
    differences, seconds = [], []
    for instance in instances:
        start = timer()
        answer: Any = engine.predict(model, [instance], version=version, signature_name="keyed")[0]
        seconds.append(timer() - start)
        differences.append(_difference(answer, expected[instance["key"]]))
    slowest = max(seconds[1:] or seconds)
    if slowest > latency_budget_seconds:
        raise SmokeTestFailed(
            f"{version} of {model} took {slowest:.2f} s for one picture; the budget is "
            f"{latency_budget_seconds} s.",
            seconds=slowest,
        )
    return SmokeTest(pictures=len(instances), max_difference=max(differences), slowest_seconds=slowest)


def _difference(answer: Mapping[str, Any], expected: Prediction) -> float:
    outputs = [float(value) for value in answer["outputs"]]
    same_shape = answer["key"] == expected.key and len(outputs) == len(expected.outputs)
    difference = max(
        map(abs, (a - b for a, b in zip(outputs, expected.outputs, strict=False))), default=math.inf
    )
    if not same_shape or not difference <= TOLERANCE:
        raise SmokeTestFailed(
            f"Picture {expected.key}: online prediction says {answer['key']}: {outputs}, the evaluation saw "
            f"{list(expected.outputs)}; they may differ by {TOLERANCE}.",
            key=expected.key,
        )
    return difference


def smoke_test_or_delete(engine: MLEngine, *, model: str, version: str, **arguments: Any) -> SmokeTest:
    """Run the smoke test; a version that fails it is deleted before the error is raised."""
    try:
        return smoke_test(engine, model=model, version=version, **arguments)
    except PlatformUnavailable:
        raise
    except Exception:
        log.exception("smoke test of %s failed; deleting the version", version)
        engine.delete_version(model, version)
        raise
