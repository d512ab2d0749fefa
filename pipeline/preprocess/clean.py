"""Clean: decode every new picture once, keep out what harms, split, and write the dataset version.

The version's id is the digest of its rows: the same pictures give the same version, which is written once.
Blobs of the last versions are not decoded again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from pipeline.artifacts.dataset import read_info, read_latest
from pipeline.artifacts.fetch_index import FetchedRow, FetchIndex
from pipeline.artifacts.fingerprint import ImageFingerprint
from pipeline.artifacts.folders import DatasetFolder
from pipeline.artifacts.manifest import Manifest, ManifestRow, RowStatus, version_of
from pipeline.artifacts.split_registry import SEARCH, SplitRegistry
from pipeline.artifacts.steps import CleanResult
from pipeline.artifacts.takedowns import read_takedowns
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.errors import EmptyDataset
from pipeline.preprocess.cards.card import describe_version
from pipeline.preprocess.clean_state import CleanState
from pipeline.preprocess.decisions import (
    apply_decisions,
    apply_takedowns,
    parse_decisions,
    read_decision_file,
)
from pipeline.preprocess.decoding import map_blobs
from pipeline.preprocess.dedup.copies import find_copies
from pipeline.preprocess.dedup.fingerprint import examine_picture, recall_examination
from pipeline.preprocess.dedup.grouping import Grouping, Picture, group_pictures
from pipeline.preprocess.filters import apply_network_filters, mark_exact_duplicates, quarantine
from pipeline.preprocess.formats import describe_formats, describe_kept_out
from pipeline.preprocess.publish import publish_version
from pipeline.preprocess.quality_warnings import check_levels, find_warnings
from pipeline.preprocess.reasons import STRADDLES_SPLIT
from pipeline.preprocess.registry import (
    extend_registry,
    fill_alignment_thumbnails,
    follow_pixels,
    picture_reader,
)
from pipeline.preprocess.sides import check_given_split, choose_sides
from pipeline.preprocess.small_classes import find_small_classes, treat_small_classes
from pipeline.preprocess.split import TEST

log = logging.getLogger(__name__)


def build_dataset_version(
    workspace: Workspace, classifier: Classifier, *, fetched: Sequence[str], run_id: str
) -> CleanResult:
    """Make the dataset version of what `fetch` found.

    Nothing is written before the whole version is known to be good, and `latest.json` changes last: a killed
    clean can be run again.

    Args:
        workspace: Where blobs, indexes and versions are.
        classifier: How to split, and the classes if it lists them.
        fetched: The fetch index of every chunk.
        run_id: The run, for the dataset's lineage.

    Returns:
        The version. `expect` is the data gate's verdict; where that is `skip`, the version is there to be
        looked at but is not the latest one. `new` is True if no earlier run ended with it.

    Raises:
        EmptyDataset: if there are fewer than two classes, or a class keeps no picture.
        SplitError: if a class has no training or no test picture.
        ExpectationFailed: if the data gate is set to fail; the version is there to be looked at.
    """
    index = FetchIndex(workspace.storage, fetched)
    while True:
        result = _build_version(workspace, classifier, index, run_id)
        if result is not None:
            log.info("%s", result)
            return result
        log.warning("A picture was taken down while the version was made; it is made again.")


def _build_version(
    workspace: Workspace, classifier: Classifier, index: FetchIndex, run_id: str
) -> CleanResult | None:
    """Make a version; None if a picture was taken down meanwhile, which a later version must not hold."""
    head, entries = index.head(), list(index.rows())
    state = CleanState(
        workspace=workspace,
        classifier=classifier,
        fetched=entries,
        has_given_split=any(row.given_split == TEST for row in entries),
        classes=classifier.dataset.order_classes(row.label for row in entries),
        warnings=[*head.statements, *_describe_conversions(head.converted)],
    )
    check_given_split(state)
    _examine(state)
    _apply_decisions(state)
    _filter(state)
    _group(state)
    _treat_small_classes(state)
    choose_sides(state)
    levels = {row.position: row.levels for row in state.fetched if row.levels is not None}
    formats = describe_formats(state)
    state.warnings += [f"formats: {formats}"] if formats else []
    state.warnings += check_levels(state.rows, levels, bits=state.bits)
    state.warnings += find_warnings(state.rows, state.grouping, is_random_split=not state.is_sticky)
    if state.is_outdated:
        return None
    if state.is_sticky:
        extend_registry(state.folder, state.registry, state.assigned, state.rows, state.grouping)
    version = version_of(state.rows, state.classes, bits=state.bits)
    info = describe_version(
        state.rows, state.classes, state.warnings, version=version,
        classifier=classifier, run_id=run_id, requests=head.requests, method=state.method,
    )  # fmt: skip
    result = publish_version(
        workspace, classifier, info, state.rows, decoded=state.decoded, decisions=state.decisions
    )
    return None if state.is_outdated else result


def _describe_conversions(converted: Mapping[str, int]) -> list[str]:
    counts = ", ".join(f"{count} {format}" for format, count in sorted(converted.items()))
    return [f"converted: {counts}, to PNG"] if converted else []


def _examine(state: CleanState) -> None:
    """Decode the blobs that no earlier version has, and make a row of each fetched picture."""
    examined, old_ids = _recall(state.folder, state.bits)
    blobs = dict.fromkeys(row.blob for row in state.fetched if row.reason is None)
    new = [blob for blob in blobs if blob not in examined]
    examine = partial(examine_picture, bits=state.bits)
    examined.update(zip(new, map_blobs(state.workspace, examine, new), strict=True))
    state.decoded = len(new)
    state.moved = {
        old_ids[blob]: result
        for blob in new
        if isinstance(result := examined[blob], ImageFingerprint)
        and old_ids.get(blob, result.id) != result.id
    }
    state.rows = [
        _manifest_row(row, examined[row.blob] if row.reason is None else row.reason) for row in state.fetched
    ]


def _recall(dataset: DatasetFolder, bits: int) -> tuple[dict[str, ImageFingerprint | str], dict[str, str]]:
    """Return what the latest version, and one held back since, tell of their blobs.

    Returns:
        What was found of the blobs, and the ids of those that were read with other bits.
    """
    recalled: dict[str, ImageFingerprint | str] = {}
    old_ids: dict[str, str] = {}
    for version in read_latest(dataset).versions:
        is_same = read_info(dataset.version(version)).bits == bits
        for row in Manifest(dataset.version(version)).rows():
            examined = recall_examination(row) if row.blob and is_same else None
            if examined is not None:
                recalled[row.blob] = examined
            elif row.blob and row.id is not None:
                old_ids[row.blob] = row.id
    return recalled, old_ids


def _manifest_row(row: FetchedRow, examined: ImageFingerprint | str) -> ManifestRow:
    fingerprint = examined if isinstance(examined, ImageFingerprint) else None
    return ManifestRow(
        blob=row.blob,
        label=row.label,
        position=row.position,
        provenance=row.provenance,
        retrieved_at=row.retrieved_at,
        status=RowStatus.QUARANTINED if fingerprint is None else RowStatus.KEPT,
        fingerprint=fingerprint,
        reason=examined if isinstance(examined, str) else None,
    )


def _apply_decisions(state: CleanState) -> None:
    """Do what people decided about single pictures, and leave out what they took down."""
    state.takedowns = read_takedowns(state.folder)
    state.decisions = read_decision_file(state.folder)
    decisions = parse_decisions(state.decisions, state.folder.decisions)
    gone = {takedown.id for takedown in state.takedowns}
    if state.is_sticky:
        state.registry = list(SplitRegistry(state.folder).rows())
        kept = [picture for picture in state.registry if picture.id not in gone]
        state.assigned = follow_pixels(kept, state.moved)
    rows = apply_takedowns(state.rows, state.takedowns)
    state.rows, warnings = apply_decisions(rows, decisions, state.classes, state.folder.decisions)
    state.warnings += warnings


def _filter(state: CleanState) -> None:
    network = {row.position for row in state.fetched if row.network}
    state.rows = mark_exact_duplicates(apply_network_filters(state.rows, network), state.given_sides)
    _check_classes(state)


def _group(state: CleanState) -> None:
    """Group near duplicates, and keep out what would join a training group to a test group."""
    state.assigned = fill_alignment_thumbnails(
        state.workspace, state.folder, state.assigned, state.rows, bits=state.bits
    )
    sources = {row.position: row.group for row in state.fetched}
    pictures = _kept_pictures(state.rows, sources, state.given_sides)
    state.grouping = group_pictures(pictures, state.assigned, copies=_find_copies(state, pictures))
    state.rows = [_place(row, state.grouping) for row in state.rows]
    _check_classes(state)


def _find_copies(state: CleanState, pictures: Sequence[Picture]) -> list[tuple[str, str]]:
    """Compare new pictures, and those that only an earlier search compared, with all others."""
    searched = {each.id for each in state.assigned if each.search == SEARCH}
    assigned = {each.id for each in state.assigned}
    return find_copies(
        [
            *(each.fingerprint for each in state.assigned),
            *(p.fingerprint for p in pictures if p.id not in assigned),
        ],
        lambda id: id not in searched,
        picture_reader(state.workspace, state.folder, state.rows, bits=state.bits),
        turned=state.classifier.dataset.merge_mirrored,
    )


def _kept_pictures(
    rows: Sequence[ManifestRow], sources: Mapping[int, str | None], given_sides: Mapping[int, str | None]
) -> list[Picture]:
    return [
        Picture(
            fingerprint=row.fingerprint,
            source_group=sources[row.position],
            split=given_sides.get(row.position),
        )
        for row in rows
        if row.is_kept and row.fingerprint is not None
    ]


def _place(row: ManifestRow, grouping: Grouping) -> ManifestRow:
    if not row.is_kept or row.id is None:
        return row
    if row.id in grouping.straddling:
        return quarantine(row, STRADDLES_SPLIT)
    return replace(row, group=grouping.groups[row.id])


def _treat_small_classes(state: CleanState) -> None:
    """Leave out, or merge, the classes that cannot be both trained and tested."""
    config = state.classifier.dataset
    small = find_small_classes(state.rows, state.classes, is_random_split=not state.is_sticky)
    if isinstance(config.small_classes, str):
        small = [label for label in small if label not in config.named_classes]
    if not small or config.small_classes == "fail":
        return
    if config.small_classes == "drop" and len(state.classes) - len(small) < 2:
        return  # no classifier is left: the split names a class and what it needs
    state.rows, warning = treat_small_classes(state.rows, small, config.small_classes)
    state.warnings.append(warning)
    labels = {row.label for row in state.rows if row.is_kept}
    state.classes = [
        *(label for label in state.classes if label in labels),
        *sorted(labels - set(state.classes)),
    ]
    _check_classes(state)


def _check_classes(state: CleanState) -> None:
    kept = {row.label for row in state.rows if row.is_kept}
    missing = [label for label in state.classes if label not in kept]
    if len(state.classes) < 2 or missing:
        rows = [row for row in state.rows if row.label in missing]
        formats = describe_formats(state, missing)
        raise EmptyDataset(
            f"no usable picture of {', '.join(map(repr, missing)) or 'a second class'}; a classifier needs "
            f"pictures of at least two classes, and of each one. Kept out: {describe_kept_out(rows)}."
            + (f" {formats}." if formats else ""),
            classes=missing,
        )
