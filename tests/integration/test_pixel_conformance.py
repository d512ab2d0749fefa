"""The two executions of the one pixel definition agree: Pillow on the host, TensorFlow in the graph."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from skimage import data as photographs

from pipeline.errors import UndecodableImage
from pipeline.pixels import graph
from pipeline.pixels.host import decode_picture, resize_picture
from pipeline.pixels.spec import PixelSpec
from tests.fakes.pictures import encode

SPEC = PixelSpec(height=224, width=224, offset=127, divisor=128)
Decoder = Callable[[bytes], Any]


@pytest.fixture(scope="module")
def decode_in_graph() -> Decoder:
    string = tf.TensorSpec((), tf.string)
    return tf.function(lambda data: graph.decode_pixels(graph.read_inputs(data)), input_signature=[string])


def photograph(mode: str = "RGB") -> Image.Image:
    return Image.fromarray(photographs.chelsea()).resize((61, 47)).convert(mode)


def with_alpha() -> Image.Image:
    image = photograph()
    levels = np.random.default_rng(0).integers(0, 256, (47, 61)).astype(np.uint8)
    image.putalpha(Image.fromarray(levels))
    return image


def random_levels(channels: int) -> Any:
    return np.random.default_rng(1).integers(0, 256, (40, 56, channels)).astype(np.uint8)


def oriented(format: str, orientation: int, order: str = "<") -> bytes:
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F] = "a camera"
    exif[0x0112] = orientation
    return encode(photograph(), format, exif=exif.tobytes())


def animation(format: str) -> bytes:
    frames = [photograph("P"), photograph("P").rotate(90)]
    return encode(frames[0], format, save_all=True, append_images=frames[1:], duration=50)


SIXTEEN_BITS = np.random.default_rng(2).integers(0, 65536, (9, 11)).astype(np.uint16)
PICTURES = {
    "jpeg": encode(photograph(), "JPEG", quality=90),
    "jpeg, progressive": encode(photograph(), "JPEG", progressive=True),
    "jpeg, no subsampling": encode(photograph(), "JPEG", subsampling=0),
    "jpeg, gray": encode(photograph("L"), "JPEG"),
    "jpeg, cmyk": encode(photograph("CMYK"), "JPEG"),
    "jpeg, cmyk with every ink": encode(Image.fromarray(random_levels(4), "CMYK"), "JPEG", quality=95),
    "png": encode(photograph(), "PNG"),
    "png, alpha": encode(with_alpha(), "PNG"),
    "png, gray": encode(photograph("L"), "PNG"),
    "png, gray and alpha": encode(with_alpha().convert("LA"), "PNG"),
    "png, one bit": encode(photograph("1"), "PNG"),
    "png, two bits": encode(photograph("L").quantize(4), "PNG", bits=2),
    "png, palette": encode(photograph("P"), "PNG"),
    "png, palette with a transparent colour": encode(photograph("P"), "PNG", transparency=3),
    "png, two bits with alpha": encode(with_alpha().quantize(4), "PNG", bits=2),
    "png, four bits with alpha": encode(with_alpha().quantize(16), "PNG", bits=4),
    "png, palette with alpha": encode(with_alpha().quantize(64), "PNG"),
    "png, gray with a transparent level": encode(photograph("L"), "PNG", transparency=100),
    "png, 16-bit gray": encode(Image.fromarray(SIXTEEN_BITS), "PNG"),
    "gif": encode(photograph("P"), "GIF"),
    "gif, gray": encode(photograph("L"), "GIF"),
    "gif, interlaced": encode(photograph("P"), "GIF", interlace=1),
    "gif, animated": animation("GIF"),
    "webp": encode(photograph(), "WEBP"),
    "webp, lossless": encode(photograph(), "WEBP", lossless=True),
    "webp, alpha": encode(with_alpha(), "WEBP"),
    "webp, lossless and alpha": encode(with_alpha(), "WEBP", lossless=True, exact=True),
}
PICTURES |= {
    f"{format}, orientation {orientation}{order}": oriented(format, orientation, order)
    for format in ("JPEG", "PNG", "WEBP")
    for orientation in range(1, 9)
    for order in "<>"
}


@pytest.mark.parametrize("name", PICTURES)
def test_both_decode_to_equal_pixels(name: str, decode_in_graph: Decoder) -> None:
    expected = decode_picture(PICTURES[name])
    decoded = decode_in_graph(PICTURES[name]).numpy()
    assert decoded.shape == expected.shape
    assert np.array_equal(decoded, expected)


@pytest.mark.parametrize("bits", [10, 12])
def test_both_shift_levels_of_fewer_bits_alike(bits: int) -> None:
    string = tf.TensorSpec((), tf.string)
    decode = tf.function(lambda data: graph.decode_pixels(data, bits=bits), input_signature=[string])
    for number in (65535, 4096, 256):
        levels = SIXTEEN_BITS % np.uint16(number)
        data = encode(Image.fromarray(levels), "PNG")
        assert np.array_equal(decode(data).numpy(), decode_picture(data, bits=bits)), number
    for name in ("jpeg", "png", "png, gray", "png, alpha", "png, two bits", "gif", "webp, alpha"):
        assert np.array_equal(decode(PICTURES[name]).numpy(), decode_picture(PICTURES[name])), name
    with pytest.raises(tf.errors.InvalidArgumentError, match="colours of 16 bits"):
        decode(tf.io.encode_png(tf.zeros((2, 2, 3), tf.uint16)).numpy())


def test_orientations_differ_from_each_other(decode_in_graph: Decoder) -> None:
    seen = {decode_in_graph(oriented("JPEG", orientation)).numpy().tobytes() for orientation in range(1, 9)}
    assert len(seen) == 8


@pytest.fixture(scope="module")
def resize_in_graph() -> Callable[[Any], Any]:
    pixels = tf.TensorSpec((None, None, 3), tf.uint8)
    return tf.function(lambda pixels: graph.resize_pixels(pixels, SPEC), input_signature=[pixels])


SIZES = [(38, 38), (299, 299), (224, 224), (223, 225), (500, 333), (1, 300), (300, 1), (5, 4), (1500, 1000)]
SIZES += [(int(height), int(width)) for height, width in np.random.default_rng(6).integers(1, 700, (60, 2))]


@pytest.mark.parametrize("contrast", ["levels", "black and white"])
def test_both_resize_to_equal_levels(contrast: str, resize_in_graph: Callable[[Any], Any]) -> None:
    random = np.random.default_rng(3)
    for size in SIZES:
        pixels = random.integers(0, 256, (*size, 3)).astype(np.uint8)
        if contrast == "black and white":
            pixels = np.where(pixels > 127, np.uint8(255), np.uint8(0))
        assert np.array_equal(resize_in_graph(pixels).numpy(), resize_picture(pixels, SPEC)), size


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP"])
def test_base64_text_of_every_kind_is_understood(format: str, decode_in_graph: Decoder) -> None:
    data = encode(photograph("P" if format == "GIF" else "RGB"), format)
    texts = [base64.b64encode(data), base64.urlsafe_b64encode(data), base64.encodebytes(data)]
    texts += [base64.b64encode(data).rstrip(b"="), base64.urlsafe_b64encode(data).rstrip(b"=")]
    for text in texts:
        assert np.array_equal(decode_in_graph(text).numpy(), decode_picture(data))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged EXIF
def test_whatever_the_host_accepts_the_graph_decodes_alike(decode_in_graph: Decoder) -> None:
    random, accepted = np.random.default_rng(4), 0
    originals = list(PICTURES.values())
    for number in range(600):
        data = bytearray(originals[number % len(originals)])
        if number % 3 == 0:
            data = data[: random.integers(1, len(data))]
        for _ in range(random.integers(1, 5)):
            data[random.integers(len(data))] = random.integers(256)
        try:
            expected = decode_picture(bytes(data))
        except UndecodableImage:
            continue
        accepted += 1
        assert np.array_equal(decode_in_graph(bytes(data)).numpy(), expected), number
    assert accepted > 50


def test_what_is_no_picture_is_an_error_in_the_graph(decode_in_graph: Decoder) -> None:
    for data in (b"", b"a text of no known kind", b"\x00\x01"):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode_in_graph(data)
