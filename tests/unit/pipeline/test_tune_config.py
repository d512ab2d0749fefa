from __future__ import annotations

from typing import Any

import pytest

from pipeline.config import Classifier
from pipeline.errors import ConfigError

RATES = {"min": 1e-4, "max": 0.1, "scale": "log"}


def classifier(tune: dict[str, Any], **model: Any) -> Classifier:
    return Classifier.from_dict(
        {"name": "m", "dataset": {"source": {"type": "sample"}}, "model": {**model, "tune": tune}}
    )


def test_a_study_survives_the_way_through_airflow() -> None:
    parameters = {"learning_rate": {**RATES, "min": "1e-4"}, "head.units": [16, 64], "epochs": [5, 20]}
    found = classifier({"parameters": parameters, "trials": 12, "parallel": 2})
    assert Classifier.from_dict(found.to_dict()) == found
    assert found.model.tune is not None
    assert (found.model.tune.trials, found.model.tune.goal, found.model.tune.seed) == (12, "loss", 0)


@pytest.mark.parametrize(
    ("tune", "named"),
    [
        ({"parameters": {"epochs": [1, 5]}, "trials": 0}, r"`model.tune.trials` must be at least 1"),
        ({"parameters": {"epochs": [1, 5]}, "parallel": 0}, r"`model.tune.parallel` must be at least 1"),
        ({"parameters": {"epochs": [1, 5]}, "trial": 3}, r"unknown key `model.tune.trial`.*`trials`"),
        ({}, r"`model.tune.parameters` is missing"),
        ({"parameters": {}}, "name at least one of learning_rate"),
        ({"parameters": {"units": [1, 5]}}, r"`units` cannot be tuned \(did you mean `head.units`"),
        ({"parameters": {"model.epochs": [1, 5]}}, r"`model.epochs` cannot be tuned \(did you mean `epochs`"),
        ({"parameters": {"learning_rat": RATES}}, r"did you mean `learning_rate`"),
        ({"parameters": {"head": {"units": [1, 5]}}}, r"did you mean `head.units`"),
        ({"parameters": {"learning_rate": {"min": 0.1, "max": 1e-3}}}, "the range is upside down"),
        ({"parameters": {"learning_rate": {"min": 0, "max": 0.1, "scale": "log"}}}, "values above 0"),
        ({"parameters": {"learning_rate": {"min": 1e-3, "max": 20}}}, r"learning_rate` may not be 20.*10"),
        ({"parameters": {"learning_rate": 0.1}}, "must be a section"),
        ({"parameters": {"epochs": {"min": 1, "max": 5.5}}}, "`epochs` is a whole number"),
        ({"parameters": {"epochs": [1, 5.5]}}, r"epochs` may not be 5.5"),
        ({"parameters": {"epochs": [5, "5"]}}, "`epochs` has a value twice"),
        ({"parameters": {"epochs": [5]}}, "at least 2"),
        ({"parameters": {"class_weights": []}}, "at least 2"),
        ({"parameters": {"class_weights": RATES}}, "`class_weights` has no range"),
        ({"parameters": {"class_weights": ["none", "balancd"]}}, r"may not be 'balancd'"),
        ({"parameters": {"learning_rate": RATES}, "search": "grid"}, "needs a list of values"),
        ({"parameters": {"early_stopping.patience": [1, 5]}}, "needs pictures that judge"),
    ],
)
def test_what_cannot_be_tried_is_named_before_anything_runs(tune: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        classifier(tune)


@pytest.mark.parametrize(
    ("parameter", "model", "named"),
    [
        ("epochs", {"head": {"type": "logistic"}}, "`logistic` has no `epochs`"),
        ("head.units", {"head": {"module": "a.py"}}, "`module` has no `head.units`"),
        ("head.units", {"warm_start": True}, "a head of one width"),
    ],
)
def test_a_parameter_that_the_head_has_not_is_named(
    parameter: str, model: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        classifier({"parameters": {parameter: [1, 5]}}, **model)


def test_patience_can_be_tuned_with_the_share_that_judges() -> None:
    parameters = {"early_stopping.patience": [1, 5], "validation_fraction": [0.1, 0.2]}
    assert classifier({"parameters": parameters}).model.tune is not None
