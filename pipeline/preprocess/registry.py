"""How the split registry grows with a dataset version."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pipeline.artifacts.dataset import list_versions
from pipeline.artifacts.fingerprint import ImageFingerprint
from pipeline.artifacts.manifest import Manifest, ManifestRow
from pipeline.artifacts.split_registry import SplitAssignment, SplitRegistry
from pipeline.artifacts.workspace import DatasetFolder, Workspace
from pipeline.preprocess.dedup.fingerprint import examine_picture
from pipeline.preprocess.dedup.grouping import Grouping


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
    registry = [replace(picture, group=grouping.groups[picture.id]) for picture in assigned]
    registry += [
        SplitAssignment(fingerprint=_registered(row.fingerprint), group=row.group, split=row.split)
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
) -> list[SplitAssignment]:
    """Return the assignments with the alignment thumbnails that the first releases did not make.

    They come from the rows just examined or, for pictures that left the source, from their blobs. A picture
    whose blob is gone as well keeps the fingerprint it has.
    """
    bare = {each.id for each in assigned if _lacks_thumbnail(each.fingerprint)}
    if not bare:
        return list(assigned)
    thumbnails = {
        row.id: row.fingerprint.alignment_thumbnail
        for row in rows
        if row.fingerprint is not None and row.id in bare
    }
    for version in list_versions(dataset):
        for row in Manifest(dataset.version(version)).rows(columns=("id", "blob")):
            if (
                row.id in bare
                and row.id not in thumbnails
                and workspace.storage.exists(workspace.blob(row.blob))
            ):
                examined = examine_picture(workspace.storage.read_bytes(workspace.blob(row.blob)))
                if isinstance(examined, ImageFingerprint):
                    thumbnails[row.id] = examined.alignment_thumbnail
    return [
        replace(each, fingerprint=replace(each.fingerprint, alignment_thumbnail=thumbnails[each.id]))
        if each.id in thumbnails
        else each
        for each in assigned
    ]


def _lacks_thumbnail(fingerprint: ImageFingerprint) -> bool:
    return fingerprint.alignment_thumbnail is None and fingerprint.phash is not None
