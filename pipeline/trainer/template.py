"""Templates: a SavedModel of placeholder numbers, and where in the file a head's own numbers go.

All models of one backbone, of the same labels and units, are one graph. Only the arrays of the head and of
the novelty differ, and the limits below and above which answers are refused. So TensorFlow exports the graph
once, with random numbers in their places, and each training job writes its own over them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

import pipeline
from pipeline.artifacts.template import TemplateRecord
from pipeline.errors import SignatureMismatch
from pipeline.tflite.head import Head, LogisticHead, TrainedHead
from pipeline.tflite.novelty import DIRECTIONS, STEPS, Novelty
from pipeline.trainer.shared_cache import CheckedFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

ModelNumbers: TypeAlias = "Mapping[str, NDArray[np.generic]]"  # what differs from model to model, by name
SAVED_MODEL = "saved_model.pb"
_SCALAR_MARK = b"\x2a\x04"  # `float_val` of a TensorProto with one number: its tag and its length
_GRAPH_SOURCES = (
    *("trainer/export.py", "trainer/signatures.py", "trainer/head_graph.py"),
    "trainer/placeholder_constants.py",
    *("pixels/graph.py", "pixels/header.py", "pixels/spec.py", "backbones/networks"),
)


def template_key(
    classes: Sequence[str],
    *,
    units: int | None,
    rejects_unlike: bool,
    has_thresholds: bool = False,
    versions: Mapping[str, str],
) -> str:
    """Return the digest of what two models of the same weights must share to be one graph.

    The code that writes the graph is part of it: an edited trainer package exports templates of its own.

    Args:
        classes: The label of each class.
        units: Width of the hidden layer; None for logistic regression, which has none.
        rejects_unlike: Whether the graph compares the novelty with a limit.
        has_thresholds: Whether each class has a probability of its own below which there is no label.
        versions: Of what exports the graph.
    """
    parts = [list(classes), units, rejects_unlike, has_thresholds, dict(versions), _digest_sources()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _digest_sources() -> str:
    root, digest = Path(pipeline.__file__).parent, hashlib.sha256()
    for entry in _GRAPH_SOURCES:
        path = root / entry
        for file in sorted(path.glob("*.py")) if path.is_dir() else (path,):
            digest.update(f"{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def model_numbers(
    head: TrainedHead, novelty: Novelty, *, reject_below: float | Sequence[float], reject_unlike: float
) -> ModelNumbers:
    """Return the numbers of one model by name; a limit of 0 for the novelty is not in the graph."""
    limits: dict[str, float | Sequence[float]] = {"reject_below": reject_below}
    limits |= {"reject_unlike": reject_unlike} if reject_unlike else {}
    return {
        **head.arrays(),
        **novelty.arrays(),
        **{name: np.array(value, np.float32) for name, value in limits.items()},
    }


def sentinel_numbers(
    feature_width: int, num_classes: int, *, units: int | None, has_thresholds: bool = False
) -> tuple[TrainedHead, Novelty, float | list[float], float]:
    """Return a head, a novelty and two limits whose bytes are in no graph by chance."""
    random = np.random.default_rng(0)
    head = _sentinel_head(random, feature_width, num_classes, units)
    novelty = Novelty(
        directions=random.integers(0, 256, (DIRECTIONS, feature_width), np.uint8),
        quantiles=np.sort(random.random(STEPS + 1, np.float32)),
    )
    below, unlike = random.random(2, np.float32).tolist()
    bounds = random.random(num_classes, np.float32).tolist() if has_thresholds else below
    return head, novelty, bounds, unlike


def _sentinel_head(
    random: np.random.Generator, feature_width: int, num_classes: int, units: int | None
) -> TrainedHead:
    """Return a head whose answers are far from certain: a check of it sees every feature."""

    def normal(*shape: int, scale: float) -> NDArray[np.float32]:
        return random.normal(0, scale, shape).astype(np.float32)

    if units is None:
        return LogisticHead(
            output_kernel=normal(feature_width, num_classes, scale=1),
            output_bias=normal(num_classes, scale=0.1),
        )
    return Head(
        hidden_kernel=normal(feature_width, units, scale=(2 / (feature_width + units)) ** 0.5),
        hidden_bias=normal(units, scale=0.1),
        output_kernel=normal(units, num_classes, scale=(2 / (units + num_classes)) ** 0.5),
        output_bias=normal(num_classes, scale=0.1),
    )


def find_offsets(
    data: bytes, numbers: ModelNumbers, expected: Mapping[str, int]
) -> dict[str, tuple[int, ...]]:
    """Return where in an exported file the bytes of each array begin.

    Args:
        data: The file.
        numbers: What it was exported with.
        expected: How often each array must be in it.

    Raises:
        SignatureMismatch: if one is there more or less often.
    """
    offsets = {name: tuple(_find_all(data, array)) for name, array in numbers.items()}
    for name, places in offsets.items():
        if len(places) != expected[name]:
            raise SignatureMismatch(
                f"`{name}` is {len(places)} times in the exported graph; expected {expected[name]}.",
                array=name,
            )
    return offsets


def _find_all(data: bytes, array: NDArray[np.generic]) -> list[int]:
    mark = _SCALAR_MARK if array.size == 1 else b""  # four bytes alone may be anywhere
    needle, places, start = mark + array.tobytes(), [], 0
    while (start := data.find(needle, start)) >= 0:
        places.append(start + len(mark))
        start += len(needle)
    return places


def write_saved_model(template: CheckedFile[TemplateRecord], directory: Path, numbers: ModelNumbers) -> str:
    """Write a template with a model's own numbers in their places; return the SHA-256 of the graph's file.

    Raises:
        SignatureMismatch: if the template has places for other arrays.
    """
    record = template.record
    sizes = {name: array.nbytes for name, array in numbers.items()}
    if sizes != record.sizes or sizes.keys() != record.offsets.keys():
        raise SignatureMismatch(f"The template has places for {record.sizes}. Received: {sizes}")
    patches = sorted(
        (offset, numbers[name].tobytes()) for name, places in record.offsets.items() for offset in places
    )
    for name, text in record.files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(base64.b64decode(text))
    digest, position = hashlib.sha256(), 0
    with template.path.open("rb") as source, (directory / SAVED_MODEL).open("wb") as file:
        with mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as data:
            for offset, patch in (*patches, (len(data), b"")):
                for part in (data[position:offset], patch):
                    digest.update(part)
                    file.write(part)
                position = offset + len(patch)
    return digest.hexdigest()
