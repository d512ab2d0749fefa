"""Which text files tell the parts of a split, and what they name.

Such are `ImageSets/Main/test.txt` of Pascal VOC, `meta/train.txt` of Food-101 and `train_test_split.txt` of
CUB-200.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from pipeline.datasets.sources.layout import EXAMPLES, system_part
from pipeline.datasets.sources.lists import ListRow
from pipeline.datasets.sources.row_files import folder_of
from pipeline.datasets.sources.split_names import FILLERS, TEST, TRAIN, VALIDATION, find_split, words_of

NOT_USED = "split files not used: "
NUMBERED_PICTURES, NUMBERED_PARTS = "images.txt", "train_test_split.txt"  # of CUB-200
_LIST_WORDS = frozenset(("file", "files", "filelist", "ids", "list", "lists", "names", "paths", "splits"))
_WITH_SUFFIX = re.compile(r"^(.+?\.(?:jpe?g|png|gif|webp|bmp|tiff?))[\s,;]", re.IGNORECASE)
_WITH_NUMBERS = re.compile(r"^(.+?)(?:[\s,;]+\d+)+$")
_OF_CLASS = re.compile(rb"\s-1\s*$", re.MULTILINE)  # `cat_train.txt` of Pascal VOC: 1 or -1 for each picture


def may_be_split_file(name: str) -> bool:
    """Return True if a file is named as split files are."""
    base = name.rpartition("/")[2].lower()
    return base in (NUMBERED_PICTURES, NUMBERED_PARTS) or _part_of(name) is not None


def find_split_files(names: Iterable[str]) -> list[str]:
    """Return the split files of a source, with the `images.txt` that a `train_test_split.txt` refers to."""
    files = sorted(name for name in names if may_be_split_file(name) and system_part(name) is None)
    return [name for name in files if not _is_pictures(name) or _beside(name, NUMBERED_PARTS) in files]


def is_joint(name: str) -> bool:
    """Return True if a file names training and validation pictures together, as `trainval.txt` does."""
    words = words_of(_stem_of(name))
    return "trainval" in words or {find_split(word) for word in words} >= {TRAIN, VALIDATION}


def number_of(name: str) -> str:
    """Return the digits in the name of a split file: `1` of `test1.txt`."""
    return re.sub(r"\D+", " ", _stem_of(name)).strip()


def leave_out_tasks(files: Sequence[str]) -> list[str]:
    """Leave out `images.txt`, and the splits of Pascal VOC for other tasks: `ImageSets/Layout`."""
    tasks = {folder_of(folder_of(name)) for name in files if folder_of(name).endswith("ImageSets/Main")}
    return [
        name
        for name in files
        if not _is_pictures(name)
        and (folder_of(folder_of(name)) not in tasks or folder_of(name).endswith("/Main"))
    ]


def describe_unread(files: Sequence[str]) -> list[str]:
    """Return statements of the split files that are not read, whatever is in them."""
    tables = set(leave_out_tasks(files))
    tasks = [name for name in files if name not in tables and not _is_pictures(name)]
    alone = [
        name for name in tables if _part_of(name) is None and _beside(name, NUMBERED_PICTURES) not in files
    ]
    statements = [f"{NOT_USED}{', '.join(tasks[:EXAMPLES])}: ImageSets/Main is of classes"] if tasks else []
    return [
        *statements,
        *(f"{NOT_USED}{name} has no {NUMBERED_PICTURES} beside it" for name in sorted(alone)),
    ]


def read_rows(name: str, read: Callable[[str], bytes], files: Sequence[str]) -> list[ListRow]:
    """Return what a split file names; none if it is of one class."""
    data = read(name)
    part = _part_of(name)
    if part is not None:
        rows = [] if _OF_CLASS.search(data) else _lines(data)
        return [ListRow(line=line, file=text, label="", split=part) for line, text in rows]
    pictures = _beside(name, NUMBERED_PICTURES)
    if pictures not in files:
        return []
    paths = dict(_pairs(read(pictures)))
    return [
        ListRow(line=line, file=paths.get(number, number), label="", split=TRAIN if flag == "1" else TEST)
        for line, (number, flag) in enumerate(_pairs(data), 1)
    ]


def shorten(row: ListRow) -> ListRow:
    """Return a row without the number or the name of a class behind the picture."""
    match = _WITH_SUFFIX.match(row.file) or _WITH_NUMBERS.match(row.file)
    return ListRow(line=row.line, file=match[1] if match else row.file, label="", split=row.split)


def _part_of(name: str) -> str | None:
    """Return the part that a file's name tells: `test_list.txt`, but not `cat_test.txt`."""
    words = [word for word in words_of(_stem_of(name)) if word not in {*FILLERS, *_LIST_WORDS}]
    is_text = name.lower().endswith(".txt")
    return find_split(" ".join(words)) if is_text and all(map(find_split, words)) else None


def _stem_of(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[0]


def _is_pictures(name: str) -> bool:
    return name.rpartition("/")[2].lower() == NUMBERED_PICTURES


def _beside(name: str, other: str) -> str:
    return f"{folder_of(name)}/{other}".lstrip("/")


def _lines(data: bytes) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(data.decode("utf-8-sig", "replace").splitlines(), 1):
        if line.strip():
            yield number, line.strip()


def _pairs(data: bytes) -> Iterator[tuple[str, str]]:
    for _, line in _lines(data):
        number, *value = line.split(maxsplit=1)
        yield number, " ".join(value)
