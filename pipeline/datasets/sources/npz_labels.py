"""The labels of an array archive: class numbers, one-hot rows, truth values or names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from pipeline.config.labels import normalize_label
from pipeline.errors import BadArchive, EmptyDataset
from pipeline.npz import ArrayHeader, ArraySpec, read_npz

if TYPE_CHECKING:
    from numpy.typing import NDArray

KINDS = "biufSU"


def read_labels(
    file: BinaryIO, header: ArrayHeader, num_classes: int, origin: str
) -> tuple[list[int | str], str]:
    """Return the label of each row, as number or name, and how they were read if not as plain numbers.

    Raises:
        BadArchive: if they are no labels, or a picture has several.
    """
    name = header.name
    if len(header.shape) not in (1, 2) or header.dtype.kind not in KINDS:
        raise _unfit(header, origin)
    labels = read_npz(file, {name: ArraySpec(kinds=KINDS, shape=header.shape)}, origin=origin)[name]
    statement = ""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels, statement = labels[:, 0], f"`{name}` has one column, which was taken"
    elif labels.ndim == 2:
        labels = _read_one_hot(labels, header, num_classes, origin)
        statement = f"`{name}` is one-hot: the column of the 1 was taken as the class"
    if labels.dtype.kind in "SU":
        return _read_names(labels), statement or f"`{name}` holds names of classes"
    if labels.dtype.kind == "b":
        statement = f"`{name}` holds truth values: false is class 0, true is class 1"
    if labels.dtype.kind == "f" and not (np.isfinite(labels) & (labels == np.rint(labels))).all():
        raise BadArchive(
            f"{origin}: `{name}` holds fractions or NaN; expected whole numbers, the class of each picture.",
            uri=origin,
        )
    return [int(label) for label in labels], statement


def resolve_labels(labels: Sequence[int | str], classes: Sequence[str], origin: str) -> list[str]:
    """Return the class of each label.

    Raises:
        BadArchive: for a label that is no class.
        EmptyDataset: if a class has no picture.
    """
    by_label: dict[int | str, str] = {**dict(enumerate(classes)), **{name: name for name in classes}}
    by_label |= {str(number): name for number, name in enumerate(classes) if str(number) not in by_label}
    unknown = sorted({label for label in labels if label not in by_label}, key=str)
    if unknown:
        raise BadArchive(
            f"{origin}: `labels` holds {unknown[:5]}, but `classes` names classes 0 to {len(classes) - 1} "
            f"({', '.join(classes)}); name the others too or correct `labels`."
            f"{_find_remedy(labels, classes)}",
            uri=origin,
        )
    resolved = [by_label[label] for label in labels]
    absent = [name for name in classes if name not in set(resolved)]
    if absent:
        raise EmptyDataset(
            f"{origin}: no picture is labelled {', '.join(absent)}; a classifier needs pictures of every "
            "class. Add some or take the class out of `classes`.",
            uri=origin,
            classes=absent,
        )
    return resolved


def _find_remedy(labels: Sequence[int | str], classes: Sequence[str]) -> str:
    """Return the line of NumPy for numbers that begin elsewhere; empty where it is not that."""
    numbers = sorted({label for label in labels if isinstance(label, int)})
    if numbers == list(range(1, len(classes) + 1)):
        return " They begin at 1: labels=a['labels'] - 1."
    return " Of -1 and 1: labels=(a['labels'] > 0)." if numbers == [-1, 1] and len(classes) == 2 else ""


def _read_names(labels: NDArray[Any]) -> list[int | str]:
    texts = [label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label) for label in labels]
    return [normalize_label(text) for text in texts]


def _read_one_hot(
    labels: NDArray[Any], header: ArrayHeader, num_classes: int, origin: str
) -> NDArray[np.intp]:
    if labels.dtype.kind in "SU" or labels.shape[1] != num_classes:
        raise _unfit(header, origin, f" One-hot labels of {num_classes} classes have {num_classes} columns.")
    is_one = labels.astype(np.float64) == 1
    if not ((labels == 0) | is_one).all() or not (is_one.sum(axis=1) == 1).all():
        raise BadArchive(
            f"{origin}: `{header.name}` has several labels, or probabilities, for a picture; each picture "
            f"needs one. Where the largest is right: labels=a['{header.name}'].argmax(axis=1).",
            uri=origin,
        )
    columns: NDArray[np.intp] = labels.argmax(axis=1)
    return columns


def _unfit(header: ArrayHeader, origin: str, hint: str = "") -> BadArchive:
    return BadArchive(
        f"{origin}: `{header.name}` does not fit; expected the class of each picture, of shape "
        f"({header.shape[0] if header.shape else 'any'},).{hint} Received: {header.dtype}, shape "
        f"{header.shape}",
        origin=origin,
        array=header.name,
    )
