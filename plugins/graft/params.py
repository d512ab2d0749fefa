"""Run parameters: the trigger form made from the classifier's own schema, and the check inside the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param

from pipeline.backbones.table import BACKBONES
from pipeline.config import RUN_PARAMS, Classifier, parameter_schema, parameter_value, with_params

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pipeline.types import JsonDict, JsonValue

HEADS = ("dense", "logistic")  # that are compared
SECTIONS = {
    "dataset": "Pictures",
    "model": "Model",
    "serving": "Serving",
    "gate": "Gate",
    "retrain": "When nothing is new",
}


def build_params(classifier: Classifier) -> dict[str, Param]:
    """Return the form of a classifier: a field for each run parameter, with the YAML's value in it."""
    return {name: _build_param(name, parameter_value(classifier, name)) for name in RUN_PARAMS}


def _build_param(name: str, value: Any) -> Param:
    schema = form_schema(parameter_schema(name))
    description = schema.pop("description", None)
    if name == "model.backbone":
        value, schema = _backbone_field(value)
    if value == "":  # Airflow's form takes an empty text for a missing one, and cannot be sent
        value, schema["type"] = None, ["null", "string"]
    section = SECTIONS[name.partition(".")[0]]
    text = f"{description} (`{name}`)"
    return Param(value, description_md=text, title=parameter_title(name), section=section, **schema)


def parameter_title(name: str) -> str:
    """Return the label of a run parameter below its section: `Head: units` for `model.head.units`."""
    parts = name.replace("_", " ").split(".")[1:]
    return ": ".join([parts[0].capitalize(), *parts[1:]])


def _backbone_field(value: JsonValue) -> tuple[str | None, JsonDict]:
    """Return value and schema of a list of names; nothing chosen leaves a file that the YAML names."""
    if isinstance(value, str):
        return value, {"type": "string", "enum": sorted(BACKBONES)}
    return None, {"type": ["null", "string"], "enum": [None, *sorted(BACKBONES)]}


def form_schema(schema: Mapping[str, Any]) -> JsonDict:
    """Return a field's schema as Airflow's form draws it: null is one of a list of types, not an `anyOf`."""
    kept = {key: value for key, value in schema.items() if key not in ("anyOf", "default", "title")}
    for branch in schema.get("anyOf", []):
        if branch.get("type") != "null":
            kept.update(branch)
    if any(branch.get("type") == "null" for branch in schema.get("anyOf", [])):
        kept["type"] = ["null", kept["type"]]
    return kept


def comparison_params() -> dict[str, Param]:
    """Return the form of a comparison of models."""
    return {
        "classifier": Param(type="string", minLength=1, title="Classifier", description="Its name."),
        "backbones": _choice(
            "Backbones", sorted(BACKBONES), "Those with weights here unless some are chosen."
        ),
        "heads": _choice("Heads", list(HEADS), "Both unless one is chosen."),
        "parameters": Param(
            {},
            type=["null", "object"],
            title="Parameters",
            description='Values of other parameters, such as {"model.epochs": [10, 40]}.',
        ),
        "write": Param(
            False,
            type="boolean",
            title="Write",
            description="Put the recommended `model` section into the classifier's YAML.",
        ),
    }


def _choice(title: str, names: list[str], description: str) -> Param:
    """Return a field in which none or several of some names can be chosen."""
    items = {"type": "string", "enum": names}
    return Param(
        [], type=["null", "array"], items=items, examples=names, title=title, description=description
    )


def classifier_of_run(classifier: Mapping[str, Any], context: Context) -> Classifier:
    """Return the classifier with the run's conf applied; Airflow itself lets unknown conf keys through.

    Raises:
        ConfigError: naming the unknown key or the bad value.
    """
    conf = getattr(context["dag_run"], "conf", None) or {}
    return with_params(Classifier.from_dict(classifier), conf)


def params_table(classifier: Classifier) -> str:
    """Return the run parameters as a Markdown table."""
    rows = ["| parameter | default | meaning |", "| --- | --- | --- |"]
    for name in RUN_PARAMS:
        value = parameter_value(classifier, name)
        description = parameter_schema(name).get("description", "")
        rows.append(f"| `{name}` | {'' if value is None else f'`{value}`'} | {description} |")
    return "\n".join(rows)
