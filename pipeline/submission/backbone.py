"""The backbone that a classifier names: a row of the table, or a network of the user's own."""

from __future__ import annotations

from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.table import Backbone, find_backbone
from pipeline.config import ModelConfig
from pipeline.submission.finetuning import check_blocks
from pipeline.submission.staged_network import stage_network
from pipeline.submission.staged_weights import StagedWeights, check_packaged, stage_weights


def resolve_backbone(workspace: Workspace, model: ModelConfig) -> Backbone:
    """Return the backbone of a classifier; a network of the user's own is staged for it, once.

    Raises:
        UnknownBackbone: listing the known names.
        NetworkRefused: if the network's file cannot be a backbone.
    """
    if isinstance(model.backbone, str):
        return find_backbone(model.backbone)
    return stage_network(workspace, model.backbone).backbone


def stage_backbone(workspace: Workspace, model: ModelConfig) -> StagedWeights:
    """Put the weights of a classifier's backbone into the bucket, once.

    Raises:
        WeightsNotFound: naming the places looked at and how to give a path.
        WeightsMismatch: if the file's digest or an array is not the backbone's.
        NetworkRefused: if the network's file cannot be a backbone.
    """
    if isinstance(model.backbone, str):
        return stage_weights(workspace, find_backbone(model.backbone), model.weights)
    return stage_network(workspace, model.backbone).weights


def weights_license(model: ModelConfig) -> str:
    """Return the licence of the weights of a classifier's backbone."""
    if isinstance(model.backbone, str):
        return find_backbone(model.backbone).license
    return model.backbone.license


def check_backbone(workspace: Workspace, model: ModelConfig) -> None:
    """Make sure that a classifier's backbone can be staged later, before any work is done for it.

    Raises:
        WeightsNotFound: naming what has to be installed.
        NetworkRefused: if the network's file cannot be a backbone.
        ConfigError: if it has fewer blocks than are to be trained.
    """
    check_blocks(model)
    if isinstance(model.backbone, str):
        check_packaged(workspace, find_backbone(model.backbone), model.weights)
    else:
        stage_network(workspace, model.backbone)
