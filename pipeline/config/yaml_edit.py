"""A change to the text of a classifier's YAML; all else stays as its author wrote it, comments too."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import yaml

from pipeline.config.classifier import Classifier
from pipeline.config.yaml_file import locked, replace_text
from pipeline.config.yaml_text import parse_yaml
from pipeline.errors import ConfigError
from pipeline.types import JsonDict

AppendedType: TypeAlias = Literal["uploads", "feedback"]


def append_source(path: Path, kind: AppendedType) -> bool:
    """Add a source after the others in a classifier's file; return False if it has one of that type.

    Args:
        path: The file.
        kind: The type of the source, which needs no other key.

    Raises:
        ConfigError: if the text cannot be changed without changing more, or the file cannot be written; the
            message says what to write by hand.
    """
    path = path.resolve()
    try:
        with locked(path.parent):
            return _append(path, kind)
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        by_hand = f"Add `- type: {kind}` to its `dataset.sources` by hand."
        raise ConfigError(f"{path} could not be changed: {error}. {by_hand}") from error


def _append(path: Path, kind: AppendedType) -> bool:
    text = path.read_bytes().decode("utf-8")
    old = parse_yaml(text)
    classifier = Classifier.from_dict(old if isinstance(old, dict) else {}, origin=str(path))
    if any(source.type == kind for source in classifier.dataset.all_sources):
        return False
    replace_text(path, text, with_source(text, kind))
    return True


def with_source(text: str, kind: AppendedType) -> str:
    """Return the text of a YAML with a source of a type after its others.

    Raises:
        ConfigError: if the result would not say exactly that.
    """
    old, node = parse_yaml(text), yaml.compose(text, Loader=yaml.SafeLoader)
    dataset = _find(node, "dataset")
    single, several = _find_pair(dataset[1], "source"), _find_pair(dataset[1], "sources")
    if single is not None:
        new = _make_list(text, *single, kind)
    elif several is not None:
        new = _lengthen(text, several[1], kind)
    else:
        raise ConfigError("it has no `dataset.source`")
    if not isinstance(old, dict) or parse_yaml(new) != _expected(old, kind):
        raise ConfigError("its sources are written in a way that only a person can change")
    return new


def _expected(value: JsonDict, kind: AppendedType) -> JsonDict:
    dataset: JsonDict = dict(value["dataset"])
    sources = dataset.pop("sources", None) or [dataset.pop("source")]
    return {**value, "dataset": {**dataset, "sources": [*sources, {"type": kind}]}}


def _find(node: yaml.Node | None, key: str) -> tuple[yaml.Node, yaml.Node]:
    pair = _find_pair(node, key)
    if pair is None:
        raise ConfigError(f"it has no `{key}`")
    return pair


def _find_pair(node: yaml.Node | None, key: str) -> tuple[yaml.Node, yaml.Node] | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((pair for pair in pairs if pair[0].value == key), None)


def _make_list(text: str, key: yaml.Node, value: yaml.Node, kind: AppendedType) -> str:
    """Replace `source: ...` by `sources:` with the same section as its first item."""
    start, body_start = key.start_mark.index, value.start_mark.index
    if isinstance(value, yaml.MappingNode) and not value.flow_style:
        end = _content_end(text, body_start, value.end_mark.index)
        margin = " " * key.start_mark.column
        lines = text[body_start:end].splitlines()
        moved = [line.removeprefix(" " * value.start_mark.column) for line in lines]
        items = [f"{margin}  - {moved[0]}", *(f"{margin}    {line}" if line else "" for line in moved[1:])]
        new = "\n".join(["sources:", *items, f"{margin}  - type: {kind}"])
    else:
        end = value.end_mark.index
        new = f"sources: [{text[body_start:end]}, {{type: {kind}}}]"
    return text[:start] + new + text[end:]


def _lengthen(text: str, value: yaml.Node, kind: AppendedType) -> str:
    """Add an item to the list of sources."""
    if isinstance(value, yaml.SequenceNode) and not value.flow_style:
        end = _content_end(text, value.start_mark.index, value.end_mark.index)
        return f"{text[:end]}\n{' ' * value.start_mark.column}- type: {kind}{text[end:]}"
    end = value.end_mark.index - 1
    return f"{text[:end].rstrip().rstrip(',')}, {{type: {kind}}}{text[end:]}"


def _content_end(text: str, start: int, end: int) -> int:
    """Return where a block ends, without the empty lines and comments that follow it."""
    lines = text[start:end].splitlines(keepends=True)
    while len(lines) > 1 and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines.pop()
    return start + len("".join(lines).rstrip())
