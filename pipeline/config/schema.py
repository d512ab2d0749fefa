"""The sections of the YAML as pydantic models: what lies in which."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections that a field of this type may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from sections_in(part)


def keys_at(root: type[BaseModel], path: Sequence[str]) -> set[str]:
    """Return the keys that a section knows, by its path from the root."""
    models = [root]
    for name in path:
        fields = [model.model_fields[name] for model in models if name in model.model_fields]
        models = [section for field in fields for section in sections_in(field.annotation)]
    return {key for model in models for key in model.model_fields}


@functools.cache
def paths_by_key(root: type[BaseModel]) -> Mapping[str, tuple[str, ...]]:
    """Return the dotted paths at which each key is known."""
    paths: dict[str, list[str]] = {}
    for path in _walk(root, ""):
        paths.setdefault(path.rpartition(".")[2], []).append(path)
    return {key: tuple(dict.fromkeys(places)) for key, places in paths.items()}


def _walk(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        for section in sections_in(field.annotation):
            yield from _walk(section, f"{prefix}{name}.")
