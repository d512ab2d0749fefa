"""Which files the rows of a list name, by as much of a path as fits one file."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import unquote

from pipeline.datasets.sources.lists import ListRow
from pipeline.datasets.sources.split_names import find_folder_parts, find_split

Index = Mapping[str, str | None]


@dataclass(slots=True, kw_only=True)
class RowFiles:
    """The files that the rows of a list name.

    Args:
        files: Each row with its file.
        missing: What the other rows name.
        by_end: Names that fit only without their first folders, with the file.
        alike: Names that fit only but for case, extension, leading zeros or escapes, with the file.
        part: The part of a split that the list is of; None if it tells none.
    """

    files: list[tuple[ListRow, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    by_end: list[str] = field(default_factory=list)
    alike: list[str] = field(default_factory=list)
    part: str | None = None


class _Ends:
    """Files by the ends of their paths; None where several have the same. Each index is made when asked for.

    Args:
        names: The files.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._paths = {name: path_parts(name) for name in names}

    @cached_property
    def whole(self) -> Index:
        """With the extension."""
        return _index(self._paths)

    @cached_property
    def stems(self) -> Index:
        """Without it."""
        return _index(
            {
                name: [*parts[:-1], parts[-1].rpartition(".")[0] or parts[-1]]
                for name, parts in self._paths.items()
            }
        )

    @cached_property
    def alike(self) -> Index:
        """As other systems may have them."""
        return _index({name: _simplify(parts) for name, parts in self._paths.items()})


class FileFinder:
    """The files of a source, by what lists call them.

    Args:
        files: Paths below the source, those of lists and systems aside.
        lists: Paths of the lists.
    """

    def __init__(self, files: Sequence[str], lists: Iterable[str]) -> None:
        self._files = files
        folders = {folder_of(name) for name in (*files, *lists)}
        self._parts = find_folder_parts(folders, may_stand_alone=True)
        self._places: dict[str, tuple[list[str], dict[str, str]]] = {}
        self._ends: dict[tuple[str, str | None], _Ends] = {}

    def find(self, list_name: str, rows: Sequence[ListRow], free: Collection[str]) -> RowFiles:
        """Find files in the list's own folder, else in the nearest one around it that has any of them.

        Args:
            list_name: The list.
            rows: Its rows.
            free: The files that have no label yet: only these may be found by an end of their path.
        """
        part = self._parts.get(folder_of(list_name)) or find_split(list_name.rpartition("/")[2])
        for folder in _ancestors(list_name):
            if folder and not self._files_in(folder)[0]:
                continue
            result = self._find_in(folder, rows, set(free), part)
            if result.files:
                break
        return result

    def _find_in(self, folder: str, rows: Sequence[ListRow], free: set[str], part: str | None) -> RowFiles:
        """Find files below a folder: by their path, else by an end of it, and then in the part of a split."""
        result, rest = RowFiles(part=part), []
        paths = self._files_in(folder)[1]
        ends = {split: self._ends_in(folder, split) for split in {row.split or part for row in rows}}
        for row in rows:
            path = "/".join(path_parts(row.file))
            name = paths.get(path) or ends[row.split or part].whole.get(path)
            if name is None:
                rest.append(row)
                continue
            result.files.append((row, name))
            if row.label:
                free.discard(name)
        for row in rest:
            self._find_alike(result, row, ends[row.split or part], free)
        return result

    def _find_alike(self, result: RowFiles, row: ListRow, ends: _Ends, free: set[str]) -> None:
        """Find a file by an end of its path, else by one that looks alike."""
        name = _find_end(path_parts(row.file), ends.whole) or _find_end(path_parts(row.file), ends.stems)
        alike = None if name else _find_end(_simplify(path_parts(row.file)), ends.alike)
        if (name or alike) not in free:
            result.missing.append(row.file)
            return
        if name and not name.startswith(folder_of(row.file)):
            result.by_end.append(f"{row.file} as {name}")
        if alike:
            result.alike.append(f"{row.file} as {alike}")
        result.files.append((row, name or alike or ""))

    def _files_in(self, folder: str) -> tuple[list[str], dict[str, str]]:
        """Return the files below a folder, and each by its path below the source and below the folder."""
        if folder not in self._places:
            inside = [name for name in self._files if name.startswith(folder)]
            paths = {"/".join(path_parts(name)): name for name in inside}
            paths |= {"/".join(path_parts(name[len(folder) :])): name for name in inside if folder}
            self._places[folder] = inside, paths
        return self._places[folder]

    def _ends_in(self, folder: str, part: str | None) -> _Ends:
        """Return the ends of the paths below a folder, which are indexed once for all lists."""
        others = {name for name, other in self._parts.items() if other != part} if part else set()
        key = folder, part if others else None
        if key not in self._ends:
            inside, _ = self._files_in(folder)  # no folder puts them into another part
            self._ends[key] = _Ends([name for name in inside if folder_of(name) not in others])
        return self._ends[key]


def folder_of(name: str) -> str:
    """Return the folder of a file; empty for the source's own."""
    return name.rpartition("/")[0]


def path_parts(path: str) -> list[str]:
    """Return the folders and the name of a path, as lists of any system write it."""
    text = unicodedata.normalize("NFC", path).replace("\\", "/")
    return [part for part in text.split("/") if part not in ("", ".")]


def ends_with(name: str, path: str) -> bool:
    """Return True if a file's path ends with another, whatever their case and extensions are."""
    if f"/{name}".endswith((f"/{path}", f"/{path}.{name.rpartition('.')[2]}")):
        return True
    parts = _simplify(path_parts(path))
    return _simplify(path_parts(name))[-len(parts) :] == parts


def _ancestors(name: str) -> Iterator[str]:
    """Yield the folders around a file, innermost first and the source's own last, with a trailing slash."""
    folder = folder_of(name)
    while folder:
        yield f"{folder}/"
        folder = folder_of(folder)
    yield ""


def _index(paths: Mapping[str, Sequence[str]]) -> Index:
    """Return the name for each end of a path that begins at a folder; None for an end that fits several."""
    index: dict[str, str | None] = {}
    for name, parts in paths.items():
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            index[end] = name if end not in index else None
    return index


def _find_end(parts: Sequence[str], index: Index) -> str | None:
    """Return the file that a path names, by as much of it as fits."""
    # Label Studio puts eight hexadecimal digits before the names of uploaded files.
    original = re.sub(r"^[0-9a-f]{8}-", "", parts[-1]) if parts else ""
    for start in range(len(parts)):
        end = "/".join(parts[start:])
        if end in index:
            return index[end]
    return index.get(original)


def _simplify(parts: Sequence[str]) -> list[str]:
    """Return a path as other systems may have it: `IMG%201.JPG` is `img 1`, and `007.0` is `7`."""
    *folders, base = (unquote(part).casefold() for part in parts or [""])
    stem, _, suffix = base.rpartition(".")
    has_version = suffix.isdigit() and suffix.strip("0")  # `v1.5` has no extension
    base = base if has_version or not stem else stem
    return [*folders, base.lstrip("0") or "0" if base.isdigit() else base]
