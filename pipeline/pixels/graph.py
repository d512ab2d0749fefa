"""Pixels in the graph: the definition of `host.py` in TensorFlow operations, for exported models.

`tf.io.decode_image` is never used on JPEG: only `dct_method="INTEGER_ACCURATE"` gives Pillow's pixels.
"""

from __future__ import annotations

from functools import partial

import tensorflow as tf

from pipeline.pixels.header import EXIF_MARKS, MAGIC
from pipeline.pixels.spec import ALL_BITS, FORMATS, PixelSpec

_WEIGHT_BITS = 22  # Pillow's PRECISION_BITS: 32 less 8 of a level and 2 to spare


def read_inputs(inputs: tf.Tensor) -> tf.Tensor:
    """Return encoded pictures, from themselves or from base64 text.

    Base64 may use the standard or the url-safe alphabet, with or without padding and line breaks. The magic
    of GIF is made of such letters too, but no picture's base64 starts with it: `GIF8` decodes to no magic.

    Shapes:
        inputs: scalar string.  returns: scalar string.
    """
    return tf.cond(_is_picture(inputs), lambda: inputs, lambda: _decode_base64(inputs))


def decode_and_resize(encoded: tf.Tensor, spec: PixelSpec) -> tf.Tensor:
    """Decode one file and resize it to the network's input.

    Shapes:
        encoded: scalar string.  returns: (spec.height, spec.width, 3) uint8.
    """
    return resize_pixels(decode_pixels(encoded, bits=spec.bits), spec)


def decode_pixels(encoded: tf.Tensor, *, bits: int = ALL_BITS) -> tf.Tensor:
    """Decode one JPEG, PNG, GIF or WebP file to the RGB pixels it shows.

    Args:
        encoded: The file.
        bits: How many of 16 bits the levels of a gray PNG use, see `PixelSpec`.

    Shapes:
        encoded: scalar string.  returns: (height, width, 3) uint8.
    """
    read_png = _read_png if bits == ALL_BITS else partial(_read_png_of_bits, bits=bits)
    readers = {"JPEG": _read_jpeg, "PNG": read_png, "GIF": _read_gif, "WEBP": _read_webp}
    format = _format_index(encoded)
    is_supported = tf.debugging.Assert(format < len(readers), ["Not a JPEG, PNG, GIF or WebP picture."])
    with tf.control_dependencies([is_supported]):
        pixels = tf.switch_case(format, [partial(readers[name], encoded) for name in FORMATS])
    return _orient(tf.ensure_shape(pixels, (None, None, 3)), _find_orientation(encoded, format))


def resize_pixels(pixels: tf.Tensor, spec: PixelSpec) -> tf.Tensor:
    """Resize with Pillow's antialiased triangle filter, columns first, to the same levels as Pillow.

    `tf.image.resize` rounds in floating point, Pillow in fixed point: they differ by one in 0.3 % of the
    levels, which can move the outputs of a picture between two classes by a hundredth.

    Shapes:
        pixels: (height, width, 3) uint8.  returns: (spec.height, spec.width, 3) uint8.
    """
    for axis, size in ((1, spec.width), (0, spec.height)):
        pixels = _resize_axis(pixels, size, axis)
    return tf.ensure_shape(pixels, (spec.height, spec.width, 3))


def _resize_axis(pixels: tf.Tensor, size: int, axis: int) -> tf.Tensor:
    first, weights = _filter_weights(tf.shape(pixels)[axis], size)
    last = tf.shape(pixels)[axis] - 1
    shape = [1, 1, 1]
    shape[axis] = size

    def add_tap(tap: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        levels = tf.cast(tf.gather(pixels, tf.minimum(first + tap, last), axis=axis), tf.int32)
        return tap + 1, total + levels * tf.reshape(weights[tap], shape)

    half = tf.ones_like(tf.gather(pixels, first, axis=axis), tf.int32) * (1 << (_WEIGHT_BITS - 1))
    _, total = tf.while_loop(lambda tap, _: tap < tf.shape(weights)[0], add_tap, (0, half))
    return tf.cast(tf.clip_by_value(tf.bitwise.right_shift(total, _WEIGHT_BITS), 0, 255), tf.uint8)


def _filter_weights(length: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return where each output's window starts and its fixed-point weights (Pillow, `Resample.c`).

    Shapes:
        length: scalar int32.  returns: (size,) int32, (taps, size) int32.
    """
    scale = tf.cast(length, tf.float64) / size
    support = tf.maximum(scale, 1.0)  # of the triangle filter; also what its argument is divided by
    center = (tf.range(size, dtype=tf.float64) + 0.5) * scale
    first = tf.maximum(tf.cast(center - support + 0.5, tf.int32), 0)
    end = tf.minimum(tf.cast(center + support + 0.5, tf.int32), length)
    taps = tf.range(2 * tf.cast(tf.math.ceil(support), tf.int32) + 1)[:, None] + first
    distance = tf.abs((tf.cast(taps, tf.float64) - center + 0.5) * (1 / support))
    weights = tf.where(taps < end, tf.maximum(1 - distance, 0), 0)
    weights = weights / tf.cumsum(weights)[-1]  # a running sum: Pillow adds them one by one
    return first, tf.cast(weights * (1 << _WEIGHT_BITS) + 0.5, tf.int32)


def _starts(encoded: tf.Tensor, magic: bytes) -> tf.Tensor:
    return tf.equal(tf.strings.substr(encoded, 0, len(magic)), magic)


def _is_format(encoded: tf.Tensor, name: str) -> tf.Tensor:
    matches = _starts(encoded, MAGIC[name])
    if name != "WEBP":
        return matches
    long_enough = tf.strings.length(encoded) >= 12
    return tf.cond(
        matches & long_enough, lambda: tf.equal(tf.strings.substr(encoded, 8, 4), b"WEBP"), lambda: False
    )


def _is_picture(encoded: tf.Tensor) -> tf.Tensor:
    return tf.reduce_any([_is_format(encoded, name) for name in FORMATS])


def _format_index(encoded: tf.Tensor) -> tf.Tensor:
    matches = [_is_format(encoded, name) for name in FORMATS]
    return tf.argmax(tf.cast(tf.stack([*matches, True]), tf.int32), output_type=tf.int32)


def _decode_base64(text: tf.Tensor) -> tf.Tensor:
    for pattern, letter in ((r"\s+", ""), (r"\+", "-"), (r"/", "_"), (r"=+$", "")):
        text = tf.strings.regex_replace(text, pattern, letter)
    return tf.io.decode_base64(text)


def _read_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_jpeg(encoded, channels=3, fancy_upscaling=True, dct_method="INTEGER_ACCURATE")


def _read_png(encoded: tf.Tensor) -> tf.Tensor:
    pixels = tf.io.decode_png(encoded, channels=4)
    few_bits = tf.io.decode_raw(tf.strings.substr(encoded, 24, 1), tf.uint8)[0] < 8
    before_pixels = tf.strings.split(encoded, b"IDAT", maxsplit=1)[0]
    keyed = tf.size(tf.strings.split(before_pixels, b"tRNS", maxsplit=1)) > 1
    # Levels of 1, 2 or 4 bits without transparency come with an alpha of 1, 3 or 15 that means opaque.
    alpha = tf.where(few_bits & ~keyed, tf.constant(255, tf.uint8), pixels[..., 3:])
    return _lay_on_white(pixels[..., :3], alpha)


def _read_png_of_bits(encoded: tf.Tensor, *, bits: int) -> tf.Tensor:
    """Decode a PNG whose levels, if they have 16 bits, use some of them only."""
    depth, kind = tf.unstack(tf.io.decode_raw(tf.strings.substr(encoded, 24, 2), tf.uint8), num=2)
    is_gray = tf.debugging.Assert((depth != 16) | (kind == 0), ["The PNG has colours of 16 bits."])

    def shift() -> tf.Tensor:
        levels = tf.cast(tf.io.decode_png(encoded, channels=1, dtype=tf.uint16), tf.int32)
        high = tf.minimum(tf.bitwise.right_shift(levels, bits - 8), 255)
        return tf.repeat(tf.cast(high, tf.uint8), 3, axis=2)

    with tf.control_dependencies([is_gray]):
        return tf.cond(depth == 16, shift, lambda: _read_png(encoded))


def _read_gif(encoded: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_image(encoded, channels=3, expand_animations=False)


def _read_webp(encoded: tf.Tensor) -> tf.Tensor:
    pixels = tf.io.decode_image(encoded, channels=0, expand_animations=False)
    opaque = tf.fill(tf.concat([tf.shape(pixels)[:2], [1]], 0), tf.constant(255, tf.uint8))
    alpha = tf.cond(tf.shape(pixels)[2] == 4, lambda: pixels[..., 3:], lambda: opaque)
    return _lay_on_white(pixels[..., :3], alpha)


def _lay_on_white(pixels: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    def blend() -> tf.Tensor:
        weight = tf.cast(alpha, tf.int32)
        levels = tf.cast(pixels, tf.int32) * weight + 255 * (255 - weight) + 127
        return tf.cast(levels // 255, tf.uint8)

    return tf.cond(tf.reduce_all(alpha == 255), lambda: pixels, blend)


def _orient(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    def one_of(*values: int) -> tf.Tensor:
        return tf.reduce_any(orientation == tf.constant(values))

    pixels = tf.cond(one_of(5, 6, 7, 8), lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels)
    pixels = tf.cond(one_of(3, 4, 7, 8), lambda: tf.reverse(pixels, [0]), lambda: pixels)
    return tf.cond(one_of(2, 3, 6, 7), lambda: tf.reverse(pixels, [1]), lambda: pixels)


def _find_orientation(encoded: tf.Tensor, format: tf.Tensor) -> tf.Tensor:
    return tf.switch_case(format, [partial(_orientation_after_mark, encoded, name) for name in FORMATS])


def _upright() -> tf.Tensor:
    return tf.constant(1)


def _orientation_after_mark(encoded: tf.Tensor, name: str) -> tf.Tensor:
    if name not in EXIF_MARKS:
        return _upright()
    mark, distance = EXIF_MARKS[name]
    pieces = tf.strings.split(encoded, mark, maxsplit=1)
    # One piece more than there may be, so that a file without the mark gives an empty block.
    block = tf.concat([pieces, [b"", b""]], 0)[1]
    block = _drop(block, tf.constant(distance - len(mark)))
    if name == "WEBP":
        block = _drop(block, tf.where(_starts(block, b"Exif\0\0"), 6, 0))
    return _read_orientation(tf.strings.substr(block, 0, 65536))


def _drop(text: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    return tf.strings.substr(text, tf.minimum(number, tf.strings.length(text)), tf.strings.length(text))


def _read_orientation(tiff: tf.Tensor) -> tf.Tensor:
    little, big = _starts(tiff, b"II*\0"), _starts(tiff, b"MM\0*")
    valid = (little | big) & (tf.strings.length(tiff) >= 10)
    return tf.cond(valid, lambda: _search_directory(tiff, little), _upright)


def _search_directory(tiff: tf.Tensor, little: tf.Tensor) -> tf.Tensor:
    size = tf.strings.length(tiff)
    octets = tf.cast(tf.io.decode_raw(tiff, tf.uint8), tf.int64)

    def number(values: tf.Tensor) -> tf.Tensor:
        places = 256 ** tf.range(tf.cast(tf.shape(values)[-1], tf.int64))
        return tf.reduce_sum(values * tf.where(little, places, places[::-1]), -1)

    offset = number(octets[4:8])

    def search() -> tf.Tensor:
        start = tf.cast(offset, tf.int32)
        room = (size - start - 2) // 12
        count = tf.minimum(tf.cast(number(octets[start : start + 2]), tf.int32), room)
        entries = tf.reshape(octets[start + 2 : start + 2 + 12 * count], (-1, 12))
        wanted = (number(entries[:, :2]) == 0x0112) & (number(entries[:, 2:4]) == 3)
        wanted = wanted & (number(entries[:, 4:8]) == 1)
        values = tf.boolean_mask(number(entries[:, 8:10]), wanted)
        value = tf.cast(tf.concat([values, [1]], 0)[0], tf.int32)
        return tf.where((value >= 1) & (value <= 8), value, 1)

    return tf.cond(offset + 2 <= tf.cast(size, tf.int64), search, _upright)
