"""Pictures are judged on the host before our own graph sees them, so that a bad one is named by its index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.engine.serving.instances import PredictionFailed, base64_bytes
from pipeline.errors import UndecodableImage
from pipeline.pixels.host import decode_picture

MAGICS = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"RIFF")


def encoded_picture(value: Any) -> bytes:
    """Return the encoded picture in a value: its bytes, or base64 text of them.

    Raises:
        PredictionFailed: if it is neither.
    """
    if isinstance(value, bytes) and value.startswith(MAGICS):
        return value
    if isinstance(value, bytes):
        try:
            return base64_bytes(value.decode("ascii"))
        except (PredictionFailed, UnicodeDecodeError):
            return value
    return base64_bytes(value)


def find_bad_pictures(values: Sequence[Any]) -> dict[int, str]:
    """Return what is wrong with each picture that cannot be predicted, by its index."""
    problems = {}
    for index, value in enumerate(values):
        try:
            decode_picture(encoded_picture(value))
        except (UndecodableImage, PredictionFailed) as error:
            problems[index] = error.message
    return problems
