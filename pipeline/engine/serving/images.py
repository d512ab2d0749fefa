"""The images of our own models, checked and decoded before the network sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.engine.serving.instances import PredictionFailed, TensorValue, base64_bytes
from pipeline.engine.serving.limits import WorkerLimits
from pipeline.errors import UndecodableImage
from pipeline.pixels.host import decode_picture, picture_facts
from pipeline.pixels.spec import ALL_BITS, MAX_PIXELS
from pipeline.types import UInt8Image

MAGICS = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"RIFF")


def encoded_image(value: TensorValue) -> bytes:
    """Return the encoded image in a value: its bytes, or base64 text of them.

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


def read_image(value: TensorValue, limits: WorkerLimits) -> UInt8Image:
    """Decode the image in a value.

    Raises:
        PredictionFailed: if it is not an image, damaged, or larger than the limits allow.
    """
    return decode_image(encoded_image(value), limits)


def decode_image(data: bytes, limits: WorkerLimits, *, bits: int = ALL_BITS) -> UInt8Image:
    """Decode an encoded image; `bits` as in `PixelSpec`.

    Raises:
        PredictionFailed: as `read_image`.
    """
    if len(data) > limits.max_picture_bytes:
        raise PredictionFailed(f"The picture has {len(data)} bytes, more than {limits.max_picture_bytes}.")
    try:
        if limits.max_picture_pixels < MAX_PIXELS:
            facts = picture_facts(data)
            if facts.width * facts.height > limits.max_picture_pixels:
                size = f"{facts.width} x {facts.height}"
                raise PredictionFailed(
                    f"The picture has {size} pixels, more than {limits.max_picture_pixels}."
                )
        return decode_picture(data, bits=bits)
    except UndecodableImage as error:
        raise PredictionFailed(error.message) from error


def find_bad_images(values: Sequence[TensorValue], limits: WorkerLimits) -> dict[int, str]:
    """Return what is wrong with each image that cannot be predicted, by its index."""
    problems = {}
    for index, value in enumerate(values):
        try:
            read_image(value, limits)
        except PredictionFailed as error:
            problems[index] = error.message
    return problems


def bad_images_error(problems: Mapping[int, str]) -> PredictionFailed:
    """Return the error of a request with bad images."""
    text = "; ".join(f"instance {index}: {problems[index]}" for index in sorted(problems))
    return PredictionFailed(f"Error processing input: {text}")
