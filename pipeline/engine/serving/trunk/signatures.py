"""What the signatures of our own models take: the instances of requests and the lines of batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from pipeline.engine.serving.images import decode_image, encoded_image
from pipeline.engine.serving.instances import (
    PredictionFailed,
    TensorValue,
    check_line,
    columns_of,
    parse_json,
)
from pipeline.engine.serving.limits import WorkerLimits
from pipeline.engine.serving.trunk.micro_batcher import Picture
from pipeline.pixels.host import resize_picture
from pipeline.pixels.spec import PixelSpec
from pipeline.types import JsonValue, UInt8Image

# The inputs of each signature, as the SavedModel has them.
SIGNATURES = {
    "serving_default": ("inputs",),
    "keyed": ("inputs", "key"),
    "explained": ("inputs", "key"),
    "pixels": ("inputs",),
}
ReadPicture: TypeAlias = Callable[[TensorValue], Picture]


@dataclass(slots=True, kw_only=True)
class Instance:
    """One instance of a request."""

    image: TensorValue = None
    key: TensorValue = None

    def read(self, read: ReadPicture) -> Picture:
        """Return its picture; the worker thread that predicts it does this.

        Raises:
            PredictionFailed: if it cannot be predicted.
        """
        return read(self.image)


@dataclass(slots=True, kw_only=True)
class BatchLine(Instance):
    """A line of a batch: it is parsed by the worker thread, and a bad one fails alone."""

    line: bytes
    signature: str

    def read(self, read: ReadPicture) -> Picture:
        """Parse the line and return its picture."""
        try:
            value = parse_json(self.line)
        except (ValueError, RecursionError) as error:
            raise PredictionFailed(f"Invalid JSON: {error}") from error
        check_line(value, SIGNATURES[self.signature])
        (instance,) = read_instances([value], self.signature)
        self.key = instance.key
        try:
            picture = read(instance.image)
        except PredictionFailed as error:
            raise _of_line(error) from error
        return Picture(key=picture.key, decode=partial(_decode_line, picture))


def _decode_line(picture: Picture) -> UInt8Image:
    try:
        return picture.decode()
    except PredictionFailed as error:
        raise _of_line(error) from error


def _of_line(error: PredictionFailed) -> PredictionFailed:
    return PredictionFailed(f"Error processing input: {error.message}")


def picture_reader(signature: str, spec: PixelSpec, limits: WorkerLimits) -> ReadPicture:
    """Return how the pictures of a signature are read."""

    def read_pixels(value: TensorValue) -> Picture:
        return Picture(key="", decode=partial(check_pixels, value, (spec.height, spec.width, 3)))

    def read_encoded(value: TensorValue) -> Picture:
        data = encoded_image(value)
        key = hashlib.sha256(data).hexdigest()
        return Picture(
            key=key, decode=lambda: resize_picture(decode_image(data, limits, bits=spec.bits), spec)
        )

    return read_pixels if signature == "pixels" else read_encoded


def read_instances(values: Sequence[JsonValue], signature: str) -> list[Instance]:
    """Return the instances of a request.

    Raises:
        PredictionFailed: if there is no such signature, an input is missing, or a key is not a string.
    """
    if signature not in SIGNATURES:
        raise PredictionFailed(no_signature(signature))
    columns = columns_of(values, SIGNATURES[signature])
    keys = columns.get("key", [None] * len(values))
    for index, key in enumerate(columns.get("key", [])):
        if not isinstance(key, str | bytes):
            raise PredictionFailed(
                f"Error processing input: instance {index}: a key is a string. Received: {str(key)[:80]!r}"
            )
    return [Instance(image=image, key=key) for image, key in zip(columns["inputs"], keys, strict=True)]


def no_signature(name: str) -> str:
    """Return what is said of a signature that the model has not."""
    return f"the model has no signature {name!r}; it has {', '.join(sorted(SIGNATURES))}."


def check_pixels(value: TensorValue, shape: tuple[int, int, int]) -> UInt8Image:
    """Return the pixels that a client sent as numbers.

    Raises:
        PredictionFailed: if they have another shape, or are not whole numbers from 0 to 255.
    """
    try:
        levels = np.asarray(value)
    except ValueError as error:
        raise PredictionFailed(f"the levels of a picture are {shape} whole numbers: {error}") from error
    if levels.shape != shape or levels.dtype.kind != "i" or levels.min() < 0 or levels.max() > 255:
        raise PredictionFailed(
            f"the levels of a picture are {shape} whole numbers from 0 to 255. "
            f"Received: {levels.shape} of type {levels.dtype}"
        )
    return levels.astype(np.uint8)
