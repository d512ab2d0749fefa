"""The nesting depth of JSON, measured without parsing it: parsers may recurse."""

from __future__ import annotations

import re

from pipeline.errors import InvalidArgument

ESCAPE = re.compile(rb"\\.", re.DOTALL)
STRING = re.compile(rb'"[^"]*"')
ALL_BRACKETS_ALIKE = bytes.maketrans(b"{}", b"[]")
NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))


def check_depth(body: bytes, limit: int) -> None:
    """Check that arrays and objects are not nested too deeply.

    Images in base64 are dropped by the first step, at memory speed.

    Raises:
        InvalidArgument: if they are.
    """
    if b"\\" in body:
        body = ESCAPE.sub(b"", body)
    brackets = STRING.sub(b"", body.translate(ALL_BRACKETS_ALIKE, NOT_STRUCTURE))
    for _ in range(limit):
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"")
    if b"[]" in brackets or brackets.count(b"[") > limit:  # else it is malformed: the parser says how
        raise InvalidArgument(f"The JSON is nested more deeply than {limit} levels.")
