"""Directories of TensorFlow Datasets: pictures in TFRecord files, which are converted rather than read."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.errors import EmptyDataset

_RECORD = re.compile(r"\.tfrecords?(-\d+-of-\d+)?(\.gz)?$", re.IGNORECASE)
_PICTURE = re.compile(r"\.(jpe?g|png|gif|webp|bmp|tiff?|avif|hei[cf]|jxl|ico)$", re.IGNORECASE)
CONVERSION = (
    "python -c \"import pathlib, PIL.Image, tensorflow_datasets as t; b = t.builder_from_directory('DATA'); "
    "[(p := pathlib.Path('FOLDER', s, b.info.features['label'].int2str(r['label'])))"
    ".mkdir(parents=True, exist_ok=True) or PIL.Image.fromarray(r['image'].squeeze()).save(p / f'{n}.png') "
    'for s in b.info.splits for n, r in enumerate(t.as_numpy(b.as_dataset(split=s)))]"'
)


def refuse_records(names: Sequence[str], origin: str) -> None:
    """Raise if a source has TFRecord files and no picture files.

    Raises:
        EmptyDataset: with the line that writes the pictures into class folders.
    """
    records = [name for name in names if _RECORD.search(name)]
    if not records or any(_PICTURE.search(name) for name in names):
        return
    raise EmptyDataset(
        f"{origin} has {len(records)} TFRecord files, such as {records[0]}, which are not read. Write their "
        "pictures into folders of train and test set once, where tensorflow_datasets is installed; DATA is "
        f"the directory with dataset_info.json: {CONVERSION}",
        uri=origin,
    )
