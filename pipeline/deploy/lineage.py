"""Builds the lineage of a version, and describes a version by it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

from pipeline.artifacts.evaluation import Evaluation
from pipeline.artifacts.folders import ModelDirectory
from pipeline.artifacts.gate import GateDecision, Override
from pipeline.artifacts.model_record import (
    Approval,
    DatasetReference,
    Lineage,
    Requirements,
    TrainingReference,
    read_lineage,
)
from pipeline.artifacts.record import Record
from pipeline.config import PROJECT_ROOT, Classifier


def build_lineage(
    classifier: Classifier,
    *,
    run_id: str,
    dataset: DatasetReference,
    training: TrainingReference,
    evaluation: Evaluation,
    decision: GateDecision,
    approval: Approval | None = None,
) -> Lineage:
    """Return what a version is made of: its run, pictures, weights, code, parameters and decisions."""
    return Lineage(
        classifier=classifier.to_dict(),
        run_id=run_id,
        dataset=dataset,
        training=training,
        evaluation_job=evaluation.job,
        champion=evaluation.champion_version,
        gate=decision,
        approval=approval,
        requirements=_read_requirements(),
    )


def _read_requirements() -> Requirements | None:
    """Return the digest of the full lock; None where Graft runs without its repository."""
    path = PROJECT_ROOT / "requirements.txt"
    if not path.is_file():
        return None
    return Requirements(file=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionOrigin(Record):
    """Where a version comes from, in brief; null where it carries no lineage.

    Args:
        accuracy: On the test pictures of its run.
        run_id: The run that made it.
        dataset_version: Its pictures.
        override: Who took it in spite of its gate.
        approval: Who approved it.
    """

    OMITS_DEFAULTS: ClassVar[bool] = True

    accuracy: float | None
    run_id: str | None
    dataset_version: str | None
    override: Override | None = None
    approval: Approval | None = None


def describe_version(model: ModelDirectory) -> VersionOrigin:
    """Return where the version in a model directory comes from."""
    lineage = read_lineage(model)
    if lineage is None:
        return VersionOrigin(accuracy=None, run_id=None, dataset_version=None)
    return VersionOrigin(
        accuracy=lineage.gate.metrics.accuracy,
        run_id=lineage.run_id,
        dataset_version=lineage.dataset.version,
        override=lineage.gate.override,
        approval=lineage.approval,
    )
