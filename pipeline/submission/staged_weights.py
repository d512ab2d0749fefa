"""Stages a backbone's weights: found, checked, converted to a pickle-free NPZ and uploaded once.

The job reads only the NPZ: it downloads nothing and unpickles nothing.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts.codec import build_record, strip_format
from pipeline.artifacts.integrity import is_intact, keep_addressed
from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.checkpoint import convert_lite, read_checkpoint
from pipeline.backbones.imagenet_file import check_installed, find_imagenet_file, hash_file
from pipeline.backbones.keras_file import read_keras_file
from pipeline.backbones.table import Backbone
from pipeline.backbones.weights import check_weights
from pipeline.errors import ConfigError, ObjectNotFound, WeightsMismatch, WeightsNotFound
from pipeline.npz import read_npz, write_npz
from pipeline.storage import Storage

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

FORMAT = 1  # of the pointer to staged weights
_CONVERSION = 1  # raise it when the conversion changes: what was staged before is then not reused


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedWeights:
    """Weights in the bucket.

    Args:
        uri: `<workspace>/weights/<digest>`.
        digest: SHA-256 of the NPZ.
    """

    uri: str
    digest: str

    @classmethod
    def of_bytes(cls, workspace: Workspace, data: bytes) -> StagedWeights:
        """Put an NPZ into the bucket, once; its name there is its digest."""
        digest = hashlib.sha256(data).hexdigest()
        staged = cls(uri=workspace.weights(digest), digest=digest)
        keep_addressed(workspace.storage, staged.uri, data)
        return staged


def read_pointer(workspace: Workspace, pointer: str) -> StagedWeights | None:
    """Return what was staged from an original file; None if nothing was, or it is damaged."""
    storage = workspace.storage
    if not storage.exists(pointer):
        return None
    staged = build_record(StagedWeights, strip_format(storage.read_json(pointer), FORMAT, StagedWeights))
    return staged if is_intact(storage, staged.uri, staged.digest) else None


def stage_weights(workspace: Workspace, backbone: Backbone, weights: str) -> StagedWeights:
    """Put a backbone's weights into the bucket, once.

    Args:
        workspace: Where to.
        backbone: A row of the table.
        weights: `imagenet`, or a path or URI of an NPZ that Graft staged or a Keras `.h5` or `.weights.h5`.

    Raises:
        WeightsNotFound: naming the places looked at and how to give a path.
        WeightsMismatch: if the file's digest or an array is not the backbone's.
    """
    storage = workspace.storage
    source = None if weights == "imagenet" else _fetch_file(storage, backbone, weights)
    digest = backbone.weights_digest if source is None else f"sha256:{hash_file(source, 'sha256')}"
    pointer = _pointer(workspace, backbone, digest)
    staged = read_pointer(workspace, pointer)
    if staged is not None:
        return staged
    arrays = _convert(backbone, source or find_imagenet_file(backbone))
    staged = StagedWeights.of_bytes(workspace, write_npz(check_weights(arrays, backbone)))
    storage.write_json(pointer, {"format": FORMAT, **asdict(staged)})
    logger.info("Staged the weights of %s as %s", backbone.name, staged.uri)
    return staged


def check_packaged(workspace: Workspace, backbone: Backbone, weights: str) -> None:
    """Make sure that weights that come with a package are staged, or that the package is installed.

    Args:
        workspace: Where they are staged.
        backbone: A row of the table.
        weights: `imagenet`, or where other weights are, which is not looked at.

    Raises:
        WeightsNotFound: naming what has to be installed.
    """
    if not workspace.storage.exists(_pointer(workspace, backbone, backbone.weights_digest)):
        check_installed(backbone, weights)


def _pointer(workspace: Workspace, backbone: Backbone, digest: str) -> str:
    return workspace.weights_source(f"{backbone.name}-{digest.replace(':', '-')}-{_CONVERSION}")


def _fetch_file(storage: Storage, backbone: Backbone, weights: str) -> Path:
    try:
        return storage.local_path(weights)
    except (ObjectNotFound, ConfigError) as error:
        raise WeightsNotFound(
            f"There is no weights file {weights!r} for {backbone.name}. Set `model.weights` to `imagenet`, "
            "or to a path or gs:// URI of a Keras .h5 or .weights.h5 file.",
            backbone=backbone.name,
            weights=weights,
        ) from error


def _convert(backbone: Backbone, path: Path) -> dict[str, NDArray[Any]]:
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"PK"):
        return read_npz(path)
    if start == b"\x89HDF\r\n\x1a\n":
        return read_keras_file(path, backbone.name)
    if backbone.weights_package and f"sha256:{hash_file(path, 'sha256')}" == backbone.weights_digest:
        return convert_lite(read_checkpoint(path.read_bytes()), backbone.name)
    raise WeightsMismatch(
        f"{path} is neither an NPZ nor an HDF5 file. Give a Keras .h5 or .weights.h5 file of "
        f"{backbone.name}, or an NPZ that Graft staged; pickles are not read.",
        path=str(path),
    )
