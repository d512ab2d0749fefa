"""A zip of a version for programs outside of Graft: the model, labels, pixels, card, and a program."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.artifacts.model_files import CARD, HEAD, LABELS, TFLITE_NETWORK
from pipeline.artifacts.workspace import Workspace
from pipeline.errors import ConfigError, TFLiteUnavailable
from pipeline.export.formats import ABOUT, ExportFormat, loader
from pipeline.export.keras_file import build_keras_file
from pipeline.export.one_file import build_one_file
from pipeline.export.onnx_file import build_onnx_file, run_onnx_file
from pipeline.npz import read_npz
from pipeline.tflite.head import head_of
from pipeline.tflite.manifest import TFLiteManifest, check_tflite
from pipeline.tflite.network import TFLiteModel

if TYPE_CHECKING:
    from pipeline.types import Float32Outputs, UInt8Images

COMPARED = 8  # pictures
TOLERANCE = 1e-3  # of a probability
EPOCH = (1980, 1, 1, 0, 0, 0)  # of every member, so that the same version gives the same bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A zip that was written.

    Args:
        file: Where.
        format: Of the model in it.
        num_bytes: Its size.
        largest_difference: Of a probability, between it and the version as it is served.
    """

    file: Path
    format: ExportFormat
    num_bytes: int
    largest_difference: float


def export_version(
    workspace: Workspace, *, model: str, version: str, format: ExportFormat, file: Path
) -> Export:
    """Write a version as a zip; an existing file is replaced once the new one is whole.

    Args:
        workspace: Where the version is.
        model: The classifier.
        version: The version.
        format: What is exported.
        file: Where the zip goes.

    Raises:
        ConfigError: if the version is none of Graft's, or the format cannot hold it.
        TFLiteUnavailable: if a file of it is damaged, or the export answers otherwise than the version.
    """
    source = workspace.model(model, version).uri
    if not workspace.storage.exists(f"{source}/{LABELS}"):
        raise ConfigError(f"{model} has no version {version} made by Graft in {workspace.uri}.")
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch, "model")
        workspace.storage.download_tree(source, directory)
        manifest = _check(directory, model, version)
        members, difference = _build(workspace, directory, manifest, format)
        members |= _describe(directory, manifest, format, f"{difference:.1e}", model=model, version=version)
        _write(file, members)
    return Export(
        file=file, format=format, num_bytes=file.stat().st_size, largest_difference=float(difference)
    )


def _check(directory: Path, model: str, version: str) -> TFLiteManifest:
    try:
        return check_tflite(directory)
    except TFLiteUnavailable as error:
        raise TFLiteUnavailable(
            f"{model} {version} cannot be exported: {error.message}. Versions with a `head.module` have no "
            "form beside their SavedModel; a damaged one is made again by another run."
        ) from error


def _build(
    workspace: Workspace, directory: Path, manifest: TFLiteManifest, format: ExportFormat
) -> tuple[dict[str, bytes | Path], float]:
    """Return the files of the model by name, and how far it is from the version as it is served."""
    if format is ExportFormat.SAVEDMODEL:
        files = {f"model/{path.relative_to(directory)}": path for path in _saved_model_files(directory)}
        return dict(files), manifest.parity.largest_difference
    pixels = comparison_pictures(manifest)
    data, outputs = _build_file(workspace, directory, manifest, format, pixels)
    expected = TFLiteModel(directory, manifest).predict(pixels)
    difference = float(np.abs(outputs - expected).max())
    if not difference <= TOLERANCE:
        raise TFLiteUnavailable(
            f"The export answers otherwise than the version: a probability differs by {difference:.1e}"
        )
    return {f"model.{format.value}": data}, difference


def _build_file(
    workspace: Workspace,
    directory: Path,
    manifest: TFLiteManifest,
    format: ExportFormat,
    pixels: UInt8Images,
) -> tuple[bytes, Float32Outputs]:
    """Return a model of one file, and what it answers for some pictures."""
    network, head = (directory / TFLITE_NETWORK).read_bytes(), head_of(read_npz(directory / HEAD))
    if format is ExportFormat.KERAS:
        return build_keras_file(workspace, directory, head, pixels)
    if format is ExportFormat.ONNX:
        labels = json.loads((directory / LABELS).read_text(encoding="utf-8"))
        data = build_onnx_file(network, head, labels, manifest.spec)
        return data, run_onnx_file(data, pixels)
    data = build_one_file(network, head)
    return data, run_one_file(data, pixels)


def comparison_pictures(manifest: TFLiteManifest) -> UInt8Images:
    """Return noise of several contrasts, on which an export is compared with its version."""
    random, spec = np.random.default_rng(0), manifest.spec
    noise = random.integers(0, 256, (COMPARED, spec.height, spec.width, 3))
    contrast = np.linspace(1, 0.1, COMPARED)[:, None, None, None]
    return np.asarray(noise * contrast, np.uint8)


def run_one_file(data: bytes, pixels: UInt8Images) -> Float32Outputs:
    """Return the probabilities that a TFLite file of its own gives.

    Shapes:
        pixels: (batch, height, width, 3) uint8.  returns: (batch, classes) float32.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data)
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, pixels.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, pixels)
    interpreter.invoke()
    outputs: Float32Outputs = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return outputs


def _saved_model_files(directory: Path) -> list[Path]:
    own = directory / Path(LABELS).parts[0]
    return sorted(path for path in directory.rglob("*") if path.is_file() and own not in path.parents)


def _describe(
    directory: Path,
    manifest: TFLiteManifest,
    format: ExportFormat,
    difference: str,
    *,
    model: str,
    version: str,
) -> dict[str, bytes | Path]:
    """Return the files beside the model."""
    spec = manifest.spec
    thresholds = ""
    if manifest.reject_below or manifest.reject_unlike or manifest.thresholds:
        by_class = "".join(f" ({each:g} for {label})" for label, each in manifest.thresholds.items())
        thresholds = (
            f"\nThe version answers no class below the probability {manifest.reject_below:g}{by_class}, or "
            f"above the novelty {manifest.reject_unlike:g} if that is not 0. This export does not do so by "
            "itself.\n"
        )
    about = ABOUT.substitute(
        model=model,
        version=version,
        format=format.value,
        height=spec.height,
        width=spec.width,
        difference=difference,
        thresholds=thresholds,
    )
    files: dict[str, bytes | Path] = {
        "README.md": about.encode(),
        Path(LABELS).name: directory / LABELS,
        "pixels.json": json.dumps(spec.to_dict(), indent=2).encode() + b"\n",
        "predict.py": loader(format, spec).encode(),
    }
    return files | ({Path(CARD).name: directory / CARD} if (directory / CARD).is_file() else {})


def _write(file: Path, members: dict[str, bytes | Path]) -> None:
    part = file.with_name(f".{file.name}.part")
    try:
        with zipfile.ZipFile(part, "w") as archive:
            for name, content in members.items():
                info = zipfile.ZipInfo(name, EPOCH)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = 0o644 << 16
                data = content if isinstance(content, bytes) else content.read_bytes()
                archive.writestr(info, data)
        shutil.move(part, file)
    finally:
        part.unlink(missing_ok=True)
