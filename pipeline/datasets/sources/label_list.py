"""Lists of labels that lie beside the pictures, in a folder or an archive, and the files that they name."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.config.sources import ListColumns
from pipeline.datasets.sources.annotations import Annotations, find_largest, read_voc
from pipeline.datasets.sources.layout import (
    EXAMPLES,
    LaidOutFile,
    Layout,
    lay_out,
    system_part,
)
from pipeline.datasets.sources.lists import ListRow, PictureList
from pipeline.datasets.sources.split_names import SPLIT_NAMES
from pipeline.errors import EmptyDataset, SourceNotFound

LABELS_NAMES = ("labels.csv", "labels.tsv", "labels.jsonl")  # these win over class folders
LIST_NAMES = (
    *LABELS_NAMES,
    "metadata.csv",
    "metadata.jsonl",
    "train_labels.csv",
    "trainlabels.csv",
    "train.csv",
    *(f"{stem}.json" for stem in ("labels", "metadata", "annotations", "result", "coco")),
    *("_annotations.coco.json", "_annotations.csv", "_classes.csv"),
)
VOC_SUFFIX = ".xml"
MAX_LIST_BYTES = 20_000_000


@dataclass(slots=True, kw_only=True)
class Labels:
    """What the lists of a source say.

    Args:
        labels: Label by the name of the file.
        splits: Part of a split by the name of the file, if a list or its folder has a test part.
        statements: What a reader of the dataset card should know.
    """

    labels: dict[str, str] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    statements: list[str] = field(default_factory=list)


def is_list(name: str) -> bool:
    """Return True if a file is named as lists of labels are."""
    base = name.rpartition("/")[2].lower()
    is_coco = base.startswith("instances_") and base.endswith(".json")
    return base in LIST_NAMES or is_coco or base.endswith(VOC_SUFFIX)


def read_labels(
    names: Sequence[str],
    read: Callable[[str], bytes],
    *,
    columns: ListColumns | None,
    origin: str,
    unused: list[str],
) -> Labels | None:
    """Read the lists of a source and find the files that they name; None without a list.

    Args:
        names: Every file of the source.
        read: Reads a list.
        columns: The columns that the user named.
        origin: The source, for messages.
        unused: Takes the reasons why lists are not used.

    Raises:
        SourceNotFound: if a `labels.csv` cannot be read, naming line and remedy.
        EmptyDataset: if a list names no file that is there, or one file under two labels.
    """
    lists = sorted(name for name in names if is_list(name) and system_part(name) is None)
    result, is_read = Labels(), False
    rows_of = {
        name: _read_rows(name, read(name), columns, result, unused) for name in lists if not is_voc(name)
    }
    rows_of |= _read_voc([name for name in lists if is_voc(name)], names, read, result)
    for name, rows in rows_of.items():
        if rows:
            _match(result, name, rows, names, origin)
            is_read = True
    result.statements += unused
    return result if is_read else None


def is_voc(name: str) -> bool:
    """Return True if a file may be an annotation of Pascal VOC."""
    return name.lower().endswith(VOC_SUFFIX)


def _read_voc(
    lists: Sequence[str], names: Sequence[str], read: Callable[[str], bytes], result: Labels
) -> dict[str, list[ListRow]]:
    """Return the label of each annotation that has a picture of the same name, by the annotation's folder."""
    stems = {_stem(name) for name in names if not is_list(name)}
    rows: dict[str, list[ListRow]] = {}
    several: list[str] = []
    for name in lists:
        areas = read_voc(read(name), name) if _stem(name) in stems else None
        if not areas:
            continue
        folder, _, base = name.rpartition("/")
        rows.setdefault(f"{folder}/*{VOC_SUFFIX}".lstrip("/"), []).append(
            ListRow(line=1, file=base.rpartition(".")[0], label=find_largest(areas))
        )
        if len(areas) > 1:
            several.append(name)
    result.statements += Annotations(several=several).statements
    return rows


def _stem(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[0]


def lay_out_labels(names: Iterable[str], labels: Labels) -> Layout:
    """Return the files by their labels; those without one are counted."""
    layout = Layout()
    for name in names:
        part = system_part(name)
        if part is not None:
            layout.left_out[part] += 1
        elif name in labels.labels:
            split = labels.splits.get(name)
            layout.files.append(LaidOutFile(name=name, label=labels.labels[name], split=split))
        else:
            layout.leave_out([name], "without a label in the list")
    return layout


def prefers_folders(names: Sequence[str], classes: Sequence[str] | None, origin: str) -> bool:
    """Return True if class folders tell the classes, and no `labels.csv` says otherwise."""
    if any(name.rpartition("/")[2].lower() in LABELS_NAMES for name in names):
        return False
    try:
        layout = lay_out([name for name in names if not is_list(name)], classes=classes, origin=origin)
    except EmptyDataset:
        return False
    return len({file.label for file in layout.files}) > 1


def _read_rows(
    name: str, data: bytes, columns: ListColumns | None, result: Labels, unused: list[str]
) -> list[ListRow]:
    base = name.rpartition("/")[2].lower()
    pictures = PictureList(io.BytesIO(data), origin=name, columns=columns)
    try:
        if len(data) > MAX_LIST_BYTES:
            raise SourceNotFound(f"{name} has more than {MAX_LIST_BYTES} bytes.")
        rows = list(pictures.rows())
    except SourceNotFound as error:
        if base in LABELS_NAMES or columns is not None:
            raise
        unused.append(f"list not used: {error}")
        return []
    result.statements += pictures.statements
    return rows


def _match(
    result: Labels, list_name: str, rows: Sequence[ListRow], names: Sequence[str], origin: str
) -> None:
    """Label the files that a list names: by their whole path, else by as much of its end as fits one file."""
    folder = list_name.rpartition("/")[0]
    files = [name for name in names if not is_list(name) and system_part(name) is None]
    inside = [name for name in files if not folder or name.startswith(f"{folder}/")]
    inside = inside or files  # annotations in a folder of their own
    whole, stems = _index(inside), _index(inside, without_extension=True)
    part = _find_part(list_name)
    rest, ends, missing = [], [], []
    for row in rows:
        name = whole.get("/".join(_parts(row.file)))
        if name is None:
            rest.append(row)
        else:
            _label(result, list_name, row, name, part)
    free = {name for name in inside if name not in result.labels}
    for row in rest:
        name = _find(row.file, whole) or _find(row.file, stems)
        if name is None or name not in free:
            missing.append(row.file)
            continue
        if not name.startswith(row.file.rpartition("/")[0]):
            ends.append(f"{row.file} as {name}")
        _label(result, list_name, row, name, part)
    if missing and len(missing) == len(rows):
        raise EmptyDataset(
            f"{origin}: {list_name} lists {', '.join(missing[:EXAMPLES])}, the files there are "
            f"{', '.join(inside[:EXAMPLES]) or 'none'}: no name fits. Correct the column of files.",
            uri=origin,
        )
    for texts, what in (
        (missing, "name a file that is not there, or fits several"),
        (ends, "were matched by their ends"),
    ):
        if texts:
            shown = ", ".join(texts[:EXAMPLES])
            result.statements.append(f"{list_name}: {len(texts)} of {len(rows)} rows {what}: {shown}")


def _find_part(list_name: str) -> str | None:
    """Return the part of a split that a list is of, by the name of its folder or its own."""
    folder, _, base = list_name.rpartition("/")
    words = [folder.rpartition("/")[2], *re.split(r"[^a-z]+", base.casefold())]
    return next((SPLIT_NAMES[word.casefold()] for word in words if word.casefold() in SPLIT_NAMES), None)


def _label(result: Labels, list_name: str, row: ListRow, name: str, part: str | None) -> None:
    if not row.label:
        return
    if result.labels.setdefault(name, row.label) != row.label:
        raise EmptyDataset(
            f"{list_name}, line {row.line}, gives {name} the label {row.label!r}, another line "
            f"{result.labels[name]!r}. A picture has one label: correct the list.",
            name=name,
        )
    split = row.split or part
    if split is not None and result.splits.setdefault(name, split) != split:
        raise EmptyDataset(
            f"{list_name}, line {row.line}, puts {name} into the {split} part of the split, another line "
            f"into {result.splits[name]}. A picture is in one part: correct the list.",
            name=name,
        )


def _index(names: Iterable[str], *, without_extension: bool = False) -> Mapping[str, str | None]:
    """Return the name for each end of a path that begins at a folder; None for an end that fits several."""
    index: dict[str, str | None] = {}
    for name in names:
        parts = _parts(name)
        if without_extension:
            parts = [*parts[:-1], parts[-1].rpartition(".")[0] or parts[-1]]
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            index[end] = name if end not in index else None
    return index


def _find(file: str, index: Mapping[str, str | None]) -> str | None:
    """Return the file that a row names, by as much of its path as fits."""
    parts = _parts(file)
    # Label Studio puts eight hexadecimal digits before the names of uploaded files.
    original = re.sub(r"^[0-9a-f]{8}-", "", parts[-1]) if parts else ""
    for start in range(len(parts)):
        end = "/".join(parts[start:])
        if end in index:
            return index[end]
    return index.get(original)


def _parts(path: str) -> list[str]:
    text = unicodedata.normalize("NFC", path).replace("\\", "/")
    return [part for part in text.split("/") if part not in ("", ".")]
