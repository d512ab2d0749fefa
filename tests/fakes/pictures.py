"""Small pictures, copies of them as the web makes them, folders of them, and a server of a folder."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from pipeline.artifacts.steps import CleanResult, FetchResult
from pipeline.config import Classifier
from pipeline.datasets.fetch import fetch_pictures
from pipeline.preprocess.clean import build_dataset_version
from pipeline.storage import Storage
from tests.fakes.rows import workspace_of
from tests.fakes.server import FakeServer, running

WORKSPACE = "gs://graft"


def noise(seed: int, size: int = 16) -> np.ndarray:
    """Return a picture like no other."""
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def save_blots(path: Path, label: str, seed: int) -> None:
    """Save blots like no others, "red" ones or bluish."""
    levels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3))
    levels[..., 0 if label == "red" else 2] = levels[..., 0] // 3 + 170
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels.astype(np.uint8)).resize((96, 96), Image.Resampling.BICUBIC).save(path)


def encode(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def png(pixels: np.ndarray) -> bytes:
    return encode(Image.fromarray(pixels), "PNG")


def jpeg(pixels: np.ndarray) -> bytes:
    return encode(Image.fromarray(pixels), "JPEG", quality=90)


def resize(image: Image.Image, factor: float) -> Image.Image:
    size = (round(image.width * factor), round(image.height * factor))
    return image.resize(size, Image.Resampling.BILINEAR)


def recompress(image: Image.Image, quality: int) -> Image.Image:
    return Image.open(io.BytesIO(encode(image, "JPEG", quality=quality))).convert("RGB")


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


def rotate(image: Image.Image, degrees: float) -> Image.Image:
    return image.rotate(degrees, Image.Resampling.BICUBIC)


def gray(image: Image.Image) -> Image.Image:
    return image.convert("L").convert("RGB")


# What augmentation makes of a picture, as JPEG of quality 90.
ALTERED: dict[str, Callable[[Image.Image], Image.Image]] = {
    "mirrored": mirror,
    "upside down": lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "90 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "180 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_180),
    "270 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_270),
    "gray": gray,
    "10 % of each side": lambda image: crop(image, 0.1, 0.1, 0.1, 0.1),
    "20 % of each side": lambda image: crop(image, 0.2, 0.2, 0.2, 0.2),
    "15 % of each side, mirrored": lambda image: crop(mirror(image), 0.15, 0.15, 0.15, 0.15),
    "5 degrees": lambda image: rotate(image, 5),
}

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


def storage_in(directory: Path) -> Storage:
    return Storage({"graft": directory / "bucket"})


def folder_of(root: Path, counts: dict[str, int], *, first: int = 0) -> Path:
    """Add noise pictures to class folders; the names go on from `first`."""
    for number, (label, count) in enumerate(counts.items()):
        (root / label).mkdir(parents=True, exist_ok=True)
        for index in range(first, first + count):
            (root / label / f"{index:04d}.png").write_bytes(png(noise(1000 * number + index)))
    return root


def classifier_of(source: dict[str, Any], **split: Any) -> Classifier:
    value = {"name": "toys", "dataset": {"source": source, "split": split}}
    return Classifier.from_dict(value)


def folder_classifier(root: Path, **split: Any) -> Classifier:
    return classifier_of({"type": "folder", "uri": str(root)}, **split)


def fetch_and_clean(classifier: Classifier, storage: Storage) -> tuple[FetchResult, CleanResult]:
    fetched = fetch_pictures(workspace_of(storage), classifier)
    cleaned = build_dataset_version(
        workspace_of(storage), classifier, fetched=[fetched.index], run_id="run 1"
    )
    return fetched, cleaned


class _Handler(SimpleHTTPRequestHandler):
    server: PictureServer

    def do_HEAD(self) -> None:
        self.server.requests["HEAD"] += 1
        if self.server.refuses_head:
            self.send_error(405)
        else:
            super().do_HEAD()

    def do_GET(self) -> None:
        self.server.requests["GET"] += 1
        if self.server.status:
            self.send_error(self.server.status)
        elif self.server.redirect_to:
            self.send_response(302)
            self.send_header("Location", self.server.redirect_to)
            self.end_headers()
        else:
            super().do_GET()

    def copyfile(self, source: Any, outputfile: Any) -> None:
        if self.command == "GET":
            self.server.requests["bodies"] += 1
        outputfile.write(source.read()[: self.server.cut_at])

    def end_headers(self) -> None:
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        return


class PictureServer(FakeServer):
    """`SimpleHTTPRequestHandler` of a folder, with counts and bad manners to choose from."""

    def __init__(self, directory: Path) -> None:
        super().__init__(partial(_Handler, directory=str(directory)))
        self.refuses_head = False
        self.status: int | None = None
        self.redirect_to: str | None = None
        self.etag: str | None = None
        self.cut_at: int | None = None


def serving(directory: Path) -> AbstractContextManager[PictureServer]:
    return running(PictureServer(directory))
