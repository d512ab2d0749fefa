"""The two parts of a TFLite export that are served apart: the network, which versions share, and the head.

Standard library only: the engine's API process reads them.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

from pipeline.artifacts.model_files import HEAD, LABELS, NOVELTY, TFLITE_NETWORK
from pipeline.errors import TFLiteUnavailable
from pipeline.tflite.manifest import TFLiteManifest
from pipeline.types import JsonDict

PIECE_BYTES = 1 << 20
LABELS_MEMBER, THRESHOLDS_MEMBER = "labels", "thresholds"
ARCHIVES = {"head": HEAD, "novelty": NOVELTY}  # the first part of the names of their arrays


def network_digest(manifest: TFLiteManifest) -> str:
    """Return the SHA-256 of a model's network."""
    return manifest.files[TFLITE_NETWORK]


def copy_network(directory: Path, manifest: TFLiteManifest, target: Path) -> None:
    """Copy the network of a model to a file, in pieces: what is read whole stays with the process.

    Raises:
        TFLiteUnavailable: if it is not the one in the manifest; then there is no file.
    """
    digest = hashlib.sha256()
    try:
        with (directory / TFLITE_NETWORK).open("rb") as source, target.open("wb") as file:
            while piece := source.read(PIECE_BYTES):
                digest.update(piece)
                file.write(piece)
    except OSError as error:
        target.unlink(missing_ok=True)
        raise TFLiteUnavailable(f"{TFLITE_NETWORK} cannot be read: {error.strerror}") from error
    if digest.hexdigest() != network_digest(manifest):
        target.unlink()
        raise TFLiteUnavailable(_not_compared(TFLITE_NETWORK))


def read_head_members(directory: Path, manifest: TFLiteManifest) -> dict[str, bytes]:
    """Return the labels, the thresholds and the arrays of a model's head, the arrays as `.npy`.

    Raises:
        TFLiteUnavailable: if a file of the model is not the one in the manifest, or no archive of arrays.
    """
    thresholds: JsonDict = {"reject_below": manifest.reject_below, "reject_unlike": manifest.reject_unlike}
    if manifest.thresholds:
        thresholds["thresholds"] = dict(manifest.thresholds)
    members = {
        LABELS_MEMBER: _read(directory, manifest, LABELS),
        THRESHOLDS_MEMBER: json.dumps(thresholds).encode(),
    }
    for part, name in ARCHIVES.items():
        if name not in manifest.files:
            continue
        try:
            with zipfile.ZipFile(io.BytesIO(_read(directory, manifest, name))) as archive:
                members |= {f"{part}/{each}": archive.read(each) for each in sorted(archive.namelist())}
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError) as error:
            raise TFLiteUnavailable(f"{name} is no archive of arrays: {error}") from error
    return members


def _read(directory: Path, manifest: TFLiteManifest, name: str) -> bytes:
    try:
        data = (directory / name).read_bytes()
    except OSError as error:
        raise TFLiteUnavailable(f"{name} cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != manifest.files[name]:
        raise TFLiteUnavailable(_not_compared(name))
    return data


def _not_compared(name: str) -> str:
    return f"{name} is not the file that was compared with TensorFlow"
