"""What a job trains on: features of the pictures and of their altered copies, and which ones validate."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pipeline.artifacts.pack import PackIndex, read_groups, read_validation
from pipeline.artifacts.training import FeatureWork, TrainingSpec, ValidationSplit
from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.table import Backbone, find_backbone
from pipeline.errors import LabelMapMismatch
from pipeline.storage import Storage
from pipeline.trainer.augmentation import Augmentation, make_augmentations
from pipeline.trainer.calibration import TrainingSet
from pipeline.trainer.features import (
    FeatureCache,
    Network,
    TrainingFeatures,
    collect_features,
    read_labels,
)
from pipeline.trainer.head import Pictures
from pipeline.trainer.validation import split_validation
from pipeline.types import Float32Features

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUM_FIRST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPictures:
    """What a job trains on.

    Args:
        training: Features and labels of the pictures that train, then those of their altered copies.
        validation: Features and labels of the pictures that validate, unaltered; None without a split.
        work: How many pictures and copies went through the network, and how many features were cached.
        first: Features of the first pictures of the pack, in its order.
        feature_uris: The cached features of the unaltered pictures.
        ids: The pictures that train, without copies.
        groups: Name of the group of each picture that shares one.
    """

    training: Pictures
    validation: Pictures | None
    work: FeatureWork
    first: Float32Features
    feature_uris: tuple[str, ...]
    ids: tuple[str, ...]
    groups: Mapping[str, str]

    @property
    def plain(self) -> Float32Features:
        """Features of the unaltered pictures that train."""
        return self.training[0][: len(self.ids)]

    @property
    def training_set(self) -> TrainingSet:
        """The pictures that train, for training on a part of them."""
        features, labels = self.training
        return TrainingSet(features=features, labels=labels, ids=self.ids, groups=self.groups)

    @property
    def validation_split(self) -> ValidationSplit | None:
        """How many pictures train and validate; None without a split."""
        if self.validation is None:
            return None
        return ValidationSplit(training=len(self.training[1]), validation=len(self.validation[1]))


def collect_pictures(
    workspace: Workspace, index: PackIndex, spec: TrainingSpec, network: Network
) -> TrainingPictures:
    """Return the features of every training picture of a pack, and of its altered copies.

    Args:
        workspace: Where pictures and cached features are.
        index: The pack index.
        spec: The job's.
        network: The frozen network, in LiteRT or TensorFlow.
    """
    backbone = fit_to_pack(find_backbone(spec.backbone), index)

    def collect(augmentation: Augmentation | None = None) -> TrainingFeatures:
        altered = "" if augmentation is None else augmentation.digest
        folder = workspace.features(spec.weights_digest, backbone.spec.digest, altered)
        cache = FeatureCache(folder, backbone.feature_width)
        return collect_features(
            index.shards, workspace.storage, cache=cache, network=network, alter=augmentation
        )

    plain = collect()
    parts = [plain, *map(collect, make_augmentations(spec.views, spec.views_seed))]
    groups = read_groups(workspace.storage, index)
    validates = choose_validation(plain, groups, spec, read_validation(workspace.storage, index))
    trains = np.ones(len(plain.ids), np.bool_) if validates is None else ~validates
    return TrainingPictures(
        training=(
            np.concatenate([part.features[trains] for part in parts]),
            np.concatenate([part.labels[trains] for part in parts]),
        ),
        validation=None if validates is None else (plain.features[validates], plain.labels[validates]),
        work=FeatureWork(
            forwarded=sum(part.work.forwarded for part in parts),
            cached=sum(part.work.cached for part in parts),
        ),
        first=plain.features[:NUM_FIRST],
        feature_uris=plain.uris,
        ids=tuple(itertools.compress(plain.ids, trains)),
        groups=groups,
    )


def fit_to_pack(backbone: Backbone, index: PackIndex) -> Backbone:
    """Return a backbone that is fed the pack's pixels: a dataset may use some bits of 16-bit files only."""
    bits = index.spec.get("bits")
    return replace(backbone, spec=replace(backbone.spec, bits=bits)) if isinstance(bits, int) else backbone


def choose_validation(
    plain: TrainingFeatures, groups: Mapping[str, str], spec: TrainingSpec, named: Collection[str]
) -> NDArray[np.bool_] | None:
    """Return which pictures validate; None if none does.

    Args:
        plain: The unaltered pictures.
        groups: Name of the group of each picture that shares one.
        spec: The job's.
        named: The pictures that validate if the source says so.
    """
    if spec.validation == "given":
        return np.array([id in named for id in plain.ids], np.bool_)
    if not spec.validation_fraction:
        return None
    chosen = split_validation(
        plain.ids, plain.labels, groups, fraction=spec.validation_fraction, seed=spec.seed
    )
    return chosen if chosen.any() else None


def check_labels(index: PackIndex, storage: Storage) -> None:
    """Make sure that each label of a pack has a class.

    Raises:
        LabelMapMismatch: if one has none.
    """
    labels = np.concatenate([read_labels(shard.uri, storage) for shard in index.shards])
    if labels.min() < 0 or labels.max() >= len(index.classes):
        raise LabelMapMismatch(
            f"A label lies outside the {len(index.classes)} classes; pack the dataset again. "
            f"Received: {labels.min()} to {labels.max()}",
            classes=list(index.classes),
        )
