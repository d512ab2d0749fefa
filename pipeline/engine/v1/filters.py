"""The filter of a list: `jobId:rnn* AND state:FAILED`.

A term is `field OP value`. `:` and `=` compare with the whole value, in which `*` stands for any text; `!=`,
`<`, `<=`, `>` and `>=` are there, too. Terms are joined by `AND` (or by nothing), `OR`, `NOT` and `()`. A
field is a path in either spelling (`trainingInput.scaleTier`, `labels.owner`); `labels:owner` asks whether
there is such a key. A resource's `name` is compared in full and by its last part.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence

from pydantic.alias_generators import to_camel

from pipeline.errors import InvalidArgument
from pipeline.types import JsonObject, JsonValue

Matches = Callable[[JsonObject], bool]
MAX_LENGTH, MAX_PARENTHESES = 1000, 20
MAX_TERMS, MAX_WILDCARDS = 50, 20  # what one resource may cost
TOKEN = re.compile(
    r"""\s*(?:
        (?P<mark>[()])
      | (?P<word>AND|OR|NOT)(?=[\s(])
      | (?P<field>-?[\w.]+)\s*(?P<op><=|>=|!=|[:=<>])\s*(?:"(?P<quoted>[^"]*)"|(?P<value>[^\s()"]+))
    )""",
    re.VERBOSE,
)
ORDERS: dict[str, Callable[..., bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def read_filter(text: str | None) -> Matches | None:
    """Read the query parameter `filter`; None when there is none.

    Raises:
        InvalidArgument: if it cannot be read.
    """
    if not text or not text.strip():
        return None
    if len(text) > MAX_LENGTH or text.count("(") > MAX_PARENTHESES:
        raise _unreadable(text)
    tokens = _tokens(text)
    matches = _any_of(tokens, text)
    if tokens:
        raise _unreadable(text)
    return matches


def _unreadable(text: str) -> InvalidArgument:
    return InvalidArgument(
        "Expected terms like `jobId:rnn* AND state:FAILED`, joined by AND, OR, NOT and parentheses. "
        f"Received: {text[:200]!r}",
        field="filter",
    )


def _tokens(text: str) -> list[str | Matches]:
    tokens: list[str | Matches] = []
    position = 0
    while text[position:].strip():
        match = TOKEN.match(text, position)
        if match is None:
            raise _unreadable(text)
        position = match.end()
        tokens.append(match["mark"] or match["word"] or _term(match))
    if sum(map(callable, tokens)) > MAX_TERMS:
        raise InvalidArgument(f"A filter has {MAX_TERMS} terms at most.", field="filter")
    return tokens


def _any_of(tokens: list[str | Matches], text: str) -> Matches:
    terms = [_all_of(tokens, text)]
    while tokens and tokens[0] == "OR":
        tokens.pop(0)
        terms.append(_all_of(tokens, text))
    return lambda resource: any(term(resource) for term in terms)


def _all_of(tokens: list[str | Matches], text: str) -> Matches:
    terms = [_one(tokens, text)]
    while tokens and tokens[0] not in ("OR", ")"):
        if tokens[0] == "AND":
            tokens.pop(0)
        terms.append(_one(tokens, text))
    return lambda resource: all(term(resource) for term in terms)


def _one(tokens: list[str | Matches], text: str) -> Matches:
    token = tokens.pop(0) if tokens else None
    if token == "NOT":
        negated = _one(tokens, text)
        return lambda resource: not negated(resource)
    if token == "(":
        inner = _any_of(tokens, text)
        if not tokens or tokens.pop(0) != ")":
            raise _unreadable(text)
        return inner
    if not callable(token):
        raise _unreadable(text)
    return token


def _term(match: re.Match[str]) -> Matches:
    first, *rest = match["field"].lstrip("-").split(".")
    path = [to_camel(first), *(rest if first == "labels" else map(to_camel, rest))]  # a label's key is data
    value = match["value"] if match["quoted"] is None else match["quoted"]
    test = _test(match["op"], value)

    def term(resource: JsonObject) -> bool:
        return any(test(item) for item in _values(resource, path))

    if match["field"].startswith("-") or match["op"] == "!=":
        return lambda resource: not term(resource)
    return term


def _values(value: JsonValue, path: list[str]) -> list[JsonValue]:
    if isinstance(value, list):
        return [inner for item in value for inner in _values(item, path)]
    if path:
        item = value.get(path[0]) if isinstance(value, Mapping) else None
        if item is None:
            return []
        values = _values(item, path[1:])
        return [*values, *(_last_parts(values) if path == ["name"] else ())]
    return list(value) if isinstance(value, Mapping) else [value]  # of an object: its keys


def _last_parts(names: list[JsonValue]) -> list[str]:
    return [name.rpartition("/")[2] for name in names if isinstance(name, str)]


def _test(op: str, value: str) -> Callable[[JsonValue], bool]:
    if order := ORDERS.get(op):
        return lambda item: order(*_comparable(_text(item), value))
    if value.count("*") > MAX_WILDCARDS:
        raise InvalidArgument(f"A value has {MAX_WILDCARDS} wildcards (`*`) at most.", field="filter")
    parts = value.split("*")
    return lambda item: _matches_wildcards(parts, _text(item))


def _matches_wildcards(parts: Sequence[str], text: str) -> bool:
    """Return True if the parts occur in order, the first at the start and the last at the end.

    The leftmost place of each part leaves the most room for the next ones, so nothing is tried twice: the
    time is linear in the text, where a regular expression backtracks.
    """
    first, *middle = parts
    if not middle:
        return text == first
    last, position = middle.pop(), len(first)
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return False
    end = len(text) - len(last)
    for part in middle:
        position = text.find(part, position, end)
        if position < 0:
            return False
        position += len(part)
    return True


def _text(value: JsonValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _comparable(left: str, right: str) -> tuple[float, float] | tuple[str, str]:
    try:
        return float(left), float(right)
    except ValueError:
        return left, right
