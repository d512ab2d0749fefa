"""Reading an answer's body within limits: bytes after decoding, time, and speed."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from typing import NoReturn

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from pipeline.datasets.fetcher.policy import FetchPolicy
from pipeline.datasets.fetcher.reasons import FetchReason
from pipeline.datasets.fetcher.validators import Validators
from pipeline.errors import FetchRefused

PIECE_BYTES = 2**16
_DEFLATED = {"gzip": 31, "x-gzip": 31, "deflate": 47}


def read_body(
    response: requests.Response, *, max_bytes: int, deadline: float, policy: FetchPolicy
) -> Iterator[bytes]:
    """Yield the decoded body in pieces.

    What the server says of its length is used to refuse early and to find a body cut short, never to trust.

    Args:
        response: An answer whose body was not read yet.
        max_bytes: Of the decoded body.
        deadline: On `time.monotonic()`.
        policy: Says how slow a server may be.

    Raises:
        FetchRefused: `too_large`, `timeout`, `too_slow`, `cut_short` or `bad_encoding`.
    """
    length = Validators.from_headers(response.headers).length
    if length is not None and length > max_bytes:
        _refuse(FetchReason.TOO_LARGE, f"says that it has {length} bytes, more than {max_bytes} bytes")
    received = decoded = 0
    decoder = _Decoder(response.headers.get("content-encoding", ""))
    start = time.monotonic()
    for piece in _read_pieces(response):
        received += len(piece)
        for part in decoder.decode(piece):
            decoded += len(part)
            if decoded > max_bytes:
                _refuse(FetchReason.TOO_LARGE, f"has more than {max_bytes} bytes, the limit")
            yield part
        _check_pace(received, start, deadline, policy)
    if (length is not None and received < length) or not decoder.is_whole:
        _refuse(FetchReason.CUT_SHORT, f"ended after {received} of {length or 'more'} bytes")


def _check_pace(received: int, start: float, deadline: float, policy: FetchPolicy) -> None:
    now = time.monotonic()
    if now > deadline:
        _refuse(FetchReason.TIMEOUT, f"took longer than {policy.config.deadline_seconds:.0f} s")
    elapsed = now - start
    if elapsed > policy.grace_seconds and received < elapsed * policy.config.min_bytes_per_second:
        _refuse(FetchReason.TOO_SLOW, f"sent {received} bytes in {elapsed:.0f} s")


def _read_pieces(response: requests.Response) -> Iterator[bytes]:
    try:
        while piece := response.raw.read1(PIECE_BYTES, decode_content=False):
            yield piece
    except (ReadTimeoutError, TimeoutError):
        _refuse(FetchReason.TIMEOUT, "stopped sending")
    except (HTTPError, OSError) as error:
        _refuse(FetchReason.CUT_SHORT, f"broke off: {error}")


def _refuse(reason: FetchReason, message: str) -> NoReturn:
    raise FetchRefused(message, reason=reason)


class _Decoder:
    """Undoes gzip and deflate piece by piece: a bomb is noticed when the limit is passed, not afterwards."""

    def __init__(self, encoding: str) -> None:
        name = encoding.strip().lower()
        if name not in ("", "identity", *_DEFLATED):
            _refuse(FetchReason.BAD_ENCODING, f"comes encoded as {encoding[:50]!r}, which was not asked for")
        self._decoder = zlib.decompressobj(_DEFLATED[name]) if name in _DEFLATED else None

    def decode(self, piece: bytes) -> Iterator[bytes]:
        if self._decoder is None:
            yield piece
            return
        while piece and not self._decoder.eof:
            try:
                part = self._decoder.decompress(piece, PIECE_BYTES)
            except zlib.error as error:
                _refuse(FetchReason.BAD_ENCODING, f"is not what its Content-Encoding says: {error}")
            yield part
            piece = self._decoder.unconsumed_tail

    @property
    def is_whole(self) -> bool:
        """Whether the end mark of the encoding was there."""
        return self._decoder is None or self._decoder.eof
