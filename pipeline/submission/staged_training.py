"""Everything that a training job of a classifier needs, put where the job finds it."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.artifacts.training import TrainingSpec
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.submission.backbone import stage_backbone
from pipeline.submission.package import stage_package
from pipeline.submission.staged_head import stage_head
from pipeline.submission.training_spec import build_training_spec


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedTraining:
    """A training job that can be submitted.

    Args:
        package_uri: The trainer package.
        spec: What the job is told.
    """

    package_uri: str
    spec: TrainingSpec


def stage_training(workspace: Workspace, classifier: Classifier, *, pack_index: str) -> StagedTraining:
    """Stage weights, trainer package and the file of a custom head; the head begins anew.

    Args:
        workspace: Where to.
        classifier: The configuration of the run.
        pack_index: URI of the pack index.

    Raises:
        WeightsNotFound: if the weights are neither installed nor staged.
        NetworkRefused: if the file of a network of the user's own cannot be a backbone.
        ConfigError: if the file of the head cannot be read.
    """
    model = classifier.model
    weights, package_uri = stage_backbone(workspace, model), stage_package(workspace)
    spec = build_training_spec(
        classifier,
        pack_index=pack_index,
        weights=weights.uri,
        workspace=workspace.uri,
        head_module=stage_head(workspace, model.head.module).uri if model.head.module else "",
    )
    return StagedTraining(package_uri=package_uri, spec=spec)
