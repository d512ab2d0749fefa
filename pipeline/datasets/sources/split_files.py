"""Parts of a split that text files beside the pictures tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.datasets.sources.layout import EXAMPLES, LaidOutFile
from pipeline.datasets.sources.lists import ListRow
from pipeline.datasets.sources.row_files import FileFinder, ends_with
from pipeline.datasets.sources.split_file_rows import (
    NOT_USED,
    describe_unread,
    find_split_files,
    is_joint,
    leave_out_tasks,
    number_of,
    read_rows,
    shorten,
)
from pipeline.datasets.sources.split_names import TEST, TRAIN, VALIDATION
from pipeline.errors import EmptyDataset

MIN_SHARE = 0.5  # of a file's names, or of the pictures, must be matched


@dataclass(slots=True, kw_only=True)
class GivenParts:
    """What the split files of a source say.

    Args:
        splits: Part of the split by the name of the picture; empty if they are not used.
        statements: What a reader of the dataset card should know.
    """

    splits: dict[str, str] = field(default_factory=dict)
    statements: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """One split file.

    Args:
        name: Its path.
        rows: What it names.
        fits: The pictures of the rows that fit in full.
        by_end: The pictures of the rows that fit without their first folders.
    """

    name: str
    rows: Sequence[ListRow]
    fits: Mapping[ListRow, str]
    by_end: Mapping[ListRow, str]

    @property
    def missing(self) -> list[str]:
        """The names that fit no picture."""
        return [row.file for row in self.rows if row not in self.fits]


def read_split_files(
    names: Iterable[str], read: Callable[[str], bytes], pictures: Sequence[LaidOutFile], origin: str
) -> GivenParts:
    """Read the split files of a source and find the pictures that they name.

    Args:
        names: Every file of the source.
        read: Reads one.
        pictures: The pictures that have a class, with the part that folders or lists give them.
        origin: The source, for messages.

    Raises:
        EmptyDataset: if a picture is put into several parts.
    """
    files = find_split_files(names)
    if not files or not pictures:
        return GivenParts()
    finder, free = FileFinder([file.name for file in pictures], files), {file.name for file in pictures}
    tables = {name: read_rows(name, read, files) for name in leave_out_tasks(files)}
    readings = [_find(finder, name, rows, free) for name, rows in tables.items() if rows]
    if not any(reading.fits for reading in readings):  # of lists whose folders were elsewhere
        readings = [_Reading(name=r.name, rows=r.rows, fits=r.by_end, by_end={}) for r in readings]
    used, result = _choose(readings, pictures)
    result.statements += describe_unread(files)
    splits = _join(used, origin)
    if problem := _describe_doubt(used, splits, pictures):
        result.statements.append(NOT_USED + problem)
    elif splits:
        result.splits = splits
        result.statements += _describe_used(used, splits, pictures)
    return result


def _find(finder: FileFinder, name: str, rows: Sequence[ListRow], free: set[str]) -> _Reading:
    """Find the pictures of a split file: by whole lines, else by lines without the number of the class."""
    pairs = {row: picture for row, picture in finder.find(name, rows, free).files}
    shorter = {shorten(row): row for row in rows if row not in pairs or not ends_with(pairs[row], row.file)}
    near = finder.find(name, list(shorter), free).files if shorter else []
    full = {row: picture for row, picture in pairs.items() if ends_with(picture, row.file)}
    full |= {shorter[row]: picture for row, picture in near if ends_with(picture, row.file)}
    by_end = {shorter[row]: picture for row, picture in near}
    return _Reading(name=name, rows=rows, fits=full, by_end=full | by_end)


def _choose(
    readings: Sequence[_Reading], pictures: Sequence[LaidOutFile]
) -> tuple[list[_Reading], GivenParts]:
    """Return the files whose names fit, and statements of the others."""
    named = {picture for reading in readings for picture in reading.fits.values()}
    is_covered = len(named) >= MIN_SHARE * len(pictures)  # then names may be of classes that were left out
    used, result = [], GivenParts()
    for reading in readings:
        if reading.fits and (is_covered or len(reading.fits) >= MIN_SHARE * len(reading.rows)):
            used.append(reading)
            continue
        result.statements.append(
            f"{NOT_USED}{reading.name} names {len(reading.rows)} pictures, of which {len(reading.fits)} are "
            f"there and have a class; missing are {', '.join(reading.missing[:EXAMPLES])}"
        )
    return sorted(used, key=lambda reading: not is_joint(reading.name)), result


def _join(used: Sequence[_Reading], origin: str) -> dict[str, str]:
    """Return the part of each picture; none if there are several splits: `test1.txt` and `test2.txt`."""
    claims: dict[str, tuple[_Reading, str]] = {}
    for reading in used:
        for row, picture in reading.fits.items():
            split = row.split or TRAIN
            other, claimed = claims.setdefault(picture, (reading, split))
            if claimed != split and not (is_joint(other.name) and split == VALIDATION):
                if len({number_of(reading.name) for reading in used}) > 1:
                    return {}
                raise EmptyDataset(
                    f"{origin}: {reading.name}, line {row.line}, puts {picture} into the {split} part of the "
                    f"split, {other.name} into {claimed}. A picture is in one part: correct the files.",
                    name=picture,
                )
            claims[picture] = (reading, split)
    return {picture: split for picture, (_, split) in claims.items()}


def _describe_doubt(
    used: Sequence[_Reading], splits: Mapping[str, str], pictures: Sequence[LaidOutFile]
) -> str:
    """Return why split files do not tell the split; empty if they do."""
    names = _show(used)
    if used and not splits:
        return f"{names} are several splits of the same pictures; keep the files of one"
    tests = {name for name, split in splits.items() if split == TEST}
    if len(tests) == len(pictures):
        return f"{names} put every picture into the test part"
    earlier = {file.name for file in pictures if file.split == TEST}
    others = sorted(name for name in splits if (name in earlier) != (name in tests)) if earlier else []
    if others:
        shown = ", ".join(others[:EXAMPLES])
        return f"folders or lists tell the test set, and {names} differ for {len(others)} pictures: {shown}"
    return ""


def _describe_used(
    used: Sequence[_Reading], splits: Mapping[str, str], pictures: Sequence[LaidOutFile]
) -> list[str]:
    rest = len(pictures) - len(splits)
    says = "tell the split" if TEST in splits.values() else "name no test pictures: all are split anew"
    statements = [f"split_files: {_show(used)} {says}" + (f"; {rest} pictures are in none" if rest else "")]
    for reading in used:
        if reading.missing:
            statements.append(
                f"split_files: {len(reading.missing)} of {len(reading.rows)} names of {reading.name} are not "
                f"there: {', '.join(reading.missing[:EXAMPLES])}"
            )
    return statements


def _show(used: Sequence[_Reading]) -> str:
    names = [reading.name for reading in used]
    return ", ".join(names[:EXAMPLES]) + (", ..." if len(names) > EXAMPLES else "")
