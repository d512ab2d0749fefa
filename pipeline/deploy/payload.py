"""Fits pictures into what a request may hold: v1's limit, which every engine takes.

A picture that is too large is sent at the network's own size. The version would make the same pixels of
it, so the answer is the same.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence

from PIL import Image

from pipeline.artifacts.workspace import Workspace
from pipeline.deploy.version import model_directories
from pipeline.errors import ObjectNotFound, StorageError, UndecodableImage
from pipeline.ml_engine.protocol import MLEngine
from pipeline.pixels.host import decode_resized
from pipeline.pixels.spec import PixelSpec
from pipeline.types import JsonValue

MAX_PAYLOAD_BYTES = 1_572_864  # of the body of a request
MAX_PICTURE_BYTES = 1_100_000  # of one picture: base64 makes four bytes of three, and JSON is around it
MIN_TEXT = 1000  # a shorter text in an instance is no picture that is worth shrinking

FindSpec = Callable[[], PixelSpec | None]
Report = Callable[[str], None]


def find_pixel_spec(workspace: Workspace, engine: MLEngine, model: str, version: str) -> PixelSpec | None:
    """Return the pixels that a version's network is fed.

    None if they are unknown: the version is not Graft's, or its bucket cannot be read from here.
    """
    for directory in model_directories(workspace, engine, model, version):
        try:
            manifest = directory.storage.read_json(directory.tflite_manifest)
            return PixelSpec.from_dict(manifest["spec"])
        except ObjectNotFound:
            continue
        except (StorageError, ValueError, TypeError, KeyError):
            return None
    return None


def fit_picture(data: bytes, spec: PixelSpec) -> bytes:
    """Return a picture at the network's size, as a PNG; as it is if it cannot be decoded.

    Who answers says why a picture cannot be decoded.
    """
    try:
        pixels = decode_resized(data, spec)
    except UndecodableImage:
        return data
    Image.fromarray(pixels).save(file := io.BytesIO(), "PNG", optimize=True)
    return file.getvalue()


def fit_pictures(pictures: Mapping[str, bytes], find_spec: FindSpec, report: Report) -> dict[str, bytes]:
    """Return pictures that requests may hold; those that are small enough are not changed.

    Args:
        pictures: Encoded pictures by name.
        find_spec: Finds the pixels of the network; asked only if a picture is too large.
        report: Is told what was done to a picture.
    """
    large = [name for name, data in pictures.items() if len(data) > MAX_PICTURE_BYTES]
    spec = find_spec() if large else None
    fitting = dict(pictures)
    for name in large:
        before = f"{name}: {len(pictures[name]) / 1e6:.1f} MB are more than a request of v1 holds"
        if spec is None:
            report(f"{before}; sent as it is, because the network's size is not known here.")
            continue
        fitting[name] = fit_picture(pictures[name], spec)
        report(
            f"{before}; sent as {spec.width} x {spec.height} pixels, the network's own size "
            f"({len(fitting[name]) / 1e3:.0f} kB)."
        )
    return fitting


def fit_for_versions(
    workspace: Workspace, engine: MLEngine, versions: Mapping[str, str], data: bytes
) -> list[tuple[dict[str, str], bytes]]:
    """Return the bytes of a picture for the versions of several models, which may have different networks.

    Args:
        workspace: Where the models are.
        engine: Serves them.
        versions: Of each model.
        data: The encoded picture.

    Returns:
        Versions that are sent the same bytes, with these: all of them, unless the picture is too large.
    """
    if len(data) <= MAX_PICTURE_BYTES:
        return [(dict(versions), data)]
    groups: dict[bytes, dict[str, str]] = {}
    for model, version in versions.items():
        spec = find_pixel_spec(workspace, engine, model, version)
        groups.setdefault(fit_picture(data, spec) if spec else data, {})[model] = version
    return [(group, fitting) for fitting, group in groups.items()]


def fit_instances(instances: Sequence[JsonValue], spec: PixelSpec) -> list[JsonValue]:
    """Return instances of a request with their pictures at the network's size, where that is smaller."""
    return [_fit_value(instance, spec) for instance in instances]


def split_instances(instances: Sequence[JsonValue]) -> Iterator[list[JsonValue]]:
    """Yield the instances in requests that stay within the limit; one that is too large goes alone."""
    request: list[JsonValue] = []
    size = 0
    for instance in instances:
        added = payload_bytes([instance])
        if request and size + added > MAX_PAYLOAD_BYTES:
            yield request
            request, size = [], 0
        request.append(instance)
        size += added
    if request:
        yield request


def payload_bytes(instances: Sequence[JsonValue]) -> int:
    """Return how large the body of a request with these instances is."""
    return len(json.dumps({"signature_name": "serving_default", "instances": list(instances)}))


def _fit_value(value: JsonValue, spec: PixelSpec) -> JsonValue:
    if isinstance(value, str):
        return _fit_text(value, spec)
    if isinstance(value, Mapping):
        return {name: _fit_value(each, spec) for name, each in value.items()}
    return value


def _fit_text(text: str, spec: PixelSpec) -> str:
    """Return base64 of a picture, in the alphabet it came in; any other text as it is."""
    if len(text) < MIN_TEXT:
        return text
    is_url_safe = "-" in text or "_" in text
    try:
        data = base64.b64decode(text, altchars=b"-_" if is_url_safe else None, validate=True)
    except (binascii.Error, ValueError):
        return text
    fitting = fit_picture(data, spec)
    if len(fitting) >= len(data):
        return text
    encode = base64.urlsafe_b64encode if is_url_safe else base64.b64encode
    return encode(fitting).decode()
