"""The line of NumPy that turns an archive of other conventions into one that is read."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.npz import ArrayHeader

PAIRS = (
    *(("features", "labels"), ("x", "y"), ("X", "y"), ("images", "labels"), ("data", "labels")),
    *(("data", "target"), ("image", "label"), ("arr_0", "arr_1")),
)
SPLIT_PAIRS = (
    *(
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
    ),
    *(("X_train", "y_train", "X_test", "y_test"),),
)


def describe_remedy(headers: Mapping[str, ArrayHeader], path: str) -> str:
    """Return what to run so that the archive can be read; empty where the arrays are not recognised.

    Args:
        headers: Of the arrays in the archive.
        path: The archive, as NumPy would load it.
    """
    features, labels = _find_arrays(headers)
    if features is None or labels is None:
        return ""
    pictures = _mend_features(f'a["{features}"]', headers[features])
    classes = _mend_labels(f'a["{labels}"]', headers[labels])
    if pictures is None or classes is None:
        return ""
    pictures, classes = (_join_parts(text, headers) for text in (pictures, classes))
    load = f'import numpy; a = numpy.load("{path}")'
    return f' To mend it: {load}; numpy.savez("mended.npz", features={pictures}, labels={classes})'


def _find_arrays(headers: Mapping[str, ArrayHeader]) -> tuple[str | None, str | None]:
    for features, labels in (*PAIRS, *(parts[:2] for parts in SPLIT_PAIRS)):
        if features in headers and labels in headers:
            return features, labels
    return None, None


def _join_parts(text: str, headers: Mapping[str, ArrayHeader]) -> str:
    """Return an expression over both parts of a split, where the archive has a test part too."""
    for train_features, train_labels, test_features, test_labels in SPLIT_PAIRS:
        if test_features in headers and test_labels in headers:
            for train, test in ((train_features, test_features), (train_labels, test_labels)):
                if f'a["{train}"]' in text:
                    return f"numpy.concatenate([{text}, {text.replace(train, test)}])"
    return text


def _mend_features(text: str, header: ArrayHeader) -> str | None:
    shape = header.shape
    if len(shape) == 4 and shape[-1] not in (1, 3, 4) and shape[1] in (1, 3, 4):
        text, shape = f"{text}.transpose(0, 2, 3, 1)", (shape[0], *shape[2:], shape[1])
    if len(shape) == 3:
        text, shape = f"{text}[..., None]", (*shape, 1)
    if len(shape) != 4 or shape[-1] not in (1, 3, 4):
        return None
    if shape[-1] == 1:
        text = f"numpy.repeat({text}, 3, axis=-1)"
    if shape[-1] == 4:
        text = f"{text}[..., :3]"
    is_readable = header.dtype.kind == "f" or (header.dtype.kind == "u" and header.dtype.itemsize == 1)
    return text if is_readable else f'{text}.astype("uint8")'


def _mend_labels(text: str, header: ArrayHeader) -> str | None:
    shape, kind = header.shape, header.dtype.kind
    if len(shape) == 2 and shape[1] > 1:
        return f"{text}.argmax(axis=1)"
    if len(shape) == 2:
        text = f"{text}.ravel()"
    elif len(shape) != 1:
        return None
    if kind in "SU":  # classes in the order of their names
        return f"numpy.unique({text}, return_inverse=True)[1]"
    return f'{text}.astype("int64")' if kind == "b" else text
