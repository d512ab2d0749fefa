"""EfficientNet-Lite0, 1 and 2 in NumPy, written from the PyTorch package's layout and from nothing of ours.

`python tests/integration/lite_reference.py NUMBER CHECKPOINT` writes `liteNUMBER_logits.json` beside it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from skimage import data as photographs

Array = np.ndarray[Any, Any]
PHOTOGRAPHS = ("coffee", "chelsea", "rocket")
SIDES = (224, 240, 260)
# Kernel, stride and expansion of each block: sixteen of Lite0, twenty-one of the others.
BLOCKS = [(3, 1, 1), (3, 2, 6), (3, 1, 6), (5, 2, 6), (5, 1, 6), (3, 2, 6), (3, 1, 6), (3, 1, 6)]
BLOCKS += [(5, 1, 6), (5, 1, 6), (5, 1, 6), (5, 2, 6), (5, 1, 6), (5, 1, 6), (5, 1, 6), (3, 1, 6)]
DEEPER = [(3, 1, 1), (3, 2, 6), (3, 1, 6), (3, 1, 6), (5, 2, 6), (5, 1, 6), (5, 1, 6)]
DEEPER += [(3, 2, 6), (3, 1, 6), (3, 1, 6), (3, 1, 6), (5, 1, 6), (5, 1, 6), (5, 1, 6), (5, 1, 6)]
DEEPER += [(5, 2, 6), (5, 1, 6), (5, 1, 6), (5, 1, 6), (5, 1, 6), (3, 1, 6)]


def golden(number: int) -> Path:
    """Return the file of the committed logits of a network."""
    return Path(__file__).with_name(f"lite{number}_logits.json")


def crop(name: str, resolution: int = 224) -> Array:
    """Cut the middle seven eighths of a photograph as a square of so many pixels."""
    pixels = getattr(photographs, name)()
    height, width, _ = pixels.shape
    side = int(min(height, width) * 0.875)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(pixels[top : top + side, left : left + side])
    return np.asarray(square.resize((resolution, resolution), Image.Resampling.BICUBIC))


def forward(tensors: dict[str, Array], pixels: Array) -> tuple[Array, Array]:
    """Return pooled features and logits of one picture, in double precision."""
    value = (pixels.transpose(2, 0, 1).astype(np.float64) - 127) / 128
    value = _relu6(_norm(_convolve(value, tensors["_conv_stem.weight"], 2), tensors, "_bn0"))
    blocks = DEEPER if f"_blocks.{len(BLOCKS)}._bn1.weight" in tensors else BLOCKS
    for number, (_, stride, expansion) in enumerate(blocks):
        value = _block(tensors, f"_blocks.{number}.", value, stride, expansion)
    value = _relu6(_norm(_convolve(value, tensors["_conv_head.weight"], 1), tensors, "_bn1"))
    features = value.mean((1, 2))
    return features, tensors["_fc.weight"].astype(np.float64) @ features + tensors["_fc.bias"]


def _block(tensors: dict[str, Array], prefix: str, entry: Array, stride: int, expansion: int) -> Array:
    value = entry
    if expansion != 1:
        value = _convolve(value, tensors[prefix + "_expand_conv.weight"], 1)
        value = _relu6(_norm(value, tensors, prefix + "_bn0"))
    value = _convolve(value, tensors[prefix + "_depthwise_conv.weight"], stride, depthwise=True)
    value = _relu6(_norm(value, tensors, prefix + "_bn1"))
    value = _norm(_convolve(value, tensors[prefix + "_project_conv.weight"], 1), tensors, prefix + "_bn2")
    return value + entry if value.shape == entry.shape and stride == 1 else value


def _convolve(value: Array, kernel: Array, stride: int, *, depthwise: bool = False) -> Array:
    size, (_, rows, columns) = kernel.shape[-1], value.shape
    pads = [max((-(-n // stride) - 1) * stride + size - n, 0) for n in (rows, columns)]
    padded = np.pad(value, [(0, 0), *((pad // 2, pad - pad // 2) for pad in pads)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))[:, ::stride, ::stride]
    if depthwise:
        return np.einsum("chwij,cij->chw", windows, kernel[:, 0])
    return np.tensordot(kernel, windows, ([1, 2, 3], [0, 3, 4]))


def _norm(value: Array, tensors: dict[str, Array], name: str) -> Array:
    part = {key: tensors[f"{name}.{key}"][:, None, None].astype(np.float64) for key in ("weight", "bias")}
    mean, variance = (tensors[f"{name}.running_{key}"][:, None, None] for key in ("mean", "var"))
    return np.asarray((value - mean) / np.sqrt(variance + 1e-3) * part["weight"] + part["bias"])


def _relu6(value: Array) -> Array:
    return np.clip(value, 0, 6)


if __name__ == "__main__":
    from pipeline.backbones.checkpoint import read_checkpoint

    member, checkpoint = int(sys.argv[1]), read_checkpoint(Path(sys.argv[2]).read_bytes())
    cropped = {name: crop(name, SIDES[member]) for name in PHOTOGRAPHS}
    logits = {name: forward(checkpoint, pixels)[1].round(4).tolist() for name, pixels in cropped.items()}
    golden(member).write_text(json.dumps(logits) + "\n")
