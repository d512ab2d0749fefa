"""Lists of labels that lie beside the pictures, in a folder or an archive."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from pipeline.config.sources import LabelFrom, ListColumns
from pipeline.datasets.sources.annotations import read_cvat, read_voc, read_voc_file
from pipeline.datasets.sources.boxes import Boxes, Choices
from pipeline.datasets.sources.layout import EXAMPLES, LaidOutFile, Layout, system_part
from pipeline.datasets.sources.list_names import (
    MAX_LIST_BYTES,
    VOC_SUFFIX,
    is_labels_file,
    is_list,
    is_usual_list,
    is_voc,
    stem_of,
)
from pipeline.datasets.sources.lists import ListRow, PictureList
from pipeline.datasets.sources.row_files import FileFinder, RowFiles, folder_of
from pipeline.datasets.sources.split_names import TEST, find_folder_parts
from pipeline.errors import EmptyDataset, NoLabels, SourceNotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOptions:
    """What the user said about the lists of a source.

    Args:
        columns: Their columns: then a list is meant.
        label_from: Which category becomes the label of a picture that shows several.
    """

    columns: ListColumns | None = None
    label_from: LabelFrom = "largest"


@dataclass(slots=True, kw_only=True)
class Labels:
    """What the lists of a source say.

    Args:
        labels: Label by the name of the file.
        splits: Part of a split by the name of the file, if a list, a name or a folder tells it.
        statements: What a reader of the dataset card should know.
        own_splits: Files of lists that have a column for the part: folders have no say in theirs.
    """

    labels: dict[str, str] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    statements: list[str] = field(default_factory=list)
    own_splits: set[str] = field(default_factory=set)


def read_labels(
    lists: Sequence[str],
    names: Sequence[str],
    read: Callable[[str], bytes],
    *,
    options: ListOptions,
    origin: str,
    unused: list[str],
) -> Labels | None:
    """Read lists of a source and find the files that they name; None if none can be used.

    Args:
        lists: The lists to read.
        names: Every file of the source.
        read: Reads a list.
        options: What the user said about lists.
        origin: The source, for messages.
        unused: Takes the reasons why lists are not used.

    Raises:
        SourceNotFound: if a list cannot be read, naming line and remedy.
        EmptyDataset: if a `labels.csv` names no file that is there, or a list gives a file two labels.
    """
    result, refusals = Labels(), _Refusals(columns=options.columns)
    tables = [name for name in lists if not is_voc(name)]
    rows_of = {name: _read_rows(name, read(name), options, result, refusals) for name in tables}
    rows_of |= _read_voc([name for name in lists if name not in tables], names, read, options, result)
    files = [name for name in names if not is_list(name) and system_part(name) is None]
    finder = FileFinder(files, lists)
    for name, rows in rows_of.items():
        named = finder.find(name, rows, {file for file in files if file not in result.labels})
        if named.files:
            _take(result, name, named)
        elif rows:
            refusals.add(name, _describe_misfit(name, named, files, origin))
    unused += [f"list not used: {error}" for error in refusals.errors.values()]
    if not result.labels:
        refusals.raise_first()
        return None
    _follow_folders(result)
    result.statements += unused
    return result


@dataclass(slots=True, kw_only=True)
class _Refusals:
    """Why lists are not used.

    Args:
        columns: The columns that the user named, which some list must have.
        errors: By list.
    """

    columns: ListColumns | None
    errors: dict[str, SourceNotFound | EmptyDataset] = field(default_factory=dict)

    def add(self, name: str, error: SourceNotFound | EmptyDataset) -> None:
        self.errors[name] = error

    def raise_first(self) -> None:
        """Raise if a list that cannot be used is one that the user surely meant."""
        meant = [error for name, error in self.errors.items() if self.columns or is_labels_file(name)]
        if meant:
            raise meant[0]


def _read_rows(
    name: str, data: bytes, options: ListOptions, result: Labels, refusals: _Refusals
) -> list[ListRow]:
    """Return the rows of a list; none if it is no list of labels."""
    pictures = PictureList(
        io.BytesIO(data), origin=name, columns=options.columns, label_from=options.label_from
    )
    try:
        if len(data) > MAX_LIST_BYTES:
            raise NoLabels(f"{name} has more than {MAX_LIST_BYTES} bytes.")
        rows = list(pictures.rows())
    except SourceNotFound as error:
        is_damaged = not isinstance(error, NoLabels)  # it begins like a list of labels
        if is_labels_file(name) or (is_damaged and is_usual_list(name)):
            raise
        refusals.add(name, error)
        return []
    result.statements += pictures.statements
    return rows


def _read_voc(
    lists: Sequence[str],
    names: Sequence[str],
    read: Callable[[str], bytes],
    options: ListOptions,
    result: Labels,
) -> dict[str, list[ListRow]]:
    """Return the label of each annotation that has a picture of the same name, by the annotation's folder."""
    stems = Counter(stem_of(name) for name in names if not is_list(name))
    rows: dict[str, list[ListRow]] = {}
    choices = Choices(label_from=options.label_from)
    for name in lists:
        stem = stem_of(name)
        if stem not in stems and stem.casefold() == "annotations":
            rows[name] = [
                ListRow(line=1, file=file, label=choices.choose(file, boxes))
                for file, boxes in read_cvat(read(name), name).items()
            ]
            continue
        data = read(name) if stem in stems else b""
        boxes = read_voc(data, name) if stem in stems else Boxes()
        if boxes.areas:
            key = f"{folder_of(name)}/*{VOC_SUFFIX}".lstrip("/")
            file = read_voc_file(data) if stems[stem] > 1 else ""  # beside masks of the same name
            file = file if stem_of(file) == stem else stem
            row = ListRow(line=1, file=file, label=choices.choose(name, boxes))
            rows.setdefault(key, []).append(row)
    result.statements += choices.statements
    return rows


def _describe_misfit(list_name: str, named: RowFiles, files: Sequence[str], origin: str) -> EmptyDataset:
    return EmptyDataset(
        f"{origin}: {list_name} lists {', '.join(named.missing[:EXAMPLES])}, the files there are "
        f"{', '.join(files[:EXAMPLES]) or 'none'}: no name fits. Correct the column of files.",
        uri=origin,
    )


def _take(result: Labels, list_name: str, named: RowFiles) -> None:
    """Label the files that a list names."""
    for row, name in named.files:
        _label(result, list_name, row, name, named.part)
    if any(row.split for row, _ in named.files):
        result.own_splits |= {name for _, name in named.files}
    rows = len(named.files) + len(named.missing)
    for texts, what in (
        (named.missing, "name a file that is not there, or fits several"),
        (named.by_end, "were matched by their ends"),
        (named.alike, "were matched but for case, extension, zeros or escapes"),
    ):
        if texts:
            shown = ", ".join(texts[:EXAMPLES])
            result.statements.append(f"{list_name}: {len(texts)} of {rows} rows {what}: {shown}")


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


def _follow_folders(result: Labels) -> None:
    """Put files into the part of a split that their folders tell; a test part alone is no split."""
    parts = find_folder_parts(map(folder_of, result.labels), may_stand_alone=True)
    for name in result.labels:
        if folder_of(name) in parts and name not in result.own_splits:
            result.splits[name] = parts[folder_of(name)]
    if Counter(result.splits.values())[TEST] == len(result.labels):
        result.splits.clear()


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
