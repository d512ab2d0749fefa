"""Networks of the user's own as backbones, which have no row in the table."""

from __future__ import annotations

from pipeline.artifacts.network import NetworkRecord
from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.table import BACKBONES, Backbone, find_backbone
from pipeline.pixels.spec import PixelSpec


def own_backbone(record: NetworkRecord) -> Backbone:
    """Return a network as a backbone; its graph scales the pixels itself."""
    return Backbone(
        name=record.name,
        spec=PixelSpec(height=record.height, width=record.width, offset=0.0, divisor=1.0),
        feature_width=record.feature_width,
        weights_source=record.name,
        weights_file=record.name,
        weights_digest="",
        license="unknown",
    )


def backbone_of_job(name: str, workspace: Workspace, weights_digest: str) -> Backbone:
    """Return the backbone that a job is told: a row of the table, or the network that these weights are of.

    Raises:
        UnknownBackbone: if it is neither.
    """
    if name not in BACKBONES and workspace.storage.exists(workspace.network(weights_digest)):
        return own_backbone(NetworkRecord.read(workspace, weights_digest))
    return find_backbone(name)
