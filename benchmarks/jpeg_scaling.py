"""What libjpeg's scaled decoding would save, and how far it leaves the definition of pixels.

    python -m benchmarks jpeg_scaling

CPU seconds of one thread are what counts, so a busy machine changes little.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from benchmarks.real_pictures import BACKBONE, forward, load_network
from pipeline.pixels.host import decode_resized
from pipeline.types import UInt8Image, UInt8Images

SIDES = (299, 512, 1024, 1732)  # the shorter side; the last is about 3 megapixels
QUALITY = 90
SECONDS = 2.0
SECTION = """## Scaled decoding of JPEG

{count} photographs (scikit-image's and scikit-learn's) at {sides} pixels of the shorter side, quality
{quality}, decoded and resized to {width}x{height}. *Scaled*: libjpeg halves the picture while it decodes, as
often as it stays as large as the network's input; *scaled, 2x*: as twice the input. CPU milliseconds of one
thread; levels are compared with the definition's, features as shares of the largest one.

| side | how | CPU ms | saved | mean level off | largest | features off |
|---|---|---|---|---|---|---|
{rows}

Not used. Training and serving, in Pillow and in TensorFlow, decode a file to equal pixels. Scaled decoding is
off by many levels, because it averages blocks where the definition filters pixels, and it moves features by
hundreds of times what a runtime may be off (1e-4). Every pack, cached feature, template and served version
would have to be made again under another definition. And it saves nothing at 299 pixels, the size for which
decoding was measured as a fifth of EfficientNet-Lite0's cost: half of 299 is smaller than the input.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """One way to decode all pictures.

    Args:
        milliseconds: CPU time of a picture.
        pixels: What it gives.
    """

    milliseconds: float
    pixels: UInt8Images


def measure() -> str:
    """Return the section."""
    photographs, network, rows = read_photographs(), load_network(), []
    for side in SIDES:
        files = [encode(photograph, side) for photograph in photographs]
        full = run(files, lambda data: decode_resized(data, BACKBONE.spec))
        expected = forward(network, full.pixels, None)
        rows.append(f"| {side} | as defined | {full.milliseconds:.2f} | | | | |")
        for name, factor in (("scaled", 1), ("scaled, 2x", 2)):
            scaled = run(files, lambda data, factor=factor: decode_scaled(data, factor))  # type: ignore[misc]
            off = np.abs(scaled.pixels.astype(int) - full.pixels)
            features = np.abs(forward(network, scaled.pixels, None) - expected).max() / np.abs(expected).max()
            rows.append(
                f"| {side} | {name} | {scaled.milliseconds:.2f} | "
                f"{1 - scaled.milliseconds / full.milliseconds:.0%} | {off.mean():.2f} | {off.max()} | "
                f"{features:.1e} |"
            )
    return SECTION.format(
        count=len(photographs),
        sides=", ".join(map(str, SIDES)),
        quality=QUALITY,
        width=BACKBONE.spec.width,
        height=BACKBONE.spec.height,
        rows="\n".join(rows),
    )


def read_photographs() -> list[Image.Image]:
    """Return the photographs that the libraries carry."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    arrays = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), data.retina()]
    return [Image.fromarray(array) for array in (*arrays, *load_sample_images().images)]


def encode(photograph: Image.Image, side: int) -> bytes:
    """Return a photograph as JPEG with this shorter side."""
    scale = side / min(photograph.size)
    size = [round(length * scale) for length in photograph.size]
    buffer = io.BytesIO()
    photograph.resize((size[0], size[1]), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def decode_scaled(data: bytes, factor: int) -> UInt8Image:
    """Decode a JPEG at the smallest eighth, quarter or half that is `factor` times the input, and resize."""
    width, height = BACKBONE.spec.width, BACKBONE.spec.height
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (width * factor, height * factor))
        shown = image.convert("RGB").resize((width, image.height), Image.Resampling.BILINEAR)
    return np.asarray(shown.resize((width, height), Image.Resampling.BILINEAR))


def run(files: list[bytes], decode: Callable[[bytes], UInt8Image]) -> Decoding:
    """Decode all files again and again; the median round counts."""
    rounds: list[float] = []
    while sum(rounds) < SECONDS or len(rounds) < 3:
        start = time.thread_time()
        pixels = [decode(data) for data in files]
        rounds.append(time.thread_time() - start)
    return Decoding(milliseconds=statistics.median(rounds) * 1000 / len(files), pixels=np.stack(pixels))


if __name__ == "__main__":
    print(measure())
