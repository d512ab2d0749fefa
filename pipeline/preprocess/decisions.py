"""What people decided about single pictures: `decisions.csv`, which they edit, and takedowns.

`decisions.csv` has the columns `picture`, `action` and `label`. A picture is named by its id, by the digest
of its file (eight characters or more of either), or by its address. `confirm` says that a label is right:
it stays the picture's label, which is not suspected again. Takedowns are written by `graft dataset forget`.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from pipeline.artifacts.decision_event import Action, Decided
from pipeline.artifacts.folders import DatasetFolder
from pipeline.artifacts.manifest import ManifestRow
from pipeline.artifacts.provenance import Provenance
from pipeline.artifacts.takedowns import Takedown
from pipeline.config.labels import normalize_label
from pipeline.errors import ConfigError, ObjectNotFound
from pipeline.preprocess.filters import quarantine
from pipeline.preprocess.reasons import DELETED, TAKEN_DOWN

ACTIONS: tuple[Action, ...] = get_args(Action)
COLUMNS = ("picture", "action", "label")
MIN_PREFIX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One line of `decisions.csv`.

    Args:
        line: Its number in the file.
        picture: Id, digest or address of the picture.
        action: What was decided.
        label: The right label; empty for `delete`.
    """

    line: int
    picture: str
    action: Action
    label: str

    @property
    def decided(self) -> Decided:
        """The decision without its place in the file."""
        return Decided(action=self.action, label=self.label)


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
    elif action not in ACTIONS:
        problem = "`action` is delete, relabel or confirm"
    elif (action != "delete") != bool(label):
        problem = "`relabel` and `confirm` need a `label`, `delete` takes none"
    if problem:
        raise ConfigError(f"{uri}, line {line}: {problem}. Received: {dict(row)}", origin=uri, line=line)
    return Decision(line=line, picture=picture, action=action, label=label)  # type: ignore[arg-type]


def decide_pictures(dataset: DatasetFolder, decisions: Mapping[str, Decided | None]) -> None:
    """Write decisions about pictures in place of any earlier ones that name them so; `None` leaves none.

    All other lines stay as they are. Callers must not run at the same time: the file is read and
    written whole.

    Raises:
        ConfigError: if the file cannot be read, or a decision is none.
    """
    others = [each for each in read_decisions(dataset) if each.picture not in decisions]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for each in others:
        writer.writerow({"picture": each.picture, "action": each.action, "label": each.label})
    new = ((picture, decided) for picture, decided in decisions.items() if decided is not None)
    for line, (picture, decided) in enumerate(new, len(others) + 2):
        row = {"picture": picture, "action": decided.action, "label": decided.label}
        _read_decision({**row}, line, dataset.decisions)
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
    used: set[int] = set()
    decided = []
    for row, matching in _match_decisions(rows, decisions):
        used.update(decision.line for decision in matching)
        decided.append(_decide(row, matching[-1]) if matching else row)
    unused = [decision for decision in decisions if decision.line not in used]
    return decided, [f"decisions.csv, line {each.line} names no picture: {each.picture}" for each in unused]


def confirmed_pictures(rows: Iterable[ManifestRow], decisions: Sequence[Decision]) -> set[str]:
    """Return the ids of the pictures whose label a person said is right, be it the first or another one."""
    return {
        row.id
        for row, matching in _match_decisions(rows, decisions)
        if matching and row.id is not None and matching[-1].label == row.label
    }


def _match_decisions(
    rows: Iterable[ManifestRow], decisions: Sequence[Decision]
) -> Iterator[tuple[ManifestRow, list[Decision]]]:
    """Yield each row with the decisions that name it, the one that stands last."""
    by_name: dict[str, list[Decision]] = {}
    for decision in decisions:
        for name in {decision.picture, decision.picture[:MIN_PREFIX]}:
            by_name.setdefault(name, []).append(decision)
    for row in rows:
        names = (
            row.source_url,
            row.provenance.page_url or "",
            (row.id or "")[:MIN_PREFIX],
            row.blob[:MIN_PREFIX],
        )
        near = [decision for name in names for decision in by_name.get(name, ())]
        matching = [decision for decision in near if names_picture(decision.picture, row)]
        yield row, sorted(matching, key=lambda each: each.line)


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
