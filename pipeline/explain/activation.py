"""Class-activation maps: which places of a picture spoke for its class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

ActivationMap: TypeAlias = "Sequence[Sequence[float]] | NDArray[np.float64]"  # (height, width)
_HEAT = np.array([255, 96, 0], np.float32)


def overlay_activation(image: Image.Image, activation: ActivationMap) -> Image.Image:
    """Return a gray picture, orange where the class-activation map is positive.

    The network sees the whole picture stretched to a square, so the map is stretched back over it.
    """
    values = np.clip(np.asarray(activation, np.float32), 0, None)
    peak = float(values.max())
    scaled = Image.fromarray(values / peak if peak > 0 else values)
    heat = np.asarray(scaled.resize(image.size, Image.Resampling.BILINEAR))[..., None] * 0.75
    gray = np.asarray(image.convert("L").convert("RGB"), np.float32)
    return Image.fromarray((gray * (1 - heat) + _HEAT * heat).round().astype(np.uint8))
