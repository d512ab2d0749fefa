"""`.keras` files, looked at without Keras: whether one is whole, and whether it names other people's code."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.types import JsonObject, JsonValue

# Layers that are programs or load them: from bytes of Python, or from another file.
PROGRAMS = frozenset("Lambda TFSMLayer TorchModuleWrapper JaxLayer FlaxLayer __lambda__".split())
MAX_CONFIG_BYTES = 50_000_000


class RefusedLayer(Exception):
    """A model that may not be loaded; the message names the layer."""


def check_layers(path: Path) -> None:
    """Check the configuration of a model before Keras reads it.

    Raises:
        RefusedLayer: naming the first layer that is refused.
        ValueError, KeyError, zipfile.BadZipFile: if it is no `.keras` file, or not a whole one.
    """
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo("config.json").file_size > MAX_CONFIG_BYTES:
            raise RefusedLayer(f"its config.json has more than {MAX_CONFIG_BYTES} bytes")
        config = json.loads(archive.read("config.json"))
    for item in _objects(config):
        _check_object(item)


def keras_version(path: Path) -> str:
    """Return the version of Keras that wrote a file."""
    with zipfile.ZipFile(path) as archive:
        return str(json.loads(archive.read("metadata.json")).get("keras_version"))


def _objects(value: JsonValue) -> Iterator[JsonObject]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _check_object(item: JsonObject) -> None:
    name, module = item.get("class_name"), item.get("module")
    if name in PROGRAMS:
        raise RefusedLayer(f"{name} runs a program of its own; replace it by layers or operations of Keras")
    if name is not None and module is not None and str(module).partition(".")[0] != "keras":
        raise RefusedLayer(f"{name} is of {module}, which is not part of Keras; export a SavedModel")
    registered = item.get("registered_name")
    is_of_keras = registered in (None, "Functional", "Sequential") or (registered == name and module)
    if name is not None and not is_of_keras:
        raise RefusedLayer(f"{registered} is a custom class, which is not part of Keras; export a SavedModel")
    if isinstance(item.get("vocabulary"), str):
        raise RefusedLayer(f"its vocabulary is the file {item['vocabulary']!r}; save the words themselves")
