"""Changes a section of a classifier's YAML, `model` or `serving`; every other line stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import yaml

from pipeline.config.classifier import Classifier
from pipeline.config.yaml_text import parse_yaml
from pipeline.errors import ConfigError
from pipeline.types import JsonDict, JsonValue


def model_section(text: str, parameters: Mapping[str, JsonValue]) -> str:
    """Return the `model` section with some parameters, as YAML.

    Args:
        text: A classifier's YAML.
        parameters: Values by dotted keys, `model.epochs` for instance.
    """
    return _dump_section(text, "model", parameters)


def edit_model(text: str, parameters: Mapping[str, JsonValue]) -> str:
    """Return a classifier's YAML with some parameters of its `model` section; see `edit_section`."""
    return edit_section(text, "model", parameters)


def edit_section(text: str, section: str, parameters: Mapping[str, JsonValue]) -> str:
    """Return a classifier's YAML with some parameters of one of its sections.

    Args:
        text: A classifier's YAML.
        section: The key of the section.
        parameters: Values by dotted keys that begin with the section's.

    Raises:
        ConfigError: if the section cannot be replaced by itself, or the result is no classifier.
    """
    lines = text.splitlines(keepends=True)
    first, last = _find_section(text, section, len(lines))
    before, after = "".join(lines[:first]), "".join(lines[last:])
    if before and not before.endswith("\n"):
        before += "\n"
    edited = before + _dump_section(text, section, parameters) + after
    wanted = _changed(_parse(text), section, parameters)
    if _parse(edited) != wanted:
        raise ConfigError(
            f"The `{section}` section shares lines or anchors with others, so it cannot be replaced by "
            "itself. Change it by hand."
        )
    Classifier.from_dict(wanted)
    return edited


def _dump_section(text: str, section: str, parameters: Mapping[str, JsonValue]) -> str:
    value = {section: _changed(_parse(text), section, parameters)[section]}
    dumped: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
    return dumped


def _parse(text: str) -> JsonDict:
    value = parse_yaml(text)
    if not isinstance(value, dict):
        raise ConfigError("A classifier's YAML is a mapping.")
    return value


def _changed(value: JsonDict, section: str, parameters: Mapping[str, JsonValue]) -> JsonDict:
    changed = copy.deepcopy(value)
    changed[section] = changed.get(section) or {}
    for name, setting in parameters.items():
        *path, leaf = name.split(".")
        place = changed
        for part in path:
            place = place.setdefault(part, {})
        place[leaf] = setting
    return changed


def _find_section(text: str, section: str, num_lines: int) -> tuple[int, int]:
    """Return the first line of the section and the one after its last; the end of the text without one."""
    root = yaml.compose(text, yaml.SafeLoader)
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if key.value == section:
            return key.start_mark.line, max(key.end_mark.line, _last_line(value)) + 1
    return num_lines, num_lines


def _last_line(node: yaml.Node) -> int:
    """Return the last line with a value; a block ends only where the next one begins, after comments."""
    if not isinstance(node, yaml.CollectionNode) or node.flow_style:
        return int(node.end_mark.line)
    children = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
    return max(map(_last_line, children), default=int(node.start_mark.line))
