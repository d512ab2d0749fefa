"""Stages a network of the user's own: its file is read, checked and converted once, where jobs are submitted.

A job reads what was staged: it needs neither the file nor what the file was made with.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.artifacts.network import NetworkRecord
from pipeline.artifacts.template import TrunkRecord
from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.imagenet_file import hash_file
from pipeline.backbones.own import own_backbone
from pipeline.backbones.table import Backbone
from pipeline.config.network import NetworkConfig, ScalingConfig
from pipeline.errors import ConfigError, NetworkRefused, StorageError
from pipeline.keras_archive import RefusedLayer, check_layers
from pipeline.onnx_archive import open_onnx
from pipeline.storage import Storage
from pipeline.submission import network_import
from pipeline.submission.network_import import ImportRequest
from pipeline.submission.staged_weights import FORMAT, StagedWeights, read_pointer
from pipeline.trainer.shared_cache import share_file
from pipeline.trainer.trunk import made_by_name

logger = logging.getLogger(__name__)

_CONVERSION = 1  # raise it when the conversion changes: what was staged before is then not reused
_TIMEOUT_SECONDS = 1800


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedNetwork:
    """A network in the bucket.

    Args:
        weights: Its graph and constants.
        backbone: What it is fed and what it gives.
    """

    weights: StagedWeights
    backbone: Backbone


def stage_network(workspace: Workspace, network: NetworkConfig) -> StagedNetwork:
    """Put a network into the bucket, once for each file and what the YAML says of it.

    Raises:
        NetworkRefused: naming the file, what keeps it from being a backbone, and what to change.
    """
    path = fetch_network(workspace.storage, network)
    _check(network, path)
    request = _build_request(network, path)
    pointer = workspace.weights_source(f"own-{_digest_request(request)}")
    staged = read_pointer(workspace, pointer)
    if staged is None or not workspace.storage.exists(workspace.network(staged.digest)):
        staged = _import(workspace, network, request)
        workspace.storage.write_json(pointer, {"format": FORMAT, **asdict(staged)})
        logger.info("Staged %s as %s", network.uri, staged.uri)
    record = NetworkRecord.read(workspace, staged.digest)
    return StagedNetwork(weights=staged, backbone=own_backbone(record))


def fetch_network(storage: Storage, network: NetworkConfig) -> Path:
    """Return a local copy of a network's file.

    Raises:
        NetworkRefused: if it cannot be read.
    """
    try:
        path = storage.local_path(network.uri)
        with path.open("rb"):
            return path
    except (StorageError, ConfigError, OSError) as error:
        raise _refused(network, f"it cannot be read: {error} Give a path or gs:// URI of a file") from error


def check_file(storage: Storage, network: NetworkConfig) -> None:
    """Look at a network's file without reading its weights.

    Raises:
        NetworkRefused: if it cannot be read, or names layers or operations that are not Keras's or ONNX's.
    """
    path = fetch_network(storage, network)
    _check(network, path)
    if network.onnx:  # a run leaves this to the process that reads the file, once for each file
        try:
            open_onnx(path)
        except NetworkRefused as error:
            raise _refused(network, str(error)) from error


def _check(network: NetworkConfig, path: Path) -> None:
    if network.keras:
        _check_layers(network, path)
    if not network.application:
        return
    with path.open("rb") as file:
        if file.read(8) != b"\x89HDF\r\n\x1a\n":
            raise _refused(network, "it is no HDF5 file; give Keras's `.h5` or `.weights.h5`")


def _check_layers(network: NetworkConfig, path: Path) -> None:
    try:
        check_layers(path)
    except RefusedLayer as error:
        raise _refused(network, f"{str(error).partition(';')[0]}; use layers of Keras only") from error
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        fix = "Save the whole model again with `model.save('NAME.keras')`"
        raise _refused(network, f"it is truncated, or no `.keras` file: {error}. {fix}") from error


def _refused(network: NetworkConfig, reason: str) -> NetworkRefused:
    return NetworkRefused(
        f"`model.backbone`: {network.uri} cannot be a backbone: {reason.rstrip('.')}.", uri=network.uri
    )


def _build_request(network: NetworkConfig, path: Path) -> ImportRequest:
    scaling = network.scaling
    return ImportRequest(
        name=network.name,
        path=str(path),
        application=network.application,
        is_onnx=bool(network.onnx),
        output=network.output,
        size=network.size,
        scaling=scaling if isinstance(scaling, str) else "",
        mean=scaling.mean if isinstance(scaling, ScalingConfig) else None,
        std=scaling.std if isinstance(scaling, ScalingConfig) else None,
    )


def _digest_request(request: ImportRequest) -> str:
    values = {**asdict(request), "path": hash_file(Path(request.path), "sha256"), "conversion": _CONVERSION}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _import(workspace: Workspace, network: NetworkConfig, request: ImportRequest) -> StagedWeights:
    with tempfile.TemporaryDirectory(prefix="graft-network-") as temporary:
        folder = Path(temporary)
        request.write(folder)
        _run(network, folder)
        data = (folder / network_import.NETWORK).read_bytes()
        staged = StagedWeights.of_bytes(workspace, data)
        record = NetworkRecord.from_dict(json.loads((folder / network_import.NETWORK_RECORD).read_text()))
        trunk = TrunkRecord.from_dict(json.loads((folder / network_import.TRUNK_RECORD).read_text()))
        spec = own_backbone(record).spec
        shared = workspace.tflite(staged.digest, spec.digest, made_by_name(dict(trunk.made_by)))
        share_file(shared, folder / network_import.TRUNK, trunk)
        record.write(workspace, staged.digest)
        return staged


def _run(network: NetworkConfig, folder: Path) -> None:
    command = [sys.executable, "-P", "-m", network_import.__name__, str(folder)]
    environ = os.environ | {"KERAS_BACKEND": "tensorflow"}
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    try:
        done = subprocess.run(
            command, env=environ, check=False, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise _refused(network, f"reading it took more than {_TIMEOUT_SECONDS} seconds") from error
    if done.returncode == 0:
        return
    refusal = folder / network_import.ERROR
    if refusal.exists():
        raise _refused(network, refusal.read_text(encoding="utf-8"))
    logger.error("The process that reads %s ended:\n%s", network.uri, done.stderr[-5000:])
    last = (done.stderr.strip().splitlines() or ["it left no message"])[-1]
    raise _refused(network, f"the process that reads it ended with status {done.returncode}: {last[:300]}")
