"""What is wrong with a YAML, in the YAML's own words: keys as it spells them, values shortened."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Collection, Iterable, Mapping, Sequence

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipeline.config.schema import keys_at, paths_by_key
from pipeline.config.sources import SOURCE_SECTIONS
from pipeline.types import JsonValue

MAX_PROBLEMS = 10
MAX_TEXT = 500
MAX_KEY = 80
RENAMED = {"retrain.quiet_seconds": "retrain.debounce_seconds"}
EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a section with keys of its own",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "list_type": "a list",
    "literal_error": "{expected}",
    "model_attributes_type": "a section with keys of its own",
    "model_type": "a section with keys of its own",
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_too_long": "text of at most {max_length} characters",
    "string_too_short": "text of at least {min_length} characters",
    "string_type": "text",
    "too_long": "a list of at most {max_length}",
    "too_short": "a list of at least {min_length}",
    "tuple_type": "a list",
}
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = MAX_KEY
_REPR.maxlevel = 3


def show(value: JsonValue) -> str:
    """Return a value for a message: the start of what is long, however large the whole is."""
    return _REPR.repr(value)


def suggest(word: str, words: Collection[str]) -> str:
    """Return ` (did you mean ...?)` with the known words that a word resembles; empty if none does."""
    close = difflib.get_close_matches(word[:MAX_KEY], words, n=2, cutoff=0.75)
    return f" (did you mean {' or '.join(f'`{match}`' for match in close)}?)" if close else ""


def explain_errors(error: ValidationError, value: JsonValue, root: type[BaseModel]) -> str:
    """Return each problem once, at most ten of them, separated by semicolons.

    Args:
        error: What pydantic refused.
        value: The value that was checked.
        root: The model that it was checked against.
    """
    problems = list(dict.fromkeys(_explain(item, value, root) for item in _merge(error.errors(), value)))
    shown = problems[:MAX_PROBLEMS]
    if len(problems) > MAX_PROBLEMS:
        shown.append(f"and {len(problems) - MAX_PROBLEMS} more problems")
    return "; ".join(shown)


def _merge(items: Iterable[ErrorDetails], value: JsonValue) -> Iterable[ErrorDetails]:
    """Keep one problem of each key: the types that a value may have are tried one after the other."""
    by_key: dict[str, ErrorDetails] = {}
    for item in items:
        by_key.setdefault(_spell(_find_key(item, value)), item)
        if len(by_key) > 2 * MAX_PROBLEMS:
            break
    return by_key.values()


def _explain(item: ErrorDetails, value: JsonValue, root: type[BaseModel]) -> str:
    path = _find_key(item, value)
    key = _spell(path) or "(the whole file)"
    received = f"Received: {show(item['input'])}"
    if item["type"] == "extra_forbidden":
        return _explain_unknown(key, path, root)
    if item["type"] == "missing":
        return f"`{key}` is missing; add it"
    if item["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return _explain_source_type(key, item["input"])
    if item["type"] in EXPECTED:
        return f"`{key}` must be {EXPECTED[item['type']].format(**item.get('ctx', {}))}. {received}"
    return f"`{key}`: {item['msg'].removeprefix('Value error, ')[:MAX_TEXT]}. {received}"


def _explain_unknown(key: str, path: Sequence[str | int], root: type[BaseModel]) -> str:
    if key in RENAMED:
        return f"`{key}` is called `{RENAMED[key]}` now; rename it"
    *section, leaf = (str(piece) for piece in path if isinstance(piece, str))
    elsewhere = paths_by_key(root).get(leaf, ())
    hint = suggest(leaf, keys_at(root, section))
    if not hint and elsewhere:
        hint = f" (did you mean {' or '.join(f'`{each}`' for each in elsewhere[:2])}?)"
    return f"unknown key `{key}`; remove it or correct its spelling{hint}"


def _explain_source_type(key: str, source: JsonValue) -> str:
    type_name = source.get("type") if isinstance(source, Mapping) else None
    types = ", ".join(SOURCE_SECTIONS)
    if type_name is None:
        return f"`{key}.type` is missing; it is one of {types}"
    hint = suggest(str(type_name), SOURCE_SECTIONS)
    return f"`{key}.type` must be one of {types}. Received: {show(type_name)}{hint}"


def _find_key(item: ErrorDetails, value: JsonValue) -> list[str | int]:
    """Return where a problem is in the YAML; pydantic puts names of its own between the keys."""
    path: list[str | int] = []
    pieces = item["loc"]
    for number, piece in enumerate(pieces):
        is_missing = item["type"] == "missing" and number == len(pieces) - 1
        if isinstance(value, Mapping) and (piece in value or is_missing):
            value = value.get(str(piece))
            path.append(str(piece))
        elif isinstance(value, list) and isinstance(piece, int) and piece < len(value):
            value = value[piece]
            path.append(piece)
    return path


def _spell(path: Iterable[str | int]) -> str:
    text = ""
    for piece in path:
        text += f"[{piece}]" if isinstance(piece, int) else f".{piece[:MAX_KEY]}"
    return text.removeprefix(".")
