"""Run parameters: what one run may change, by the YAML's own dotted paths."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel

from pipeline.config.classifier import Classifier
from pipeline.errors import ConfigError

RUN_PARAMS = (
    "dataset.source.uri",
    "dataset.as_of",
    "dataset.split.method",
    "dataset.split.test_fraction",
    "dataset.split.seed",
    "dataset.expect.class_loss",
    "dataset.expect.few_pictures",
    "dataset.expect.quarantine",
    "dataset.expect.source_mix",
    "model.backbone",
    "model.weights",
    "model.head.units",
    "model.head.module",
    "model.epochs",
    "model.batch_size",
    "model.learning_rate",
    "model.seed",
    "model.validation_fraction",
    "model.early_stopping.patience",
    "model.class_weights",
    "model.augmentation.views",
    "model.augmentation.seed",
    "model.warm_start",
    "gate.min_accuracy",
    "gate.max_loss",
    "gate.min_test_pictures",
    "serving.reject_below",
    "retrain.unchanged",
    "gate.override_by",
    "gate.override_reason",
)


def parameter_schema(name: str) -> dict[str, Any]:
    """Return the JSON schema and description of one dotted run parameter, for the caller to keep."""
    return copy.deepcopy(_parameter_schema(name))


@functools.cache
def _parameter_schema(name: str) -> dict[str, Any]:
    models: list[type[BaseModel]] = [Classifier]
    *path, leaf = name.split(".")
    for part in path:
        models = list(_sections(models[0].model_fields[part].annotation))
    holders = [model for model in models if leaf in model.model_fields]
    schema: dict[str, Any] = _section_schema(holders[0])["properties"][leaf]
    if len(models) > 1:  # a source's section depends on its type: not every one has the key
        schema = {
            "anyOf": [{"type": schema["type"]}, {"type": "null"}],
            "description": schema["description"],
        }
    return schema


@functools.cache
def _section_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return a section's schema; Airflow parses every classifier's DAG anew, and making it takes long."""
    return model.model_json_schema()


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)


def parameter_value(classifier: Classifier, name: str) -> Any:
    """Return the value that a dotted run parameter has in a classifier."""
    value: Any = classifier
    for part in name.split("."):
        value = getattr(value, part, None)  # a source of another type, or several, have no such key
    return value


def _full_name(name: str) -> str:
    found = [known for known in RUN_PARAMS if known == name or known.endswith(f".{name}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"parameter `{name}` is ambiguous; say one of {', '.join(found)}", unknown=[name])
    raise ConfigError(f"unknown parameter `{name}`; known: {', '.join(RUN_PARAMS)}", unknown=[name])


def with_params(classifier: Classifier, params: Mapping[str, Any]) -> Classifier:
    """Return the classifier with one run's dotted parameters applied, checked again as a whole.

    A null leaves the YAML's value. A name may be shortened from the left while no other ends like it:
    `epochs`, `split.seed`.

    Raises:
        ConfigError: for an unknown parameter (the known ones are listed) or a bad value.
    """
    value = classifier.to_dict()
    value.setdefault("gate", classifier.gate.model_dump(exclude_unset=True))
    for short, setting in params.items():
        name = _full_name(short)
        if setting is None or setting == parameter_value(classifier, name):
            continue
        *path, leaf = name.split(".")
        section = value
        for part in path:
            section = section.setdefault(part, {})
        section[leaf] = setting
        _drop_shorthand_twin(value, name)
    return Classifier.from_dict(value, origin=f"parameters of {classifier.name}")


def _drop_shorthand_twin(value: dict[str, Any], name: str) -> None:
    twins = {"gate.min_accuracy": ("accuracy", "min"), "gate.max_loss": ("loss", "max")}
    if name not in twins:
        return
    metric, bound = twins[name]
    absolute = value["gate"].get("absolute", {})
    limit = absolute.get(metric, {})
    limit.pop(bound, None)
    if metric in absolute and not any(bound is not None for bound in limit.values()):
        del absolute[metric]
