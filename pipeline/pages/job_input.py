"""The input of an engine's job as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.types import JsonValue


def flatten_input(value: JsonValue, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield each value by its dotted key; a list of texts, such as arguments, is one line."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from flatten_input(item, f"{key}.{name}" if key else name)
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value):
            yield from flatten_input(item, f"{key}.{number}")
    elif isinstance(value, list | tuple):
        yield key, " ".join(str(item) for item in value)
    else:
        yield key, str(value)
