"""What the fields of a list say of a label: names beside numbers, JSON inside a field, and words for none."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Mapping

from pipeline.datasets.sources.list_columns import LABEL_COLUMNS, NAME_COLUMNS
from pipeline.types import JsonObject, JsonValue

VERTEX_ML_USE = "aiplatform.googleapis.com/ml_use"
MISSING = frozenset(("nan", "<na>", "#n/a", "null"))  # as pandas, R and spreadsheets write what is not there
DOUBTFUL = frozenset(("none", "na", "n/a", "?", "-"))
NAME_KEYS = ("name", "label", "class", "displayName", "class_name")
EXAMPLES = 3
_SPACED = re.compile(r"^(\S.*?\.(?:jpe?g|png|gif|webp|bmp|tiff?))\s+(\S.*)$", re.IGNORECASE)
_NUMBER = re.compile(r"-?\d+(\.0+)?")


def find_label(values: Mapping[str, str], columns: Mapping[str, str], origin: str) -> tuple[str, list[str]]:
    """Return the column of labels, and statements where others may be meant.

    Args:
        values: The first row by column.
        columns: The columns that are used, `label` among them.
        origin: The list, for messages.
    """
    label, used = columns["label"], {*columns.values()}
    others = [name for name in LABEL_COLUMNS if values.get(name, "").strip() and name not in used]
    others = [name for name in others if not _NUMBER.fullmatch(values[name].strip())]
    names = [name for name in others if name in NAME_COLUMNS]
    if names and _NUMBER.fullmatch(values.get(label, "").strip()):
        text = f"columns: {names[0]!r} of {origin} tells the classes; {label!r} holds their numbers"
        return names[0], [text]
    others = [name for name in others if values[name].strip() != values.get(label, "").strip()]
    if not others:
        return label, []
    shown = ", ".join(f"{name!r} ({values[name].strip()[:40]})" for name in others[:EXAMPLES])
    return label, [
        f"columns: {label!r} of {origin} tells the classes; {shown} may be meant, too. If so, name it: "
        f"`columns: {{label: {others[0]}}}`"
    ]


def flatten_object(values: JsonObject) -> JsonObject:
    """Return an object of JSON lines with `label` and `split` where Vertex AI and SageMaker have them."""
    annotations = values.get("classificationannotations", values.get("classificationannotation"))
    if isinstance(annotations, Mapping):
        annotations = [annotations]
    if isinstance(annotations, list):
        uses = values.get("dataitemresourcelabels")
        use = uses.get(VERTEX_ML_USE) if isinstance(uses, Mapping) else ""
        names = [each.get("displayName") for each in annotations if isinstance(each, Mapping)]
        return {**values, "label": names or "", "split": use}
    for name, each in values.items():
        if name.endswith("-metadata") and isinstance(each, Mapping):
            several = each.get("class-map")
            label = each.get("class-name") or (
                list(several.values()) if isinstance(several, Mapping) else None
            )
            if label:
                return {**values, "label": label}
    return values


def read_value(value: JsonValue) -> str:
    """Return the one label in a value of JSON.

    Raises:
        ValueError: if it holds several, or none that can be told.
    """
    if isinstance(value, dict) and isinstance(value.get("choices"), list):
        value = value["choices"]
    if isinstance(value, dict):
        names = [name for key in NAME_KEYS if isinstance(name := value.get(key), str)]
        value = names[0] if len(names) == 1 else value
    if isinstance(value, list) and len(value) == 1:
        return read_value(value[0])
    if isinstance(value, list) and value:
        raise ValueError(f"several values ({', '.join(map(str, value))[:80]})")
    if isinstance(value, list | dict):
        raise ValueError("several values or none")
    return "" if value is None else str(value)


def open_text(text: str) -> str:
    """Return the label in a field that holds JSON, or a list as Python prints it; other text as it is.

    Raises:
        ValueError: if it holds several.
    """
    if (text[:1], text[-1:]) not in (("[", "]"), ("{", "}")):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return text
    return read_value(value) if isinstance(value, list | dict) else text


def split_at_space(line: str) -> tuple[str, str] | None:
    """Return path and label of a line such as `img/1.jpg 3`; None if it is none."""
    match = _SPACED.match(line)
    return None if match is None else (match[1], match[2])


def describe_doubtful(counts: Mapping[str, int], origin: str) -> list[str]:
    """Return a statement of labels that may stand for none."""
    if not counts:
        return []
    shown = ", ".join(f"{label} ({count})" for label, count in Counter(counts).most_common(EXAMPLES))
    return [
        f"missing_labels: classes of {origin} are named like a missing value: {shown}. If they are none, "
        "leave these fields blank"
    ]
