"""One `.keras` file of a backbone and a head, written by Keras in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts.model_files import LINEAGE
from pipeline.artifacts.model_record import Lineage
from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.table import BACKBONES
from pipeline.config.classifier import Classifier
from pipeline.errors import ConfigError, TFLiteUnavailable
from pipeline.npz import read_npz, write_npz
from pipeline.tflite.head import TrainedHead
from pipeline.trainer.frozen_network import weights_path

if TYPE_CHECKING:
    from pipeline.types import Float32Outputs, UInt8Images

MODULE = "pipeline.backbones.networks.keras_classifier"
SECONDS = 600
SHOWN = 2_000  # characters of what Keras printed


def build_keras_file(
    workspace: Workspace, directory: Path, head: TrainedHead, pixels: UInt8Images
) -> tuple[bytes, Float32Outputs]:
    """Return a `.keras` file of a version, and what it answers for some pictures.

    Args:
        workspace: Where the weights of its backbone are staged.
        directory: The model directory of the version.
        head: Its head.
        pixels: The pictures.

    Raises:
        ConfigError: if the version does not say which of Graft's backbones it has.
        WeightsMismatch: if the staged weights are damaged.
        TFLiteUnavailable: if Keras cannot write the file.
    """
    backbone, weights_uri = _find_backbone(directory)
    weights = weights_path(weights_uri, workspace.storage)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "head.npz").write_bytes(write_npz(head.arrays()))
        (place / "pixels.npz").write_bytes(write_npz({"pixels": pixels}))
        _run_keras([backbone, str(weights), folder])
        outputs: Float32Outputs = read_npz(place / "outputs.npz")["outputs"]
        return (place / "model.keras").read_bytes(), outputs


def _find_backbone(directory: Path) -> tuple[str, str]:
    """Return the name of a version's backbone and the URI of its weights."""
    file = directory / LINEAGE
    if not file.is_file():
        raise ConfigError(
            "The version has no lineage, which names its backbone: Graft did not deploy it. "
            "Export the format tflite or onnx."
        )
    lineage = Lineage.from_dict(json.loads(file.read_text(encoding="utf-8")))
    backbone = Classifier.from_dict(lineage.classifier).model.backbone
    if not isinstance(backbone, str) or backbone not in BACKBONES:
        raise ConfigError(
            f"Keras files are made of versions with one of the backbones {', '.join(sorted(BACKBONES))}; "
            f"export the format tflite or savedmodel. Received: {backbone!r}"
        )
    return backbone, lineage.training.weights_uri


def _run_keras(arguments: list[str]) -> None:
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow", **os.environ}
    command = [sys.executable, "-m", MODULE, *arguments]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise TFLiteUnavailable(f"Keras did not write the file within {SECONDS} seconds") from None
    if done.returncode:
        raise TFLiteUnavailable(f"Keras could not write the file: {done.stderr[-SHOWN:].strip()}")
