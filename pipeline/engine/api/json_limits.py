"""What is checked of a JSON body before it is parsed: its encoding and its depth, for parsers may recurse."""

from __future__ import annotations

import asyncio
import zlib
from itertools import accumulate

from starlette.requests import Request

from pipeline.errors import InvalidArgument

ALL_BRACKETS_ALIKE = bytes.maketrans(b"{}", b"[]")
NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
STEPS = [0] * 256
STEPS[ord("[")], STEPS[ord("]")] = 1, -1
CHUNK_BYTES = 16_384  # the interpreter lock is released between two of them
LARGE_BYTES = 100_000  # a larger body is checked in a thread: other requests go on


async def read_body(request: Request, *, max_depth: int, max_bytes: int) -> bytes:
    """Return the body of a request, unpacked, once it is known to be UTF-8 and not too deep.

    Raises:
        InvalidArgument: if it is not, or is packed in another way than by gzip, or too large unpacked.
    """
    body = await request.body()
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("gzip", "x-gzip"):
        body = await asyncio.to_thread(unpack_gzip, body, max_bytes)
    elif encoding not in ("", "identity"):
        raise InvalidArgument(f"Content-Encoding {encoding!r} is not read; send gzip, or the body as it is.")
    if len(body) > LARGE_BYTES:
        await asyncio.to_thread(check_json, body, max_depth)
    else:
        check_json(body, max_depth)
    return body


def unpack_gzip(body: bytes, max_bytes: int) -> bytes:
    """Unpack a gzipped body, as far as a body may be large.

    Raises:
        InvalidArgument: if it is damaged, or larger.
    """
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        data = unpacker.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise InvalidArgument(f"The body is not gzip, as its Content-Encoding says: {error}") from error
    if len(data) > max_bytes:
        raise InvalidArgument(f"Request payload size exceeds the limit: {max_bytes} bytes, unpacked.")
    if not unpacker.eof or unpacker.unused_data:
        raise InvalidArgument("The gzipped body is cut off, or has something after its end.")
    return data


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
