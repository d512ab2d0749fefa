"""Clean: decode every new picture once, keep out what harms, split, and write the dataset version.

The version's id is the digest of its rows: the same pictures give the same version, which is written once.
Blobs known from the last versions are not decoded again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from pipeline.artifacts.dataset import (
    DatasetInfo,
    ManifestRow,
    RowStatus,
    read_dataset_info,
    read_held_version,
    read_latest_version,
    read_manifest,
    version_of,
    version_uri,
    write_latest_version,
)
from pipeline.artifacts.fetch_index import FetchedRow, read_indexes
from pipeline.artifacts.steps import CleanResult
from pipeline.config import Classifier, SplitConfig
from pipeline.errors import EmptyDataset, ExpectationFailed
from pipeline.preprocess.cards.card import describe_version, write_version
from pipeline.preprocess.decisions import (
    apply_decisions,
    apply_takedowns,
    decisions_uri,
    read_decisions,
    read_takedowns,
)
from pipeline.preprocess.decoding import map_blobs
from pipeline.preprocess.dedup.fingerprint import FileFacts, examine_picture, recall_facts
from pipeline.preprocess.dedup.grouping import Grouping, Picture, SplitAssignment, group_pictures
from pipeline.preprocess.dedup.near import Look
from pipeline.preprocess.expectations import DataOutcome, Expectations, Snapshot, check_expectations
from pipeline.preprocess.filters import apply_network_filters, mark_exact_duplicates, quarantine
from pipeline.preprocess.quality_warnings import find_warnings
from pipeline.preprocess.reasons import STRADDLES_SPLIT
from pipeline.preprocess.split import Member, check_split, split_at_random, split_by_hash
from pipeline.preprocess.split_registry import (
    fill_alignment_thumbnails,
    read_split_registry,
    write_split_registry,
)
from pipeline.storage import Storage

log = logging.getLogger(__name__)

_SHARED_FIELDS = {each.name for each in fields(FetchedRow)} & {each.name for each in fields(ManifestRow)} - {
    "reason",
    "group",
}


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

    Returns:
        What the version is. `expect` is what the data gate said; where that is `skip`, the version is there
        to be looked at but is not the latest one. `new` says that no run before has ended with it.

    Raises:
        EmptyDataset: if there are fewer than two classes, or a class keeps no picture.
        SplitError: if a class has no training or no test picture.
        ExpectationFailed: if the data gate is set to fail; the version is there to be looked at.
    """
    index = read_indexes(fetched, storage)
    name, split = classifier.name, classifier.dataset.split
    classes = classifier.dataset.order_classes(row.label for row in index.rows)
    rows, decoded = _examine_rows(index.rows, name, storage, workspace)
    rows, seen, warnings = _apply_decisions(rows, classes, name, storage, workspace)
    rows = mark_exact_duplicates(apply_network_filters(rows, {r.position for r in index.rows if r.network}))
    _check_classes(rows, classes)
    seen = fill_alignment_thumbnails(seen, rows, storage, workspace, name) if split.method == "hash" else []
    sources = {row.position: row.group for row in index.rows}
    grouping = group_pictures(_pictures(rows, sources), seen, mirrored=classifier.dataset.merge_mirrored)
    rows = _quarantine_straddling(rows, grouping)
    _check_classes(rows, classes)
    rows = _split_rows(rows, classes, split, seen)
    warnings = [
        *index.statements,
        *warnings,
        *find_warnings(rows, grouping, is_random_split=split.method == "random"),
    ]
    if split.method == "hash":
        _extend_ledger(rows, grouping, seen, storage=storage, workspace=workspace, dataset=name)
    info = describe_version(
        rows, classes, warnings, version=version_of(rows, classes), classifier=classifier, run_id=run_id,
        requests=index.requests,
    )  # fmt: skip
    info, verdict, is_new = _publish_version(info, rows, classifier, storage, workspace)
    result = CleanResult(
        dataset=name,
        version=info.version,
        uri=version_uri(workspace, name, info.version),
        classes=info.pictures,
        pictures=sum(info.pictures.values()),
        test_pictures=sum(info.test.values()),
        train_pictures=sum(info.train.values()),
        rejected=info.rejected,
        decoded=decoded,
        warnings=warnings,
        expect=verdict.to_dict(),
        new=is_new,
    )
    log.info("%s", result)
    return result


def _apply_decisions(
    rows: Sequence[ManifestRow], classes: Sequence[str], dataset: str, storage: Storage, workspace: str
) -> tuple[list[ManifestRow], list[SplitAssignment], list[str]]:
    """Return the rows as people want them, the ledger without what they took down, and warnings."""
    takedowns = read_takedowns(storage, workspace, dataset)
    decisions = read_decisions(storage, workspace, dataset)
    gone = {takedown.id for takedown in takedowns}
    seen = [picture for picture in read_split_registry(storage, workspace, dataset) if picture.id not in gone]
    rows = apply_takedowns(rows, takedowns)
    decided, warnings = apply_decisions(rows, decisions, classes, decisions_uri(workspace, dataset))
    return decided, seen, warnings


def _publish_version(
    info: DatasetInfo,
    rows: Sequence[ManifestRow],
    classifier: Classifier,
    storage: Storage,
    workspace: str,
) -> tuple[DatasetInfo, Expectations, bool]:
    """Write the version; let it be the latest unless the data gate holds it back."""
    name, version = info.dataset, info.version
    latest = read_latest_version(storage, workspace, name)
    was_held = read_held_version(storage, workspace, name) == version
    before = None
    if latest is not None and latest != version:
        before = Snapshot.of(read_dataset_info(storage, workspace, name, latest))
    verdict = check_expectations(Snapshot.of(info), before, classifier.dataset.expect)
    info = replace(info, previous=latest if before else None, expect=verdict.to_dict())
    stored = write_version(info, rows, storage=storage, workspace=workspace)
    if stored.run_id == info.run_id and latest == version:  # a second try: the first said it
        verdict = Expectations.from_dict(stored.expect)
    write_latest_version(storage, workspace, name, version, held=verdict.outcome.is_held)
    if verdict.outcome is DataOutcome.FAIL:
        raise ExpectationFailed(
            f"Dataset version {version} is not what `dataset.expect` asks for: {'; '.join(verdict.reasons)}. "
            "It is there to be looked at and nothing was trained. Correct the source, or let this run "
            "through with the rule as a parameter, such as dataset.expect.class_loss=warn.",
            version=version,
            findings=list(verdict.reasons),
        )
    is_new = not verdict.outcome.is_held and (stored.run_id == info.run_id or was_held)
    return stored, verdict, is_new


def _examine_rows(
    fetched: Sequence[FetchedRow], dataset: str, storage: Storage, workspace: str
) -> tuple[list[ManifestRow], int]:
    known = _known_facts(dataset, storage, workspace)
    good = (row.blob for row in fetched if row.reason is None)
    new = [blob for blob in dict.fromkeys(good) if blob not in known]
    known.update(zip(new, map_blobs(examine_picture, new, storage, workspace), strict=True))
    rows = [
        _manifest_row(row, known[row.blob] if row.reason is None else FileFacts(reason=row.reason))
        for row in fetched
    ]
    return rows, len(new)


def _known_facts(dataset: str, storage: Storage, workspace: str) -> dict[str, FileFacts]:
    """Return what the latest version, and one held back since, know of their blobs."""
    known = {}
    for read in (read_latest_version, read_held_version):
        version = read(storage, workspace, dataset)
        for row in [] if version is None else read_manifest(storage, workspace, dataset, version):
            facts = recall_facts(row) if row.blob else None
            if facts is not None:
                known[row.blob] = facts
    return known


def _manifest_row(row: FetchedRow, facts: FileFacts) -> ManifestRow:
    given: dict[str, Any] = {name: getattr(row, name) for name in _SHARED_FIELDS}
    status = RowStatus.QUARANTINED if facts.reason else RowStatus.KEPT
    return ManifestRow(**given, **asdict(facts), status=status)


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
            row = quarantine(row, STRADDLES_SPLIT)
        elif row.status is RowStatus.KEPT and row.id is not None:
            row = replace(row, group=grouping.groups[row.id])
        placed.append(row)
    return placed


def _split_rows(
    rows: Sequence[ManifestRow], classes: Sequence[str], config: SplitConfig, seen: Sequence[SplitAssignment]
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


def _extend_ledger(
    rows: Sequence[ManifestRow],
    grouping: Grouping,
    seen: Sequence[SplitAssignment],
    *,
    storage: Storage,
    workspace: str,
    dataset: str,
) -> None:
    old = {picture.id for picture in seen}
    ledger = [replace(picture, group=grouping.groups[picture.id]) for picture in seen]
    ledger += [
        SplitAssignment(
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
    if ledger != read_split_registry(storage, workspace, dataset):
        write_split_registry(ledger, storage, workspace, dataset)
