"""What is checked of a JSON body before it is parsed: its encoding and its depth, for parsers may recurse."""

from __future__ import annotations

import asyncio
from itertools import accumulate

from starlette.requests import Request

from pipeline.errors import InvalidArgument

ALL_BRACKETS_ALIKE = bytes.maketrans(b"{}", b"[]")
NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
STEPS = [0] * 256
STEPS[ord("[")], STEPS[ord("]")] = 1, -1
CHUNK_BYTES = 16_384  # the interpreter lock is released between two of them
LARGE_BYTES = 100_000  # a larger body is checked in a thread: other requests go on


async def read_body(request: Request, *, max_depth: int) -> bytes:
    """Return the body of a request once it is known to be UTF-8 and not too deep.

    Raises:
        InvalidArgument: if it is not.
    """
    body = await request.body()
    if len(body) > LARGE_BYTES:
        await asyncio.to_thread(check_json, body, max_depth)
    else:
        check_json(body, max_depth)
    return body


def check_json(body: bytes, max_depth: int) -> None:
    """Check the encoding and the depth; Python's parser would accept UTF-16 and UTF-32, too.

    Raises:
        InvalidArgument: if the body is not UTF-8, or nested too deeply.
    """
    check_utf8(body)
    check_depth(body, max_depth)


def check_utf8(body: bytes) -> None:
    """Check that a body is UTF-8; JSON has no zero bytes, but ASCII in UTF-16 does.

    Raises:
        InvalidArgument: if it is not.
    """
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"Invalid JSON payload received. It is not UTF-8: {error.reason}.") from error
    if b"\0" in body:
        raise InvalidArgument("Invalid JSON payload received. It has zero bytes: it is not UTF-8.")


def check_depth(body: bytes, limit: int) -> None:
    """Check that arrays and objects are not nested too deeply, in time that is linear in the body.

    Images in base64 are dropped by the first step, at memory speed.

    Raises:
        InvalidArgument: if they are.
    """
    if b"\\" in body:
        body = body.replace(rb"\\", b"").replace(rb"\"", b"")
    structure = body.translate(ALL_BRACKETS_ALIKE, NOT_STRUCTURE)
    depth, in_string = 0, False
    for start in range(0, len(structure), CHUNK_BYTES):
        pieces = structure[start : start + CHUNK_BYTES].split(b'"')
        brackets = b"".join(pieces[in_string::2])
        in_string ^= len(pieces) % 2 == 0
        depths = list(accumulate(map(STEPS.__getitem__, brackets), initial=depth))
        if max(depths) > limit:
            raise InvalidArgument(f"The JSON is nested more deeply than {limit} levels.")
        depth = depths[-1]
