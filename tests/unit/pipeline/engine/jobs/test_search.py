from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pipeline.engine.jobs import bayesian, search
from pipeline.engine.jobs.search import History, Observation, position_of, suggest, value_at
from pipeline.engine.v1.hyperparameters import HyperparameterSpec, ParameterSpec
from pipeline.errors import Internal

NO_HISTORY = History(ended=[], running=[])


def parameter(kind: str, **fields: Any) -> ParameterSpec:
    return ParameterSpec.model_validate({"parameterName": "p", "type": kind, **fields})


def study(*params: ParameterSpec, **fields: Any) -> HyperparameterSpec:
    named = [each.model_copy(update={"parameter_name": f"p{index}"}) for index, each in enumerate(params)]
    return HyperparameterSpec(params=named, **fields)


LINEAR = parameter("DOUBLE", minValue=-5, maxValue=10)
LOG = parameter("DOUBLE", minValue=1e-4, maxValue=1, scaleType="UNIT_LOG_SCALE")
REVERSE = parameter("DOUBLE", minValue=0.001, maxValue=0.999, scaleType="UNIT_REVERSE_LOG_SCALE")
WIDE = parameter("DOUBLE", minValue=-1.7e308, maxValue=1.7e308)
POINT = parameter("DOUBLE", minValue=0.1, maxValue=0.1)
INTEGER = parameter("INTEGER", minValue=1, maxValue=1000, scaleType="UNIT_LOG_SCALE")
DISCRETE = parameter("DISCRETE", discreteValues=[0.5, 2, 64])
CATEGORICAL = parameter("CATEGORICAL", categoricalValues=["sgd", "adam"])


def test_the_scales_put_values_where_they_promise():
    assert value_at(LINEAR, 0.5) == "2.5"
    assert float(value_at(LOG, 0.5)) == pytest.approx(0.01)
    assert 1 - float(value_at(REVERSE, 0.5)) == pytest.approx(math.sqrt(0.001 * 0.999), rel=1e-3)
    assert [value_at(INTEGER, end) for end in (0, 1)] == ["1", "1000"]
    assert [value_at(DISCRETE, at) for at in (0, 0.5, 1)] == ["0.5", "2", "64"]  # as `type=int` reads it
    assert value_at(CATEGORICAL, 0.6) == "adam"


@pytest.mark.parametrize("spec", [LINEAR, LOG, REVERSE, WIDE, POINT, INTEGER, DISCRETE])
@given(position=st.floats(0, 1))
def test_a_value_is_in_its_range_and_has_its_position(spec, position):
    text = value_at(spec, position)
    low, high = (0.5, 64) if spec is DISCRETE else spec.bounds
    assert low <= float(text) <= high
    again = position_of(spec, text)
    assert again is not None
    assert 0 <= again <= 1
    assert float(value_at(spec, again)) == pytest.approx(float(text), rel=1e-6, abs=1e-9)


def test_a_value_out_of_the_range_has_no_position():
    assert position_of(LINEAR, "11") is None
    assert position_of(CATEGORICAL, "lamb") is None
    assert position_of(DISCRETE, "3") is None


def test_a_grid_is_walked_without_being_stored():
    huge = [parameter("INTEGER", minValue=1, maxValue=10**9) for _ in range(3)]
    spec = study(*huge, algorithm="GRID_SEARCH")
    first = suggest(spec, NO_HISTORY, "s")
    assert first == {"p0": "1", "p1": "1", "p2": "1"}
    second = suggest(spec, History(ended=[], running=[first]), "s")
    assert second == {"p0": "1", "p1": "1", "p2": "2"}


def test_random_numbers_depend_on_the_seed_alone():
    spec = study(LINEAR, CATEGORICAL, algorithm="RANDOM_SEARCH")
    assert suggest(spec, NO_HISTORY, "j/1") == suggest(spec, NO_HISTORY, "j/1")
    assert suggest(spec, NO_HISTORY, "j/1") != suggest(spec, NO_HISTORY, "j/2")


def observed(number: int, spec: HyperparameterSpec) -> list[Observation]:
    values = [search.random_values(spec, str(index)) for index in range(number)]
    return [Observation(values=each, objective=abs(float(each["p0"]) - 3)) for each in values]


def test_the_model_is_asked_in_its_own_process_and_stays_in_the_space():
    spec = study(LINEAR, CATEGORICAL, INTEGER, goal="MINIMIZE", max_trials=3)
    history = History(ended=observed(6, spec), running=[search.random_values(spec, "r")])
    values = suggest(spec, history, "j/7")
    assert values == search.values_of(spec, bayesian.suggest(search.model_request(spec, history, "j/7")))
    assert values is not None
    assert -5 <= float(values["p0"]) <= 10
    assert values["p1"] in ("sgd", "adam")
    assert 1 <= int(values["p2"]) <= 1000


def test_the_model_learns_only_from_trials_with_a_metric_and_within_the_range():
    spec = study(LINEAR)
    good, failed = observed(1, spec)[0], Observation(values={"p0": "1"}, objective=None)
    outside = Observation(values={"p0": "99"}, objective=1.0)
    request = search.model_request(spec, History(ended=[good, failed, outside], running=[{"p0": "98"}]), "s")
    assert request["ended"] == [([position_of(LINEAR, good.values["p0"])], good.objective)]
    assert request["running"] == []


def test_the_reason_why_nothing_is_suggested_is_told(monkeypatch):
    spec = study(LINEAR, max_trials=1)
    broken = [Observation(values={"p0": "1"}, objective=float("nan"))]
    with pytest.raises(Internal, match="No hyperparameters could be suggested"):
        suggest(spec, History(ended=broken, running=[]), "s")
