"""`graft/light.json`: which files make up a model's TFLite export, and how far it is from TensorFlow.

Standard library only: the engine's API process reads it to choose the runtime of a version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.artifacts.model_files import HEAD, LABELS, NOVELTY, TFLITE_MANIFEST, TFLITE_NETWORK
from pipeline.errors import TFLiteUnavailable
from pipeline.pixels.spec import PixelSpec
from pipeline.types import JsonDict

FILES = ("saved_model.pb", TFLITE_NETWORK, HEAD, LABELS)
FORMAT = 1
TOLERANCE = 1e-4  # between class probabilities; measured differences are about 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How many pictures were compared with TensorFlow, and the largest difference of a probability."""

    pictures: int
    largest_difference: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TFLiteManifest:
    """What `graft/light.json` holds.

    Args:
        files: The SHA-256 of each file of the export, by its path in the model directory.
        spec: The pixels the network is fed.
        reject_below: `keyed` answers with an empty label where no class is this probable.
        reject_unlike: `keyed` answers with an empty label above this novelty; 0 never does.
        thresholds: By class, in place of `reject_below` where it is the most probable one.
        parity: How far the answers are from TensorFlow's.
        made_by: Versions of what converted it.
        format: Of this file.
    """

    files: Mapping[str, str]
    spec: PixelSpec
    reject_below: float
    reject_unlike: float = 0.0
    thresholds: Mapping[str, float] = field(default_factory=dict)
    parity: Parity
    made_by: Mapping[str, str]
    format: int = FORMAT

    @property
    def is_equal(self) -> bool:
        """Whether the answers are TensorFlow's, but for rounding."""
        return self.parity.largest_difference <= TOLERANCE

    def write(self, directory: Path) -> None:
        """Write the file into a model directory."""
        value = {**asdict(self), "spec": self.spec.to_dict()}
        if not self.thresholds:  # an engine that does not know them reads the file of any other model
            del value["thresholds"]
        text = json.dumps(value, indent=2)
        (directory / TFLITE_MANIFEST).write_text(text + "\n", encoding="utf-8")


def is_graft_model(directory: Path) -> bool:
    """Return True if a model directory was written by Graft's trainer."""
    return (directory / LABELS).is_file()


def digest_files(directory: Path, digested: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the SHA-256 of each of `FILES`, and of the novelty if it is there.

    Args:
        directory: The model directory.
        digested: Digests that are known already, because the files have just been written.

    Raises:
        TFLiteUnavailable: naming a file that is missing.
    """
    digests = dict(digested or {})
    names = (*FILES, *((NOVELTY,) if (directory / NOVELTY).exists() else ()))
    for name in (name for name in names if name not in digests):
        try:
            with (directory / name).open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise TFLiteUnavailable(f"{name} cannot be read: {error.strerror}") from error
    return digests


def check_tflite(directory: Path) -> TFLiteManifest:
    """Read a model's manifest and check every file it answers for.

    Raises:
        TFLiteUnavailable: if there is none, a file is missing or changed, or the outputs differed
            from TensorFlow's.
    """
    manifest = read_manifest(directory)
    digests = digest_files(directory)
    for name in sorted(digests.keys() | manifest.files.keys()):
        if manifest.files.get(name) != digests.get(name):
            raise TFLiteUnavailable(f"{name} is not the file that was compared with TensorFlow")
    return manifest


def read_manifest(directory: Path) -> TFLiteManifest:
    """Read a model's manifest.

    Raises:
        TFLiteUnavailable: if there is none, or the answers were not TensorFlow's.
    """
    try:
        value: JsonDict = json.loads((directory / TFLITE_MANIFEST).read_text(encoding="utf-8"))
        typed = {"spec": PixelSpec.from_dict(value["spec"]), "parity": Parity(**value["parity"])}
        manifest = TFLiteManifest(**{**value, **typed})
        is_equal = manifest.is_equal
    except FileNotFoundError:
        raise TFLiteUnavailable(f"it has no {TFLITE_MANIFEST}") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise TFLiteUnavailable(f"{TFLITE_MANIFEST} cannot be read: {error}") from error
    if manifest.format != FORMAT:
        raise TFLiteUnavailable(
            f"{TFLITE_MANIFEST} has the format {manifest.format}; this engine reads {FORMAT}"
        )
    if not is_equal:
        raise TFLiteUnavailable(
            f"its answers differ from TensorFlow's by more than {TOLERANCE}: {manifest.parity}"
        )
    return manifest
