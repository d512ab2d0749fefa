"""Which arrays of an archive are pictures and labels, and how the pictures lie in theirs.

What is unambiguous is taken and stated. Anything else is an error with the line of NumPy that mends it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.datasets.sources.split_names import SPLIT_NAMES
from pipeline.errors import BadArchive
from pipeline.npz import ArrayHeader

FEATURE_NAMES = ("features", "x", "images", "image", "imgs", "data", "inputs", "pictures", "arr_0")
LABEL_NAMES = ("labels", "y", "label", "targets", "target", "classes", "outputs", "arr_1")
CHANNELS = (1, 3, 4)
_PART = re.compile(rf"(?:^|_)({'|'.join(SPLIT_NAMES)})(?:_|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayPart:
    """Two arrays that belong together.

    Args:
        features: Name of the array of pictures.
        labels: Name of the array of labels.
        rows: Pictures in it.
        split: The part of a split that they are; None where the archive has no test part.
    """

    features: str
    labels: str
    rows: int
    split: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureShape:
    """How a picture lies in its row.

    Args:
        height: Rows of pixels.
        width: Columns of pixels.
        channels: 1 for gray, 3 for RGB, 4 for RGBA.
        is_channels_first: True if the channels come before the pixels.
    """

    height: int
    width: int
    channels: int
    is_channels_first: bool = False

    @property
    def statement(self) -> str:
        """What a reader of the dataset card should know; empty for RGB pictures with channels last."""
        names = {1: "gray", 3: "RGB", 4: "RGBA, laid on white"}
        if self.channels == 3 and not self.is_channels_first:
            return ""
        order = ", channels first" if self.is_channels_first else ""
        return f"pictures are {names[self.channels]}{order}: {self.height} x {self.width}"


def find_parts(headers: Mapping[str, ArrayHeader], origin: str) -> list[ArrayPart]:
    """Return the pairs of pictures and labels in an archive, training part first.

    Raises:
        BadArchive: if there are none, it is unclear which belong together, or pictures would be left out.
    """
    groups = _group_names(headers, origin)
    pairs = {split: pair for split, names in groups.items() if (pair := _find_pair(names, headers))}
    named: dict[str | None, tuple[str, str]] = {split: pairs[split] for split in pairs if split is not None}
    if None in pairs and (not named or pairs[None] == ("features", "labels")):
        named = {None: pairs[None]}
    if not named or (None in pairs and None not in named):
        raise _unclear(headers, origin)
    is_split = len(named) > 1
    parts = [
        _checked_part(headers, *named[split], split if is_split else None, origin)
        for split in sorted(named, key=lambda split: list(SPLIT_NAMES.values()).index(split or "train"))
    ]
    shapes = {headers[part.features].shape[1:] for part in parts}
    if len(shapes) > 1:
        raise BadArchive(
            f"{origin}: its parts have pictures of several shapes: {sorted(shapes)}; save each as a source "
            "of its own."
        )
    _refuse_lost_pictures(headers, parts, origin)
    return parts


def find_unused(headers: Mapping[str, ArrayHeader], parts: Sequence[ArrayPart]) -> list[str]:
    """Return the names of the arrays that are neither pictures nor labels of a part."""
    used = {name for part in parts for name in (part.features, part.labels)}
    return [name for name in headers if name not in used]


def _split_name(name: str) -> tuple[str | None, str]:
    """Return the part of a split that an array's name tells, and the name without it."""
    match = _PART.search(name.casefold())
    if match is None:
        return None, name.casefold()
    return SPLIT_NAMES[match[1]], _PART.sub("", name.casefold())


def _group_names(headers: Mapping[str, ArrayHeader], origin: str) -> dict[str | None, dict[str, str]]:
    """Return the arrays of each part of a split, by their names without that part."""
    groups: dict[str | None, dict[str, str]] = {}
    for name in headers:
        split, rest = _split_name(name)
        other = groups.setdefault(split, {}).setdefault(rest, name)
        if other != name:
            part = f" of the {split} part" if split else ""
            raise BadArchive(
                f"{origin}: `{other}` and `{name}` are both `{rest}`{part}; only one would be used. "
                f"Join them: numpy.concatenate([a['{other}'], a['{name}']]), or save "
                "the archive without one.",
                uri=origin,
            )
    return groups


def _refuse_lost_pictures(
    headers: Mapping[str, ArrayHeader], parts: Sequence[ArrayPart], origin: str
) -> None:
    """Raise if an array that is not used has the shape of the pictures, or is named as those of a part."""
    picture = headers[parts[0].features].shape[1:]
    lost = []
    for name in find_unused(headers, parts):
        split, rest = _split_name(name)
        shape = headers[name].shape
        if len(shape) > 2 and (shape[1:] == picture or (split is not None and rest in FEATURE_NAMES)):
            lost.append(f"`{name}` {shape}")
    if lost:
        pairs = " and ".join(f"`{part.features}` with `{part.labels}`" for part in parts)
        raise BadArchive(
            f"{origin}: {', '.join(lost)} may hold pictures, but only {pairs} clearly belong together. "
            "Save every part with its labels, as x_train, y_train, x_test and y_test, or the archive without "
            "what is not to be used.",
            uri=origin,
        )


def _find_pair(names: Mapping[str, str], headers: Mapping[str, ArrayHeader]) -> tuple[str, str] | None:
    """Return the names of pictures and labels: by their usual names, else the only two that fit."""
    features = next((names[name] for name in FEATURE_NAMES if name in names), None)
    labels = next((names[name] for name in LABEL_NAMES if name in names), None)
    if features is None or labels is None:
        pictures = [name for name in names.values() if len(headers[name].shape) in (3, 4)]
        others = [name for name in names.values() if len(headers[name].shape) in (1, 2)]
        if len(pictures) != 1 or len(others) != 1 or len(names) != 2:
            return None
        features, labels = pictures[0], others[0]
    if len(headers[features].shape) < 3 <= len(headers[labels].shape):  # `arr_0` may be the labels
        features, labels = labels, features
    return features, labels


def _checked_part(
    headers: Mapping[str, ArrayHeader], features: str, labels: str, split: str | None, origin: str
) -> ArrayPart:
    rows, num_labels = (headers[name].shape[:1] for name in (features, labels))
    if rows != num_labels or not rows:
        is_last = len(headers[features].shape) == 4 and num_labels == headers[features].shape[-1:]
        moved = f" The pictures come last: features=numpy.moveaxis(a['{features}'], -1, 0)."
        raise BadArchive(
            f"{origin}: `{features}` has {rows[0] if rows else 0} rows and `{labels}` "
            f"{num_labels[0] if num_labels else 0}; each picture needs one label.{moved if is_last else ''}",
            uri=origin,
        )
    return ArrayPart(features=features, labels=labels, rows=rows[0], split=split)


def find_shape(header: ArrayHeader, origin: str) -> PictureShape:
    """Return how the pictures of an array lie in it.

    Raises:
        BadArchive: if that is unclear, with the line of NumPy that mends it.
    """
    _, *sides = header.shape
    first_fits, last_fits = (len(sides) == 3 and sides[place] in CHANNELS for place in (0, -1))
    if len(sides) == 2:
        return PictureShape(height=sides[0], width=sides[1], channels=1)
    if last_fits and (sides[-1] == 3 or not first_fits):
        return PictureShape(height=sides[0], width=sides[1], channels=sides[2])
    if first_fits and not last_fits:
        return PictureShape(height=sides[1], width=sides[2], channels=sides[0], is_channels_first=True)
    remedy = _find_remedy(header, may_be_first=first_fits)
    raise BadArchive(
        f"{origin}: `{header.name}` has the shape {header.shape}; expected (pictures, height, width, 3), "
        f"gray pictures or RGBA, or channels first. {remedy}. Received: {header.dtype}, shape {header.shape}",
        origin=origin,
        array=header.name,
    )


def _find_remedy(header: ArrayHeader, *, may_be_first: bool) -> str:
    """Return the line of NumPy for an array of another shape."""
    array = f"a['{header.name}']"
    if may_be_first:
        return (
            "If the channels come first: numpy.savez('mended.npz', "
            f"features={array}.transpose(0, 2, 3, 1), labels=...)"
        )
    if len(header.shape) == 5:
        return f"Save one picture of each series, such as {array}[:, 0]"
    if len(header.shape) == 4 and header.shape[-1] > 4:
        return f"Save three of the channels, such as {array}[..., :3]"
    if len(header.shape) == 4:
        return f"Save one channel, such as {array}[..., 0]"
    return f"Save {array}.reshape(-1, HEIGHT, WIDTH, 3) instead"


def _unclear(headers: Mapping[str, ArrayHeader], origin: str) -> BadArchive:
    received = ", ".join(f"{name} {header.shape}" for name, header in headers.items()) or "none"
    return BadArchive(
        f"{origin}: there is no array `features` with `labels`, nor another pair of usual names (x and y, "
        "images and labels, x_train and y_train ...). To mend it: import numpy; a = numpy.load(PATH); "
        f"numpy.savez('mended.npz', features=a['...'], labels=a['...']). Received: {received}",
        origin=origin,
    )
