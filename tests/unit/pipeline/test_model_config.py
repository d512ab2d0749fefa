from __future__ import annotations

import pytest

from pipeline.config import Classifier, with_params
from pipeline.errors import ConfigError

YAML = {"name": "m", "dataset": {"source": {"type": "sample"}}}


def test_every_training_option_is_neutral_by_default() -> None:
    model = Classifier.from_dict(YAML).model
    assert (model.validation_fraction, model.early_stopping.patience) == (0, 0)
    assert (model.class_weights, model.augmentation.views, model.warm_start) == ("none", 0, False)
    assert Classifier.from_dict(YAML).serving.reject_below == 0


def test_patience_without_a_judge_is_an_error_that_names_the_fix() -> None:
    with pytest.raises(ConfigError, match="set `validation_fraction`"):
        Classifier.from_dict({**YAML, "model": {"early_stopping": {"patience": 3}}})


def test_a_run_may_set_options_by_their_short_names() -> None:
    params = {"validation_fraction": 0.2, "patience": 4, "views": 2, "reject_below": 0.6}
    found = with_params(Classifier.from_dict(YAML), params)
    assert found.model.early_stopping.patience == 4
    assert found.model.augmentation.views == 2
    assert found.serving.reject_below == 0.6


def test_a_head_of_ones_own_excludes_a_warm_start() -> None:
    head = {"module": "gs://graft/heads/a.py"}
    assert Classifier.from_dict({**YAML, "model": {"head": head}}).model.head.module == head["module"]
    with pytest.raises(ConfigError, match="`warm_start` begins from a head of known layers"):
        Classifier.from_dict({**YAML, "model": {"head": head, "warm_start": True}})


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        ({}, "dense"),
        ({"type": "dense", "units": 3}, "dense"),
        ({"type": "logistic"}, "logistic"),
        ({"module": "a.py"}, "module"),
        ({"type": "module", "module": "a.py"}, "module"),
    ],
)
def test_the_kind_of_head_is_its_type_or_that_of_its_file(head: dict[str, object], kind: str) -> None:
    assert Classifier.from_dict({**YAML, "model": {"head": head}}).model.head.kind == kind


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"head": {"type": "module"}}, "`type: module` needs `module`"),
        ({"head": {"type": "dense", "module": "a.py"}}, "a head that is not `type: dense`"),
        ({"head": {"type": "logistic", "module": "a.py"}}, "a head that is not `type: logistic`"),
        ({"head": {"type": "linear"}}, r"model\.head\.type"),
        ({"head": {"type": "logistic"}, "warm_start": True}, "`warm_start` begins from a dense head"),
    ],
)
def test_a_head_that_contradicts_itself_is_an_error(model: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Classifier.from_dict({**YAML, "model": model})


def test_a_run_may_choose_the_type_of_the_head_and_its_file() -> None:
    plain = Classifier.from_dict(YAML)
    assert with_params(plain, {"head.type": "logistic"}).model.head.kind == "logistic"
    custom = with_params(plain, {"head.module": "a.py"})
    assert custom.model.head.kind == "module"
    assert with_params(custom, {"head.module": "", "head.type": "logistic"}).model.head.kind == "logistic"


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_a_threshold_is_a_probability(value: float) -> None:
    with pytest.raises(ConfigError, match=r"serving.reject_below"):
        Classifier.from_dict({**YAML, "serving": {"reject_below": value}})
