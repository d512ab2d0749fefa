"""Features of the shared real pictures, for benchmarks that train heads: made once, kept in memory."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.table import find_backbone
from pipeline.backbones.weights import read_weights
from pipeline.npz import read_npz
from pipeline.pixels.host import decode_picture, resize_picture
from pipeline.storage import Storage
from pipeline.submission.staged_weights import stage_weights
from pipeline.trainer.augmentation import Augmentation, make_augmentations

BACKBONE = find_backbone("efficientnet_lite0")
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
BATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RealPictures:
    """A set of real pictures.

    Args:
        classes: Names of the sub-folders.
        labels: Class index of each picture.
        features: Pooled features of each.
        views: The same of each altered copy, by view.
    """

    classes: list[str]
    labels: Any
    features: Any
    views: list[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedPictures:
    """A set of real pictures before they are resized.

    Args:
        classes: Names of the sub-folders.
        labels: Class index of each picture.
        pictures: Their pixels, of any size.
        names: Of each, within the set.
    """

    classes: list[str]
    labels: Any
    pictures: list[Any]
    names: list[str]


def read_decoded(name: str) -> DecodedPictures:
    """Read one of the shared sets."""
    return _read_archive(name) or _read_folders(name)


def read_pictures(name: str, *, views: int = 0) -> RealPictures:
    """Read one of the shared sets and run the network over it, and over its altered copies."""
    decoded = read_decoded(name)
    pixels = np.stack([resize_picture(picture, BACKBONE.spec) for picture in decoded.pictures])
    ids, network = np.array(decoded.names, "S64"), load_network()
    return RealPictures(
        classes=decoded.classes,
        labels=decoded.labels,
        features=forward(network, pixels, ids),
        views=[forward(network, pixels, ids, view) for view in make_augmentations(views, 0)],
    )


def read_files(name: str) -> dict[str, bytes]:
    """Return the picture files of one of the shared sets by name; thumbnails of an archive as PNG."""
    archives = sorted((DATA / name).glob("*.npz"))
    if not archives:
        return {path.name: path.read_bytes() for path in sorted((DATA / name).glob("*/*"))}
    files = {}
    for number, pixels in enumerate(read_npz(archives[0])["features"]):
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
        files[f"{number:05d}"] = buffer.getvalue()
    return files


def _read_folders(name: str) -> DecodedPictures:
    folders = sorted(path for path in (DATA / name).iterdir() if path.is_dir())
    paths = [(path, label) for label, folder in enumerate(folders) for path in sorted(folder.iterdir())]
    return DecodedPictures(
        classes=[folder.name for folder in folders],
        labels=np.array([label for _, label in paths]),
        pictures=[decode_picture(path.read_bytes()) for path, _ in paths],
        names=[path.name for path, _ in paths],
    )


def _read_archive(name: str) -> DecodedPictures | None:
    """Read a set that is one NPZ of thumbnails, named after its two classes."""
    archives = sorted((DATA / name).glob("*.npz"))
    if not archives:
        return None
    arrays = read_npz(archives[0])
    names = [f"{number:05d}" for number in range(len(arrays["labels"]))]
    return DecodedPictures(
        classes=name.split("_"), labels=arrays["labels"], pictures=list(arrays["features"]), names=names
    )


def load_network() -> Any:
    """Return the default backbone with its ImageNet weights."""
    from pipeline.backbones.networks.folded import build_network

    with tempfile.TemporaryDirectory(prefix="graft-bench-") as temporary:
        storage = Storage({"graft": Path(temporary)})
        staged = stage_weights(Workspace(storage, "gs://graft"), BACKBONE, "imagenet")
        return build_network(BACKBONE.name, read_weights(storage.local_path(staged.uri), BACKBONE.name))


def forward(network: Any, pixels: Any, ids: Any, view: Augmentation | None = None) -> Any:
    """Return the features of pictures, altered by a view if one is given."""
    parts = []
    for start in range(0, len(pixels), BATCH):
        rows = slice(start, start + BATCH)
        parts.append(network(view(pixels[rows], ids[rows]) if view else pixels[rows]).numpy())
    return np.concatenate(parts)


def split_by_class(labels: Any, seed: int, test_fraction: float = 0.3) -> tuple[Any, Any]:
    """Return the rows that train and that test, the same share of each class."""
    random = np.random.default_rng(seed)
    train, test = [], []
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        count = round(test_fraction * len(rows))
        test.append(rows[:count])
        train.append(rows[count:])
    return np.concatenate(train), np.concatenate(test)
