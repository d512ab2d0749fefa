"""What a job trains on: features of the pictures and of their views, and which pictures validate."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from pipeline.errors import LabelMapMismatch
from pipeline.storage import Storage
from pipeline.trainer.augmentation import make_augmentations
from pipeline.trainer.features import FeatureCache, Network, TrainingFeatures, collect_features, read_labels
from pipeline.trainer.head import Pictures
from pipeline.trainer.validation import split_validation
from pipeline.types import Float32Features, JsonDict

NUM_FIRST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPictures:
    """What a job trains on.

    Args:
        training: Features and labels of the pictures that train, then those of their views.
        validation: Features and labels of the pictures that validate, as they are; None without a split.
        forwarded: Pictures and views that went through the network in this job.
        cached: Pictures and views that came from the cache.
        first: Features of the first pictures of the pack, in its order.
        feature_uris: The cached features of the pictures as they are.
    """

    training: Pictures
    validation: Pictures | None
    forwarded: int
    cached: int
    first: Float32Features
    feature_uris: list[str]

    def describe_validation(self) -> JsonDict | None:
        """Return how many pictures train and validate; None without a split."""
        if self.validation is None:
            return None
        return {"training": len(self.training[1]), "validation": len(self.validation[1])}


def collect_pictures(
    index: JsonDict, arguments: argparse.Namespace, *, storage: Storage, prefix: str, network: Network
) -> TrainingPictures:
    """Return the features of every training picture of a pack, and of its views.

    Args:
        index: The pack index.
        arguments: The job's.
        storage: The bucket.
        prefix: Of the cache; that of a view ends in its digest.
        network: From uint8 pixels to features.
    """
    from pipeline.backbones.table import find_backbone

    width = find_backbone(arguments.backbone).feature_width
    cache = FeatureCache(storage, prefix, width)
    plain = collect_features(index, storage=storage, cache=cache, network=network)
    altered = [
        collect_features(
            index,
            storage=storage,
            cache=FeatureCache(storage, f"{prefix}-view-{augmentation.digest}", width),
            network=network,
            alter=augmentation,
        )
        for augmentation in make_augmentations(arguments.views, arguments.views_seed)
    ]
    validates = _choose_validation(plain, index, arguments, storage)
    trains = slice(None) if validates is None else ~validates
    parts = [plain, *altered]
    return TrainingPictures(
        training=(
            np.concatenate([part.features[trains] for part in parts]),
            np.concatenate([part.labels[trains] for part in parts]),
        ),
        validation=None if validates is None else (plain.features[validates], plain.labels[validates]),
        forwarded=sum(part.forwarded for part in parts),
        cached=sum(part.cached for part in parts),
        first=plain.features[:NUM_FIRST],
        feature_uris=[cache.uri(shard["digest"]) for shard in index["shards"]],
    )


def _choose_validation(
    plain: TrainingFeatures, index: JsonDict, arguments: argparse.Namespace, storage: Storage
) -> np.ndarray | None:
    if not arguments.validation_fraction:
        return None
    groups = storage.read_json(index["groups"]) if "groups" in index else {}
    chosen = split_validation(
        plain.ids, plain.labels, groups, fraction=arguments.validation_fraction, seed=arguments.seed
    )
    return chosen if chosen.any() else None


def check_labels(index: JsonDict, storage: Storage) -> None:
    """Make sure that each label of a pack has a class.

    Raises:
        LabelMapMismatch: if one has none.
    """
    labels = np.concatenate([read_labels(shard["uri"], storage) for shard in index["shards"]])
    if labels.min() < 0 or labels.max() >= len(index["classes"]):
        raise LabelMapMismatch(
            f"A label lies outside the {len(index['classes'])} classes; pack the dataset again. "
            f"Received: {labels.min()} to {labels.max()}",
            classes=index["classes"],
        )
