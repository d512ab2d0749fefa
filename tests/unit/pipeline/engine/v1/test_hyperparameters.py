"""The rules of `trainingInput.hyperparameters`; the name of the field that breaks one reaches the client."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.engine.v1.hyperparameters import HyperparameterSpec
from pipeline.engine.v1.resources import TrainingInput
from pipeline.errors import InvalidArgument

WHERE = "training_input.hyperparameters."
RATE = {"parameterName": "rate", "type": "DOUBLE", "minValue": 0.001, "maxValue": 0.1}
UNITS = {"parameterName": "units", "type": "INTEGER", "minValue": 1, "maxValue": 3}
KIND = {"parameterName": "kind", "type": "CATEGORICAL", "categoricalValues": ["a", "b"]}
SIZE = {"parameterName": "size", "type": "DISCRETE", "discreteValues": [16, 32.5]}


def changed(parameter: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**parameter, **changes}.items() if value is not None}


def study(*params: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"params": list(params) or [RATE], **changes}


def read(spec: dict[str, Any]) -> HyperparameterSpec:
    value = {"pythonModule": "a.b", "packageUris": ["gs://b/p.whl"], "hyperparameters": spec}
    found = TrainingInput.read(value, where="training_input").hyperparameters
    assert found is not None
    return found


def violation(spec: dict[str, Any]) -> str:
    with pytest.raises(InvalidArgument) as caught:
        read(spec)
    assert caught.value.field.startswith(WHERE)
    return caught.value.field.removeprefix(WHERE)


@pytest.mark.parametrize(
    ("parameter", "field"),
    [
        (changed(RATE, minValue=1), "min_value"),  # upside down
        (changed(UNITS, minValue=4), "min_value"),
        (changed(RATE, minValue=0, scaleType="UNIT_LOG_SCALE"), "min_value"),
        (changed(RATE, minValue=-1, scaleType="UNIT_REVERSE_LOG_SCALE"), "min_value"),
        (changed(UNITS, minValue=0, scaleType="UNIT_LOG_SCALE"), "min_value"),
        (changed(RATE, minValue=None, maxValue=None), "min_value"),
        (changed(UNITS, maxValue=2.5), "max_value"),
        (changed(UNITS, maxValue=1e300), "max_value"),
        (changed(RATE, minValue="NaN"), "min_value"),
        (changed(RATE, maxValue="Infinity"), "max_value"),
        (changed(RATE, scaleType="LOG"), "scale_type"),
        (changed(RATE, type="FLOAT"), "type"),
        (changed(RATE, type="PARAMETER_TYPE_UNSPECIFIED"), "type"),
        (changed(RATE, type=None), "type"),
        (changed(RATE, discreteValues=[1]), "discrete_values"),
        (changed(RATE, parameterName=None), "parameter_name"),
        (changed(RATE, parameterName="a b"), "parameter_name"),
        (changed(RATE, parameterName="a=b"), "parameter_name"),
        (changed(RATE, parameterName="--x"), "parameter_name"),
        (changed(RATE, nonsense=1), "nonsense"),
        (changed(KIND, categoricalValues=None), "categorical_values"),
        (changed(KIND, categoricalValues=["a", "a"]), "categorical_values.1"),
        (changed(KIND, categoricalValues=["a", "b\x00"]), "categorical_values.1"),
        (changed(KIND, categoricalValues=[""]), "categorical_values.0"),
        (changed(KIND, scaleType="UNIT_LINEAR_SCALE"), "scale_type"),
        (changed(KIND, maxValue=3), "max_value"),
        (changed(SIZE, discreteValues=None), "discrete_values"),
        (changed(SIZE, discreteValues=[2, 1]), "discrete_values.1"),
        (changed(SIZE, discreteValues=[1, 1]), "discrete_values.1"),
        (changed(SIZE, discreteValues=list(range(1001))), "discrete_values"),
        (changed(SIZE, discreteValues=[0, 1], scaleType="UNIT_LOG_SCALE"), "discrete_values.0"),
        (changed(SIZE, categoricalValues=["a"]), "categorical_values"),
    ],
)
def test_a_parameter_that_breaks_a_rule_is_named(parameter, field):
    assert violation(study(UNITS | {"parameterName": "other"}, parameter)) == f"params.1.{field}"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (study(RATE, KIND, RATE), "params.2.parameter_name"),
        (study(params=[]), "params"),
        (study(params=None), "params"),
        (study(maxTrials=1001), "max_trials"),
        (study(maxTrials=-1), "max_trials"),
        (study(maxTrials=1.5), "max_trials"),
        (study(maxParallelTrials=101), "max_parallel_trials"),
        (study(maxFailedTrials=-1), "max_failed_trials"),
        (study(goal="SMALLER"), "goal"),
        (study(algorithm="GRID_SEARCH"), "algorithm"),
        (study(algorithm="BAYESIAN"), "algorithm"),
        (study(hyperparameterMetricTag="trial"), "hyperparameter_metric_tag"),
        (study(nonsense=1), "nonsense"),
    ],
)
def test_a_study_that_breaks_a_rule_is_named(body, field):
    assert violation(body) == field


@pytest.mark.parametrize(
    "body",
    [
        study(RATE, UNITS, KIND, SIZE),
        study(changed(RATE, minValue=None), maxTrials=0, maxParallelTrials=0, goal="GOAL_TYPE_UNSPECIFIED"),
        study(changed(KIND, minValue=0, maxValue=0, scaleType="NONE"), maxTrials="3"),
        study(changed(RATE, maxValue=0.001), algorithm="ALGORITHM_UNSPECIFIED"),
        study(UNITS, KIND, SIZE, algorithm="GRID_SEARCH", maxTrials=1000),
    ],
)
def test_a_study_that_keeps_the_rules_is_read(body):
    spec = read(body)
    assert spec.num_trials >= 1
    assert spec.num_parallel == 1
