"""Run parameters: what one run may change, by the YAML's own dotted paths."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping

from pydantic import BaseModel

from pipeline.config.classifier import Classifier
from pipeline.config.problems import MAX_KEY, suggest
from pipeline.config.schema import sections_in
from pipeline.errors import ConfigError
from pipeline.types import JsonDict, JsonValue

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
    "dataset.expect.label_churn",
    "model.backbone",
    "model.weights",
    "model.head.type",
    "model.head.units",
    "model.head.module",
    "model.epochs",
    "model.batch_size",
    "model.learning_rate",
    "model.seed",
    "model.validation_fraction",
    "model.early_stopping.patience",
    "model.class_weights",
    "model.calibration",
    "model.augmentation.views",
    "model.augmentation.seed",
    "model.warm_start",
    "gate.min_accuracy",
    "gate.max_loss",
    "gate.min_test_pictures",
    "gate.classes_changed",
    "serving.reject_below",
    "serving.reject_unlike",
    "retrain.unchanged",
    "gate.override_by",
    "gate.override_reason",
)


def parameter_schema(name: str) -> dict[str, JsonValue]:
    """Return the JSON schema and description of one dotted run parameter, for the caller to keep."""
    return copy.deepcopy(_parameter_schema(name))


@functools.cache
def _parameter_schema(name: str) -> dict[str, JsonValue]:
    models: list[type[BaseModel]] = [Classifier]
    *path, leaf = name.split(".")
    for part in path:
        models = list(sections_in(models[0].model_fields[part].annotation))
    holders = [model for model in models if leaf in model.model_fields]
    schema = _property(holders[0], leaf)
    if len(models) > 1:  # a source's section depends on its type: not every one has the key
        schema = {
            "anyOf": [{"type": schema["type"]}, {"type": "null"}],
            "description": schema["description"],
        }
    return schema


def _property(section: type[BaseModel], name: str) -> dict[str, JsonValue]:
    schema: dict[str, JsonValue] = _section_schema(section)["properties"][name]
    return schema


@functools.cache
def _section_schema(model: type[BaseModel]) -> JsonDict:
    """Return a section's schema; Airflow parses every classifier's DAG anew, and making it takes long."""
    return model.model_json_schema()


def parameter_value(classifier: Classifier, name: str) -> JsonValue:
    """Return the value that a dotted run parameter has in a classifier."""
    *path, leaf = name.split(".")
    section: BaseModel | None = classifier
    for part in path:
        section = getattr(section, part, None)  # a source of another type, or several, have no such key
    value: JsonValue | BaseModel = getattr(section, leaf, None)
    return value.model_dump(mode="json", exclude_unset=True) if isinstance(value, BaseModel) else value


def full_name(name: str) -> str:
    """Return the full name of a parameter, which may be shortened from the left.

    Raises:
        ConfigError: if no parameter, or more than one, ends like it.
    """
    if name not in RUN_PARAMS and (within := [param for param in RUN_PARAMS if param.startswith(f"{name}.")]):
        raise ConfigError(
            f"`{name}` is a section, not a parameter; give its keys with dots: {', '.join(within)}",
            unknown=[name],
        )
    matches = [param for param in RUN_PARAMS if param == name or param.endswith(f".{name}")]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ConfigError(f"parameter `{name}` is ambiguous; use one of {', '.join(matches)}", unknown=[name])
    hint = suggest(name, [*RUN_PARAMS, *(param.rpartition(".")[2] for param in RUN_PARAMS)])
    allowed = ", ".join(RUN_PARAMS)
    raise ConfigError(f"unknown parameter `{name[:MAX_KEY]}`{hint}; known: {allowed}", unknown=[name])


def with_params(classifier: Classifier, params: Mapping[str, JsonValue]) -> Classifier:
    """Return the classifier with one run's dotted parameters applied, checked again as a whole.

    A null leaves the YAML's value. A name may be shortened from the left while no other ends like it:
    `epochs`, `split.seed`.

    Raises:
        ConfigError: for an unknown parameter (the known ones are listed), one that is given twice, or a bad
            value.
    """
    value = classifier.to_dict()
    value.setdefault("gate", classifier.gate.model_dump(exclude_unset=True))
    for name, setting in _by_full_name(params).items():
        if setting is None or setting == parameter_value(classifier, name):
            continue
        *path, leaf = name.split(".")
        section = value
        for part in path:
            section = section.setdefault(part, {})
        section[leaf] = setting
        _drop_shorthand_twin(value, name)
    return Classifier.from_dict(value, origin=f"parameters of {classifier.name}")


def _by_full_name(params: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    spelled: dict[str, str] = {}
    for short in params:
        other = spelled.setdefault(full_name(short), short)
        if other != short:
            raise ConfigError(
                f"`{other}` and `{short}` are the same parameter; give it once", unknown=[short]
            )
    return {name: params[short] for name, short in spelled.items()}


def _drop_shorthand_twin(value: JsonDict, name: str) -> None:
    twins = {"gate.min_accuracy": ("accuracy", "min"), "gate.max_loss": ("loss", "max")}
    if name not in twins:
        return
    metric, bound = twins[name]
    absolute = value["gate"].get("absolute", {})
    limit = absolute.get(metric, {})
    limit.pop(bound, None)
    if metric in absolute and not any(bound is not None for bound in limit.values()):
        del absolute[metric]
