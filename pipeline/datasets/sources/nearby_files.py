"""The files that a list names, where its paths are those of another computer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.datasets.sources.layout import EXAMPLES, system_part
from pipeline.datasets.sources.list_names import is_list
from pipeline.datasets.sources.lists import ListRow
from pipeline.datasets.sources.row_files import FileFinder

MAX_FILES = 200_000


def find_nearby(
    list_path: Path, rows: Sequence[ListRow], taken: set[Path]
) -> tuple[dict[str, Path], list[str]]:
    """Find files below the folder of a list for rows whose own paths lead nowhere.

    Args:
        list_path: The list.
        rows: The rows whose files are not where they say.
        taken: Files that other rows name; they are not given to a second one.

    Returns:
        The file of each row by what the row names, and a statement of them.
    """
    folder = list_path.parent
    names = _list_files(folder) if rows else []
    names = [name for name in names if folder / name not in taken and not is_list(name)]
    if not names:
        return {}, []
    finder = FileFinder(names, [list_path.name])
    result = finder.find(list_path.name, rows, set(names))
    files = {row.file: folder / name for row, name in result.files}
    if not files:
        return {}, []
    shown = ", ".join(f"{row.file} as {name}" for row, name in result.files[:EXAMPLES])
    return files, [
        f"{list_path.name}: {len(files)} rows name files that are not there; they were matched below its "
        f"folder: {shown}"
    ]


def _list_files(folder: Path) -> list[str]:
    """Return the files below a folder; none if there are too many to look through."""
    names: list[str] = []
    for directory, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if system_part(name) is None)
        prefix = Path(directory).relative_to(folder)
        names += [str(prefix / name) for name in sorted(files) if system_part(name) is None]
        if len(names) > MAX_FILES:
            return []
    return names
