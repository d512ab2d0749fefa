"""How the split registry grows with a dataset version."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from pipeline.artifacts.dataset import list_versions
from pipeline.artifacts.fingerprint import ImageFingerprint
from pipeline.artifacts.folders import DatasetFolder
from pipeline.artifacts.manifest import Manifest, ManifestRow
from pipeline.artifacts.split_registry import SEARCH, SplitAssignment, SplitRegistry
from pipeline.artifacts.workspace import Workspace
from pipeline.pixels.spec import ALL_BITS
from pipeline.preprocess.decoding import map_blobs
from pipeline.preprocess.dedup.copies import ReadPictures, shrink_picture
from pipeline.preprocess.dedup.fingerprint import examine_picture
from pipeline.preprocess.dedup.grouping import Grouping
from pipeline.types import UInt8Image


def extend_registry(
    dataset: DatasetFolder,
    stored: Sequence[SplitAssignment],
    assigned: Sequence[SplitAssignment],
    rows: Iterable[ManifestRow],
    grouping: Grouping,
) -> None:
    """Add a version's pictures to the registry.

    Args:
        dataset: Whose registry it is.
        stored: The registry as it is stored.
        assigned: What stays of it.
        rows: The version's rows, split.
        grouping: Its groups; an earlier picture may have come into another one.
    """
    old = {picture.id for picture in assigned}
    registry = [
        replace(
            picture,
            group=grouping.groups[picture.id],
            straddles=picture.id in grouping.straddling,
            search=SEARCH,
        )
        for picture in assigned
    ]
    registry += [
        SplitAssignment(
            fingerprint=_registered(row.fingerprint), group=row.group, split=row.split, search=SEARCH
        )
        for row in rows
        if row.fingerprint is not None and row.group is not None and row.split is not None
        if row.id not in old
    ]
    if registry != stored:
        SplitRegistry(dataset).replace(registry)


def _registered(fingerprint: ImageFingerprint) -> ImageFingerprint:
    return replace(fingerprint, width=None, height=None, format=None)


def fill_alignment_thumbnails(
    workspace: Workspace,
    dataset: DatasetFolder,
    assigned: Sequence[SplitAssignment],
    rows: Iterable[ManifestRow],
    *,
    bits: int = ALL_BITS,
) -> list[SplitAssignment]:
    """Return the assignments with the alignment thumbnails that the first releases did not make.

    They come from the rows just examined or, for pictures that left the source, from their blobs. A picture
    whose blob is gone as well keeps the fingerprint it has.

    Args:
        workspace: Where the blobs are.
        dataset: The dataset's.
        assigned: The assignments.
        rows: The rows just examined.
        bits: How many bits of 16-bit gray files are used.
    """
    bare = {each.id for each in assigned if _lacks_thumbnail(each.fingerprint)}
    if not bare:
        return list(assigned)
    thumbnails = {
        row.id: row.fingerprint.alignment_thumbnail
        for row in rows
        if row.fingerprint is not None and row.id in bare
    }
    missing = bare - set(thumbnails)
    for id, blob in find_blobs(workspace, dataset, missing).items():
        examined = examine_picture(workspace.storage.read_bytes(workspace.blob(blob)), bits=bits)
        if isinstance(examined, ImageFingerprint):
            thumbnails[id] = examined.alignment_thumbnail
    return [
        replace(each, fingerprint=replace(each.fingerprint, alignment_thumbnail=thumbnails[each.id]))
        if each.id in thumbnails
        else each
        for each in assigned
    ]


def find_blobs(workspace: Workspace, dataset: DatasetFolder, ids: Collection[str]) -> dict[str, str]:
    """Return the blobs of pictures that an earlier version had, by id; without those that are gone."""
    blobs: dict[str, str] = {}
    for version in list_versions(dataset) if ids else ():
        rows = Manifest(dataset.version(version)).rows(columns=("id", "blob"))
        candidates = {row.id: row.blob for row in rows if row.id in ids and row.id not in blobs}
        there = workspace.storage.existing([workspace.blob(blob) for blob in candidates.values()])
        blobs |= {id: blob for id, blob in candidates.items() if id and workspace.blob(blob) in there}
    return blobs


def follow_pixels(
    assigned: Sequence[SplitAssignment], fingerprints: Mapping[str, ImageFingerprint]
) -> list[SplitAssignment]:
    """Return the assignments of pictures whose files are now read with other bits under their new ids.

    A picture stays on its side, and in its group.

    Args:
        assigned: The assignments.
        fingerprints: The new fingerprint of each file that is read in another way, by the old id.
    """
    return [
        replace(each, fingerprint=_registered(fingerprints[each.id]), search=1)
        if each.id in fingerprints
        else each
        for each in assigned
    ]


def picture_reader(
    workspace: Workspace, dataset: DatasetFolder, rows: Iterable[ManifestRow], *, bits: int = ALL_BITS
) -> ReadPictures:
    """Return what reads pictures again for comparison, those of the rows and those of earlier versions."""
    shrink = partial(shrink_picture, bits=bits)
    blobs = {row.id: row.blob for row in rows if row.id is not None and row.is_kept}

    def read(ids: Sequence[str]) -> dict[str, UInt8Image]:
        blobs.update(find_blobs(workspace, dataset, set(ids) - set(blobs)))
        readable = [id for id in ids if id in blobs]
        pictures = map_blobs(workspace, shrink, [blobs[id] for id in readable])
        return dict(zip(readable, pictures, strict=True))

    return read


def _lacks_thumbnail(fingerprint: ImageFingerprint) -> bool:
    return fingerprint.alignment_thumbnail is None and fingerprint.phash is not None
