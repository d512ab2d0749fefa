"""Publishing a dataset version: past the data gate, into the bucket, and up to being the latest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.artifacts.dataset import (
    DataOutcome,
    DatasetInfo,
    DataVerdict,
    read_info,
    read_latest,
    write_latest,
)
from pipeline.artifacts.manifest import Manifest, ManifestRow
from pipeline.artifacts.steps import CleanResult
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.errors import ExpectationFailed
from pipeline.preprocess.cards.card import write_version
from pipeline.preprocess.expectations import Snapshot, check_expectations
from pipeline.preprocess.label_churn import COLUMNS, find_label_churn

LET_THROUGH = DataVerdict()


def publish_version(
    workspace: Workspace,
    classifier: Classifier,
    info: DatasetInfo,
    rows: Sequence[ManifestRow],
    *,
    decoded: int,
    decisions: bytes | None = None,
) -> CleanResult:
    """Write the version; let it be the latest unless the data gate holds it back.

    Args:
        workspace: Where it is written.
        classifier: What the data gate expects.
        info: The version as a whole.
        rows: Its rows.
        decoded: Pictures that were decoded for it.
        decisions: The file of decisions that were applied; kept with the version.

    Raises:
        ExpectationFailed: if the data gate is set to fail; the version is there to be looked at.
    """
    dataset = workspace.dataset(info.dataset)
    latest = read_latest(dataset)
    before, churn = None, None
    if latest.version is not None and latest.version != info.version:
        folder = dataset.version(latest.version)
        before = Snapshot.of(read_info(folder))
        churn = find_label_churn(Manifest(folder).rows(COLUMNS), rows)
    verdict = check_expectations(Snapshot.of(info), before, classifier.dataset.expect, churn=churn)
    info = replace(info, previous=latest.version if before else None, expect=verdict)
    stored = write_version(workspace, info, rows, decisions=decisions)
    if stored.run_id == info.run_id and latest.version == info.version:
        verdict = stored.expect  # a retry: the first try compared the version with the one before it
    write_latest(dataset, info.version, held=verdict.outcome.is_held)
    _refuse_failed(info.version, verdict)
    was_held = latest.held == info.version
    is_new = not verdict.outcome.is_held and (stored.run_id == info.run_id or was_held)
    return describe_result(
        workspace, stored, decoded=decoded, warnings=info.warnings, verdict=verdict, is_new=is_new
    )


def describe_result(
    workspace: Workspace,
    info: DatasetInfo,
    *,
    decoded: int = 0,
    warnings: Sequence[str] = (),
    verdict: DataVerdict = LET_THROUGH,
    is_new: bool = False,
) -> CleanResult:
    """Return a version as the result of the clean step; by default one that took no work."""
    return CleanResult(
        dataset=info.dataset,
        version=info.version,
        uri=workspace.dataset(info.dataset).version(info.version).uri,
        classes=dict(info.pictures),
        pictures=sum(info.pictures.values()),
        test_pictures=sum(info.test.values()),
        train_pictures=sum(info.train.values()),
        rejected=dict(info.rejected),
        decoded=decoded,
        warnings=list(warnings),
        expect=verdict,
        new=is_new,
    )


def _refuse_failed(version: str, verdict: DataVerdict) -> None:
    if verdict.outcome is DataOutcome.FAIL:
        raise ExpectationFailed(
            f"Dataset version {version} is not what `dataset.expect` asks for: {'; '.join(verdict.reasons)}. "
            "It is there to be looked at and nothing was trained. Correct the source, or let this run "
            "through with the rule as a parameter, such as dataset.expect.class_loss=warn.",
            version=version,
            findings=list(verdict.reasons),
        )
