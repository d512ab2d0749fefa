"""The frozen network of a job in LiteRT: the backbone's conversion, once it answers as TensorFlow does."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import numpy as np

import pipeline
from pipeline.artifacts.template import TrunkRecord
from pipeline.pixels.spec import PixelSpec
from pipeline.tflite.network import TFLiteNetwork
from pipeline.trainer.shared_cache import CheckedFile
from pipeline.types import Float32Features, UInt8Image, UInt8Images

TOLERANCE = 1e-4  # of pooled features, as a share of the largest; measured differences are below 1e-5


class TensorFlowNeededError(Exception):
    """A job cannot do without TensorFlow in its own process; the message says why."""


class Trunk:
    """A converted backbone that has just answered for the noise picture as TensorFlow did.

    Args:
        file: The conversion, its digest checked.
        spec: The pixels it is fed.

    Raises:
        TensorFlowNeededError: if LiteRT is not installed, or answers otherwise here.
    """

    def __init__(self, file: CheckedFile[TrunkRecord], spec: PixelSpec) -> None:
        self.file = file
        try:
            self._network = TFLiteNetwork(file.path)
        except (ImportError, ValueError, RuntimeError) as error:
            raise TensorFlowNeededError(f"LiteRT cannot load {file.path}: {error}") from error
        self.expected_noise = np.array([file.record.features], np.float32)
        self.pooled_noise = self(noise_picture(spec)[None])
        difference = relative_difference(self.pooled_noise, self.expected_noise)
        if not difference <= TOLERANCE:
            raise TensorFlowNeededError(
                f"LiteRT's features of the noise picture differ from TensorFlow's by {difference:.2g} of the "
                f"largest, more than {TOLERANCE}"
            )

    def __call__(self, pixels: UInt8Images) -> Float32Features:
        """Return the pooled features.

        Shapes:
            pixels: (batch, height, width, 3) uint8.  returns: (batch, feature_width) float32.
        """
        return self._network.pool(pixels)


def noise_picture(spec: PixelSpec) -> UInt8Image:
    """Return a picture of noise, whose every level and colour comes up."""
    return np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, 3), np.uint8)


def comparison_pixels(pixels: UInt8Images, spec: PixelSpec) -> UInt8Images:
    """Return the pictures and the one of noise."""
    return np.concatenate([pixels, noise_picture(spec)[None]])


def relative_difference(features: Float32Features, expected: Float32Features) -> float:
    """Return the largest difference of two sets of features, as a share of the largest feature.

    Features of another shape differ by infinity.
    """
    if features.shape != expected.shape:
        return float("inf")
    return float(np.abs(features - expected).max() / max(float(np.abs(expected).max()), 1e-12))


def converter_versions() -> dict[str, str]:
    """Return the versions of TensorFlow and Graft, without importing TensorFlow.

    Raises:
        TensorFlowNeededError: if no TensorFlow is installed whose version could be told.
    """
    for name in ("tensorflow", "tensorflow-cpu"):
        try:
            return {"graft": pipeline.__version__, "tensorflow": version(name)}
        except PackageNotFoundError:
            continue
    raise TensorFlowNeededError("No TensorFlow is installed under the name tensorflow or tensorflow-cpu")


def made_by_name(versions: dict[str, str]) -> str:
    """Return the name of what these versions converted."""
    return f"tensorflow-{versions['tensorflow']}-graft-{versions['graft']}"
