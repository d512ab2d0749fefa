"""What of a fine-tuning is refused before a job is submitted: too many blocks, and too many pictures."""

from __future__ import annotations

from math import prod

from pipeline.artifacts.finetuning import MAX_INPUT_BYTES
from pipeline.artifacts.pack import read_pack_index
from pipeline.artifacts.training import TrainingSpec
from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.networks.blocks import list_blocks
from pipeline.backbones.table import find_backbone
from pipeline.config import ModelConfig
from pipeline.errors import ConfigError


def check_blocks(model: ModelConfig) -> None:
    """Make sure that a backbone has the blocks that are to be trained.

    Raises:
        UnknownBackbone: listing the known names.
        ConfigError: if it has fewer blocks.
    """
    if model.finetune is None or model.finetune.blocks == "all":
        return
    count = len(list_blocks(model.backbone_name))
    if model.finetune.blocks > count:
        raise ConfigError(
            f"`model.finetune.blocks`: {model.backbone_name} has {count} blocks; give at most {count}, or "
            f"`all`. Received: {model.finetune.blocks}"
        )


def check_finetuning(workspace: Workspace, spec: TrainingSpec) -> None:
    """Compare the size of a job's feature maps or pixels with what a job may hold in memory.

    Raises:
        ConfigError: if they are larger; it has both figures.
    """
    parameters = spec.finetuning
    if parameters is None:
        return
    backbone = find_backbone(spec.backbone)
    pictures = sum(shard.rows for shard in read_pack_index(workspace.storage, spec.pack_index).shards)
    if parameters.on == "pictures":
        each, copies = prod((backbone.spec.height, backbone.spec.width, 3)), 1
    else:
        each, copies = list_blocks(spec.backbone)[-(parameters.num_blocks or 0)].num_bytes, 1 + spec.views
    total = each * copies * pictures
    if total > MAX_INPUT_BYTES:
        raise ConfigError(
            f"`model.finetune`: {pictures} training pictures need {total / 2**30:.1f} GiB of memory as "
            f"{'pixels' if parameters.on == 'pictures' else 'feature maps'}, more than "
            f"{MAX_INPUT_BYTES / 2**30:.0f} GiB. Train fewer blocks, on the smaller of `on: maps` and "
            "`on: pictures`, or fewer pictures (`dataset.window`)."
        )
