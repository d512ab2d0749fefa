"""What fine-tuning is fed: the cached feature maps below the first trained block, or the pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from pipeline.artifacts.finetuning import FinetuneParameters
from pipeline.artifacts.pack import PackIndex
from pipeline.artifacts.training import TrainingSpec
from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.networks.blocks import list_blocks
from pipeline.backbones.table import Backbone
from pipeline.npz import read_npz
from pipeline.trainer.augmentation import Augmentation, make_augmentations
from pipeline.trainer.features import FeatureCache, TrainingFeatures, collect_features, read_labels
from pipeline.trainer.finetune_model import Inputs, LowerNetwork
from pipeline.types import Int64Labels

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneInputs:
    """The pictures of a pack as the model that is trained is fed.

    Args:
        values: Feature maps or pixels, in the order of the pack; altered copies come last.
        labels: Class index of each.
        copies: How often each picture is there, as it is and altered.
    """

    values: Inputs
    labels: Int64Labels
    copies: int


def read_inputs(
    workspace: Workspace,
    index: PackIndex,
    spec: TrainingSpec,
    parameters: FinetuneParameters,
    backbone: Backbone,
    weights: Mapping[str, NDArray[np.float32]],
) -> FinetuneInputs:
    """Return what the model of a job is fed; feature maps are kept in the bucket for later jobs."""
    if parameters.on == "pictures":
        return _read_pixels(workspace, index)
    blocks = parameters.num_blocks or 0
    block = list_blocks(backbone.name)[-blocks]
    lower = LowerNetwork(backbone, weights, blocks)

    def collect(augmentation: Augmentation | None = None) -> TrainingFeatures:
        altered = "" if augmentation is None else augmentation.digest
        folder = workspace.features(spec.weights_digest, backbone.spec.digest, altered, before=block.layer)
        cache = FeatureCache(folder, prod(block.shape))
        return collect_features(
            index.shards, workspace.storage, cache=cache, network=lower, alter=augmentation
        )

    parts = [collect(), *map(collect, make_augmentations(spec.views, spec.views_seed))]
    return FinetuneInputs(
        values=np.concatenate([part.features for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        copies=len(parts),
    )


def _read_pixels(workspace: Workspace, index: PackIndex) -> FinetuneInputs:
    storage = workspace.storage
    pixels = [read_npz(storage.local_path(shard.uri))["features"] for shard in index.shards]
    labels = [read_labels(shard.uri, storage) for shard in index.shards]
    return FinetuneInputs(values=np.concatenate(pixels), labels=np.concatenate(labels), copies=1)
