"""YAML from people: bounded in size, in depth, and in what its aliases expand to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import yaml

from pipeline.errors import ConfigError
from pipeline.types import JsonValue

MAX_CHARACTERS = 256_000
MAX_DEPTH = 64
MAX_DIGITS = 100  # of one number: reading it takes time with their square
LABEL_PLACES = ("dataset", "source sources", "classes label queries categories")
MAX_NODES = 10_000  # keys and values, each counted wherever an alias repeats it


class _Loader(yaml.SafeLoader):
    """Safe YAML that ends early where it is nested too deeply; scanning ahead costs time on each level."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node, and first of all those inside."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ConfigError(f"nested more than {MAX_DEPTH} levels deep")
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


def parse_yaml(text: str) -> JsonValue:
    """Return the value of a YAML document.

    Aliases may repeat a part, but not multiply it: 438 bytes of nested aliases can stand for more values than
    fit into memory.

    Raises:
        ConfigError: if it is no YAML, or too large once its aliases are expanded.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"larger than {MAX_CHARACTERS} characters")
    try:
        loader = _Loader(text)
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise ConfigError(str(error)) from error
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _count_nodes(node, {}) > MAX_NODES:
            raise ConfigError(f"more than {MAX_NODES} keys and values, its aliases expanded")
        _keep_labels_as_text(node)
        value: JsonValue = loader.construct_document(node)
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(str(error)) from error
    finally:
        loader.dispose()
    return value


def _keep_labels_as_text(node: yaml.Node, keys: Sequence[str] = LABEL_PLACES) -> None:
    """Take labels as they are written: `yes`, `no`, `on`, `007` and `1.0` are names here, never values.

    Args:
        node: A section.
        keys: The sections that lead to labels, outermost first; the last has the labels.
    """
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            _keep_labels_as_text(each, keys)
    elif isinstance(node, yaml.MappingNode) and keys:
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in keys[0].split():
                if len(keys) == 1 and isinstance(value, yaml.MappingNode):
                    for label, _ in value.value:
                        _mark_as_text(label)
                elif len(keys) == 1:
                    _mark_as_text(value)
                else:
                    _keep_labels_as_text(value, keys[1:])


def _mark_as_text(node: yaml.Node) -> None:
    for each in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        if isinstance(each, yaml.ScalarNode) and each.tag in _SCALARS:
            each.tag = "tag:yaml.org,2002:str"


_SCALARS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "timestamp"))
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def _count_nodes(node: yaml.Node, counts: dict[int, int]) -> int:
    """Count the nodes that a node expands to; each node is visited once."""
    counted = counts.get(id(node))
    if counted is not None:
        return counted
    counts[id(node)] = MAX_NODES + 1  # an alias to a node that it lies in has no end
    count = partial(_count_nodes, counts=counts)
    children: list[yaml.Node] = []
    if isinstance(node, yaml.ScalarNode) and node.tag in _NUMBERS and len(node.value) > MAX_DIGITS:
        raise ConfigError(f"a number of more than {MAX_DIGITS} digits")
    if isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    counts[id(node)] = 1 + sum(map(count, children))
    return counts[id(node)]
