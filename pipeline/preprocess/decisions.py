"""What people decided about single pictures: `decisions.csv`, which they edit, and takedowns.

`decisions.csv` has the columns `picture`, `action` and `label`. A picture is named by its id, by the digest
of its file (eight characters or more of either), or by its address. Takedowns are written by `graft dataset
forget`.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from pipeline.artifacts.folders import DatasetFolder
from pipeline.artifacts.manifest import ManifestRow
from pipeline.artifacts.provenance import Provenance
from pipeline.artifacts.takedowns import Takedown
from pipeline.config.labels import normalize_label
from pipeline.errors import ConfigError, ObjectNotFound
from pipeline.preprocess.filters import quarantine
from pipeline.preprocess.reasons import DELETED, TAKEN_DOWN

Action: TypeAlias = Literal["delete", "relabel"]
COLUMNS = ("picture", "action", "label")
MIN_PREFIX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One line of `decisions.csv`.

    Args:
        line: Its number in the file.
        picture: Id, digest or address of the picture.
        action: `delete` or `relabel`.
        label: The right label, for `relabel`.
    """

    line: int
    picture: str
    action: Action
    label: str


def read_decisions(dataset: DatasetFolder) -> list[Decision]:
    """Read `decisions.csv`; none where there is no such file.

    Raises:
        ConfigError: naming the file, the line and what it should be.
    """
    return parse_decisions(read_decision_file(dataset), dataset.decisions)


def read_decision_file(dataset: DatasetFolder) -> bytes | None:
    """Return the bytes of `decisions.csv`; None where there is no such file."""
    try:
        return dataset.storage.read_bytes(dataset.decisions)
    except ObjectNotFound:
        return None


def parse_decisions(data: bytes | None, uri: str) -> list[Decision]:
    """Read the bytes of `decisions.csv`, as `read_decisions`."""
    if data is None:
        return []
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{uri}: not UTF-8 text: {error}. Save it as CSV in UTF-8.", origin=uri) from error
    reader = csv.DictReader(io.StringIO(text))
    if tuple(reader.fieldnames or ())[:2] != COLUMNS[:2]:
        raise ConfigError(
            f"{uri}: the first line must be {','.join(COLUMNS)}. Received: {reader.fieldnames}", origin=uri
        )
    return [_read_decision(row, reader.line_num, uri) for row in reader]


def _read_decision(row: dict[str, str | None], line: int, uri: str) -> Decision:
    picture, action, label = (normalize_label(row.get(name) or "") for name in COLUMNS)
    problem = ""
    if len(picture) < MIN_PREFIX:
        problem = f"`picture` is an id, a digest (of each at least {MIN_PREFIX} characters) or an address"
    elif action not in ("delete", "relabel"):
        problem = "`action` is delete or relabel"
    elif (action == "relabel") != bool(label):
        problem = "`relabel` needs a `label`, `delete` takes none"
    if problem:
        raise ConfigError(f"{uri}, line {line}: {problem}. Received: {dict(row)}", origin=uri, line=line)
    return Decision(line=line, picture=picture, action=action, label=label)  # type: ignore[arg-type]


def decide_picture(dataset: DatasetFolder, picture: str, action: Action | None, *, label: str = "") -> None:
    """Write a decision about a picture in place of any earlier one that names it so; `None` leaves none.

    All other lines stay as they are. Callers must not run at the same time: the file is read and
    written whole.

    Raises:
        ConfigError: if the file cannot be read, or the decision is none.
    """
    others = [each for each in read_decisions(dataset) if each.picture != picture]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for each in others:
        writer.writerow({"picture": each.picture, "action": each.action, "label": each.label})
    if action is not None:
        row = {"picture": picture, "action": action, "label": label}
        _read_decision({**row}, len(others) + 2, dataset.decisions)
        writer.writerow(row)
    dataset.storage.write_bytes(dataset.decisions, text.getvalue().encode())


def names_picture(name: str, row: ManifestRow) -> bool:
    """Return True if a person's name for a picture means this row."""
    if name in (row.source_url, row.provenance.page_url):
        return True
    digests = [digest for digest in (row.id, row.blob) if digest]
    return len(name) >= MIN_PREFIX and any(digest.startswith(name) for digest in digests)


def apply_decisions(
    rows: Sequence[ManifestRow], decisions: Sequence[Decision], classes: Collection[str], origin: str
) -> tuple[list[ManifestRow], list[str]]:
    """Apply what people decided, the last line that names a picture winning.

    Returns:
        The rows, and a warning for each line that names no picture.

    Raises:
        ConfigError: for a label that is no class.
    """
    for decision in decisions:
        if decision.label and decision.label not in classes:
            raise ConfigError(
                f"{origin}, line {decision.line}: {decision.label!r} is no class of the dataset; "
                f"the classes are {', '.join(classes)}.",
                origin=origin,
                line=decision.line,
            )
    by_name: dict[str, list[Decision]] = {}
    for decision in decisions:
        for name in {decision.picture, decision.picture[:MIN_PREFIX]}:
            by_name.setdefault(name, []).append(decision)
    used: set[int] = set()
    decided = []
    for row in rows:
        names = (
            row.source_url,
            row.provenance.page_url or "",
            (row.id or "")[:MIN_PREFIX],
            row.blob[:MIN_PREFIX],
        )
        near = [decision for name in names for decision in by_name.get(name, ())]
        matching = [decision for decision in near if names_picture(decision.picture, row)]
        used.update(decision.line for decision in matching)
        decided.append(_decide(row, max(matching, key=lambda each: each.line)) if matching else row)
    unused = [decision for decision in decisions if decision.line not in used]
    return decided, [f"decisions.csv, line {each.line} names no picture: {each.picture}" for each in unused]


def _decide(row: ManifestRow, decision: Decision) -> ManifestRow:
    if decision.action == "delete":
        return replace(quarantine(row, DELETED), decision="delete")
    if row.label == decision.label:
        return row
    return replace(row, label=decision.label, decision=f"relabel from {row.label}")


def apply_takedowns(rows: Sequence[ManifestRow], takedowns: Sequence[Takedown]) -> list[ManifestRow]:
    """Empty every row of a picture that was taken down: what stays is a digest that says it was there."""
    ids = {each.id for each in takedowns if each.id is not None}
    blobs = {blob for each in takedowns for blob in each.blobs}
    urls = {url for each in takedowns for url in each.urls}
    return [
        _empty(row) if row.id in ids or row.blob in blobs or row.source_url in urls else row for row in rows
    ]


def _empty(row: ManifestRow) -> ManifestRow:
    digest = hashlib.sha256(row.source_url.encode()).hexdigest()
    bare = ManifestRow(
        blob="",
        label=row.label,
        position=row.position,
        provenance=Provenance(source_url=f"sha256:{digest}"),
        retrieved_at=row.retrieved_at,
        status=row.status,
    )
    return quarantine(bare, TAKEN_DOWN)
