"""Clean: decode every new picture once, keep out what harms, split, and write the dataset version.

The version's id is the digest of its rows: the same pictures give the same version, which is written once.
Blobs known from the last version are not decoded again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TypedDict

from pipeline.config import Classifier, SplitConfig
from pipeline.datasets.index import FetchedRow, read_indexes
from pipeline.datasets.manifest import (
    ManifestRow,
    RowStatus,
    read_latest_version,
    read_manifest,
    version_of,
    version_uri,
)
from pipeline.errors import EmptyDataset
from pipeline.preprocess.card import write_version
from pipeline.preprocess.duplicates import Grouping, Picture, SeenPicture, group_pictures
from pipeline.preprocess.facts import FileFacts, examine_picture, recall_facts
from pipeline.preprocess.ledger import draw_missing_sketches, read_ledger, write_ledger
from pipeline.preprocess.near import Look
from pipeline.preprocess.split import TEST, TRAIN, Member, check_split, split_at_random, split_by_hash
from pipeline.storage import Storage

log = logging.getLogger(__name__)


class CleanResult(TypedDict):
    """The dataset version and the work it took."""

    dataset: str
    version: str
    uri: str
    classes: dict[str, int]
    pictures: int
    test_pictures: int
    train_pictures: int
    rejected: dict[str, int]
    decoded: int
    warnings: list[str]


def build_dataset_version(
    classifier: Classifier, *, storage: Storage, workspace: str, fetched: Sequence[str], run_id: str
) -> CleanResult:
    """Make the dataset version of what `fetch` found.

    Nothing is written before the whole version is known to be good, and `latest.json` changes last: a killed
    clean can be run again.

    Args:
        classifier: Says how to split, and the classes if it lists them.
        storage: Where blobs, indexes and versions are.
        workspace: `gs://bucket` of all of them.
        fetched: The fetch index of every chunk.
        run_id: The run, for the dataset's lineage.

    Raises:
        EmptyDataset: if there are fewer than two classes, or a class keeps no picture.
        SplitError: if a class has no training or no test picture.
    """
    index = read_indexes(fetched, storage)
    classes = classifier.dataset.source.classes or sorted({row.label for row in index.rows})
    rows, decoded = _examine_rows(index.rows, classifier.name, storage, workspace)
    rows = _mark_exact_duplicates(rows)
    _check_classes(rows, classes)
    sources = {row.position: row.group for row in index.rows}
    split = classifier.dataset.split
    seen = read_ledger(storage, workspace, classifier.name) if split.method == "hash" else []
    seen = draw_missing_sketches(seen, rows, storage, workspace, classifier.name)
    mirrored = classifier.dataset.merge_mirrored
    grouping = group_pictures(_pictures(rows, sources), seen, mirrored=mirrored)
    rows = _quarantine_straddling(rows, grouping)
    _check_classes(rows, classes)
    rows = _split_rows(rows, classes, split, seen)
    warnings = [*index.statements, *_warnings(rows, grouping, split)]
    version = version_of(rows, classes)
    if split.method == "hash":
        _extend_ledger(rows, grouping, seen, storage=storage, workspace=workspace, dataset=classifier.name)
    info = write_version(
        rows, classes, warnings, version=version, classifier=classifier, storage=storage, workspace=workspace,
        run_id=run_id,
    )  # fmt: skip
    result = CleanResult(
        dataset=classifier.name,
        version=version,
        uri=version_uri(workspace, classifier.name, version),
        classes=info.pictures,
        pictures=sum(info.pictures.values()),
        test_pictures=sum(info.test.values()),
        train_pictures=sum(info.train.values()),
        rejected=info.rejected,
        decoded=decoded,
        warnings=warnings,
    )
    log.info("%s", result)
    return result


def _examine_rows(
    fetched: Sequence[FetchedRow], dataset: str, storage: Storage, workspace: str
) -> tuple[list[ManifestRow], int]:
    known = _known_facts(dataset, storage, workspace)
    rows, decoded = [], 0
    for row in fetched:
        if row.blob not in known:
            known[row.blob] = examine_picture(storage.read_bytes(f"{workspace}/blobs/{row.blob}"))
            decoded += 1
        rows.append(_manifest_row(row, known[row.blob]))
    return rows, decoded


def _known_facts(dataset: str, storage: Storage, workspace: str) -> dict[str, FileFacts]:
    version = read_latest_version(storage, workspace, dataset)
    rows = [] if version is None else read_manifest(storage, workspace, dataset, version)
    found = {row.blob: recall_facts(row) for row in rows}
    return {blob: facts for blob, facts in found.items() if facts is not None}


def _manifest_row(row: FetchedRow, facts: FileFacts) -> ManifestRow:
    return ManifestRow(
        blob=row.blob,
        label=row.label,
        position=row.position,
        source_url=row.source_url,
        page_url=row.page_url,
        creator=row.creator,
        license=row.license,
        license_url=row.license_url,
        retrieved_at=row.retrieved_at,
        status=RowStatus.QUARANTINED if facts.reason else RowStatus.KEPT,
        **asdict(facts),
    )


def _mark_exact_duplicates(rows: Sequence[ManifestRow]) -> list[ManifestRow]:
    """Keep the first of equal pictures; where their labels differ, keep none: nobody knows which is right."""
    labels: dict[str, set[str]] = {}
    for row in rows:
        if row.id is not None:
            labels.setdefault(row.id, set()).add(row.label)
    marked, taken = [], set()
    for row in rows:
        if row.id is not None and len(labels[row.id]) > 1:
            row = replace(row, status=RowStatus.QUARANTINED, reason="conflicting_labels")
        elif row.id in taken:
            row = replace(row, status=RowStatus.DUPLICATE, reason="exact_duplicate")
        elif row.id is not None:
            taken.add(row.id)
        marked.append(row)
    return marked


def _check_classes(rows: Sequence[ManifestRow], classes: Sequence[str]) -> None:
    kept = {row.label for row in rows if row.status is RowStatus.KEPT}
    missing = [label for label in classes if label not in kept]
    if len(classes) < 2 or missing:
        reasons = Counter(row.reason for row in rows if row.label in missing)
        said = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items(), key=str))
        raise EmptyDataset(
            f"no usable picture of {', '.join(map(repr, missing)) or 'a second class'}; a classifier needs "
            f"pictures of at least two classes, and of each one. Kept out: {said or 'none'}.",
            classes=missing,
        )


def _pictures(rows: Sequence[ManifestRow], sources: Mapping[int, str | None]) -> list[Picture]:
    return [
        Picture(
            id=row.id,
            source_group=sources[row.position],
            look=Look(phash=row.phash, colour=row.colour, sketch=row.sketch),
        )
        for row in rows
        if row.status is RowStatus.KEPT and row.id is not None
    ]


def _quarantine_straddling(rows: Sequence[ManifestRow], grouping: Grouping) -> list[ManifestRow]:
    placed = []
    for row in rows:
        if row.status is RowStatus.KEPT and row.id in grouping.straddling:
            row = replace(row, status=RowStatus.QUARANTINED, reason="straddles_split")
        elif row.status is RowStatus.KEPT and row.id is not None:
            row = replace(row, group=grouping.groups[row.id])
        placed.append(row)
    return placed


def _split_rows(
    rows: Sequence[ManifestRow], classes: Sequence[str], config: SplitConfig, seen: Sequence[SeenPicture]
) -> list[ManifestRow]:
    kept = [row for row in rows if row.group is not None]
    members = [Member(label=row.label, group=row.group or "") for row in kept]
    if config.method == "random":
        splits = split_at_random(len(kept), fraction=config.test_fraction, seed=config.seed)
    else:
        by_group = split_by_hash(
            members, classes, known={picture.group: picture.split for picture in seen},
            fraction=config.test_fraction, salt=str(config.seed),
        )  # fmt: skip
        splits = [by_group[member.group] for member in members]
    check_split(members, splits, classes)
    by_position = {row.position: split for row, split in zip(kept, splits, strict=True)}
    return [replace(row, split=by_position.get(row.position)) for row in rows]


def _warnings(rows: Sequence[ManifestRow], grouping: Grouping, config: SplitConfig) -> list[str]:
    labels = {row.id: row.label for row in rows if row.split is not None}
    disputed = sum(
        labels[one] != labels[other]
        for one, other in grouping.near_pairs
        if one in labels and other in labels
    )
    warnings = []
    if disputed:
        warnings.append(f"{disputed} pairs of near duplicates carry different labels")
    sides: dict[str, set[str | None]] = {}
    for row in rows:
        if row.group is not None:
            sides.setdefault(row.group, set()).add(row.split)
    straddling = sum(found == {TRAIN, TEST} for found in sides.values())
    if config.method == "random" and straddling:
        warnings.append(
            f"{straddling} groups of near duplicates straddle the split, so the test is easier than it "
            "should be; `split: {method: hash}` keeps groups together"
        )
    return warnings


def _extend_ledger(
    rows: Sequence[ManifestRow],
    grouping: Grouping,
    seen: Sequence[SeenPicture],
    *,
    storage: Storage,
    workspace: str,
    dataset: str,
) -> None:
    old = {picture.id for picture in seen}
    ledger = [replace(picture, group=grouping.groups[picture.id]) for picture in seen]
    ledger += [
        SeenPicture(
            id=row.id,
            group=row.group,
            split=row.split,
            phash=row.phash,
            colour=row.colour,
            sketch=row.sketch,
        )
        for row in rows
        if row.id is not None and row.group is not None and row.split is not None and row.id not in old
    ]
    if ledger != read_ledger(storage, workspace, dataset):
        write_ledger(ledger, storage, workspace, dataset)
