"""Files that hold pictures without being any, such as TFRecord: they are converted rather than read."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.datasets.sources.layout import OTHER_SUFFIXES, system_part
from pipeline.errors import EmptyDataset

_RECORD = re.compile(r"\.tfrecords?(-\d+-of-\d+)?(\.gz)?$", re.IGNORECASE)
_PICTURE = re.compile(
    r"\.(jpe?g|jpe|jfif|png|gif|webp|bmp|tiff?|avif|hei[cf]|jxl|ico|p[bgnp]m|jp2|j2k)$", re.IGNORECASE
)
CONVERSION = (
    "python -c \"import pathlib, PIL.Image, tensorflow_datasets as t; b = t.builder_from_directory('DATA'); "
    "[(p := pathlib.Path('FOLDER', s, b.info.features['label'].int2str(r['label'])))"
    ".mkdir(parents=True, exist_ok=True) or PIL.Image.fromarray(r['image'].squeeze()).save(p / f'{n}.png') "
    'for s in b.info.splits for n, r in enumerate(t.as_numpy(b.as_dataset(split=s)))]"'
)


_ARRAYS = "write them as arrays, numpy.savez('data.npz', features=..., labels=...), and `type: npz`"
HUGGING_FACE = (
    "python -c \"import pathlib, datasets; [(p := pathlib.Path('FOLDER', s, "
    "b.features['label'].int2str(r['label']))).mkdir(parents=True, exist_ok=True) or "
    "r['image'].convert('RGB').save(p / f'{n}.png') "
    "for s, b in datasets.load_dataset('DATA').items() for n, r in enumerate(b)]\""
)
OTHERS = (
    (
        r"\.parquet$|\.arrow$",
        "Parquet or Arrow files",
        f"write their pictures into folders once: {HUGGING_FACE}",
    ),
    (
        r"\.array_record(-\d+-of-\d+)?$",
        "ArrayRecord files",
        f"write their pictures into folders: {CONVERSION}",
    ),
    (r"\.np[yz]$", "NumPy arrays", "write `type: npz` and `classes`, or save each array as a PNG"),
    (r"(^|/)data\.mdb$|\.lmdb$", "an LMDB database", "write its pictures into a folder for each class"),
    (r"idx\d-ubyte(\.gz)?$", "IDX files, as MNIST has them", _ARRAYS),
    (r"(^|/)(data_batch_\d+|test_batch|batches\.meta)$", "pickled batches, as CIFAR has them", _ARRAYS),
    (r"\.(h5|hdf5|mat|pkl|pickle|pt|pth)$", "files of other programs", _ARRAYS),
    (
        r"\.(zip|tar|tgz|tar\.gz|tar\.bz2|tar\.xz|7z|rar)$",
        "archives",
        "unpack them, or name an archive by `type: archive`; of several, one for each class, each is "
        "a source in `dataset.sources` with its `label`",
    ),
)


def is_picture_name(name: str) -> bool:
    """Return True if a file is named like a picture."""
    return _PICTURE.search(name) is not None


def refuse_records(names: Sequence[str], origin: str) -> None:
    """Raise if a source has files that hold pictures and no picture files.

    Raises:
        EmptyDataset: with what makes pictures, or a source that is read, of them.
    """
    if any(is_picture_name(name) for name in names):
        return
    records = [name for name in names if _RECORD.search(name)]
    if records:
        raise EmptyDataset(
            f"{origin} has {len(records)} TFRecord files, such as {records[0]}, which are not read. Write "
            "their pictures into folders of train and test set once, where tensorflow_datasets is installed; "
            f"DATA is the directory with dataset_info.json: {CONVERSION}",
            uri=origin,
        )
    rest = [name for name in names if not name.lower().endswith((*OTHER_SUFFIXES, "lock.mdb"))]
    rest = [name for name in rest if system_part(name) is None]
    for pattern, kind, remedy in OTHERS:
        held = [name for name in names if re.search(pattern, name, re.IGNORECASE)]
        if held and not set(rest) - set(held):
            raise EmptyDataset(
                f"{origin} has no picture files but {kind}, such as {held[0]}, which are not read here: "
                f"{remedy}.",
                uri=origin,
            )


def suggest_boxes(names: Sequence[str]) -> str:
    """Return a sentence about boxes of YOLO, or labels beside each picture, which are not read."""
    if any(re.search(r"(^|/)labels/.+\.txt$", name) for name in names):
        return (
            " The text files in `labels` look like boxes of YOLO, which are not read: export the data as "
            "class folders, COCO or Pascal VOC."
        )
    if sum(name.endswith(".cls") for name in names) > 1:
        return " The `.cls` files hold labels, as WebDataset has them: write them into a `labels.csv`."
    return ""
