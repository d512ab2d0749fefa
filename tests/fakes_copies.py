"""Copies of a picture as the web makes them."""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image, ImageEnhance


def resize(image: Image.Image, factor: float) -> Image.Image:
    size = (round(image.width * factor), round(image.height * factor))
    return image.resize(size, Image.Resampling.BILINEAR)


def recompress(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def crop(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """Cut shares of the sides off."""
    width, height = image.size
    return image.crop(
        (
            round(left * width),
            round(top * height),
            width - round(right * width),
            height - round(bottom * height),
        )
    )


def brighten(image: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(factor)


def mirror(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "halved": lambda image: resize(image, 0.5),
    "doubled": lambda image: resize(image, 2),
    "quality 50": lambda image: recompress(image, 50),
    "2 % of each side": lambda image: crop(image, 0.02, 0.02, 0.02, 0.02),
    "2 % of width and height": lambda image: crop(image, 0.02, 0.02, 0, 0),
    "brighter": lambda image: brighten(image, 1.2),
    "darker": lambda image: brighten(image, 0.7),
    "levels up": lambda image: image.point(lambda level: min(255, level + 20)),
}
