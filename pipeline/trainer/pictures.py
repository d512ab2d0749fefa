"""What a job trains on: features of the pictures and of their altered copies, and which ones validate."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np

from pipeline.artifacts.pack import PackIndex, read_groups, read_validation
from pipeline.artifacts.training import FeatureWork, TrainingSpec, ValidationSplit
from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.table import Backbone
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
        pool: The pictures that train the head that is kept, and their altered copies.
        drawn: Which of them validate while the epoch is chosen; None if none does.
        reserved: Features and labels of the pictures that the source sets apart for validation; None without.
        work: How many pictures and copies went through the network, and how many features were cached.
        first: Features of the first pictures of the pack, in its order.
        feature_uris: The cached features of the unaltered pictures.
        rows: Which pictures of the pack are the pool.
    """

    pool: TrainingSet
    drawn: NDArray[np.bool_] | None
    reserved: Pictures | None
    work: FeatureWork
    first: Float32Features
    feature_uris: tuple[str, ...]
    rows: NDArray[np.bool_]

    @property
    def everything(self) -> Pictures:
        """Features and labels of what trains the head that is kept, altered copies last."""
        return self.pool.features, self.pool.labels

    @property
    def training(self) -> Pictures:
        """Features and labels of those that train while the epoch is chosen."""
        if self.drawn is None:
            return self.everything
        rows = np.tile(~self.drawn, self.pool.copies)
        return self.pool.features[rows], self.pool.labels[rows]

    @property
    def validation(self) -> Pictures | None:
        """Features and labels of the pictures that validate, unaltered; None without a split."""
        if self.drawn is None:
            return self.reserved
        return self.pool.plain[self.drawn], self.pool.labels[: len(self.drawn)][self.drawn]

    @property
    def validation_split(self) -> ValidationSplit | None:
        """How many pictures train and validate; None without a split."""
        if self.validation is None:
            return None
        drawn = 0 if self.drawn is None else int(self.drawn.sum()) * self.pool.copies
        num = len(self.pool.labels)
        return ValidationSplit(training=num - drawn, validation=len(self.validation[1]), final_training=num)

    def leave_out(self, rows: NDArray[np.bool_]) -> TrainingPictures:
        """Return the pictures without some of the pool, and without their altered copies.

        Shapes:
            rows: (num_images,), of the pool without copies.
        """
        kept, pool, drawn = ~rows, self.pool, self.drawn
        copies = np.tile(kept, pool.copies)
        drawn = None if drawn is None or not drawn[kept].any() else drawn[kept]
        left = TrainingSet(
            features=pool.features[copies],
            labels=pool.labels[copies],
            ids=tuple(compress(pool.ids, kept)),
            groups=pool.groups,
        )
        rows = self.rows.copy()
        rows[rows] = kept
        return replace(self, pool=left, drawn=drawn, rows=rows)


def collect_pictures(
    workspace: Workspace, index: PackIndex, spec: TrainingSpec, network: Network, backbone: Backbone
) -> TrainingPictures:
    """Return the features of every training picture of a pack, and of its altered copies.

    Args:
        workspace: Where pictures and cached features are.
        index: The pack index.
        spec: The job's.
        network: The frozen network, in LiteRT or TensorFlow.
        backbone: What the network is fed and what it gives.
    """

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
    named = validates if spec.validation == "given" else None
    rows = np.ones(len(plain.ids), np.bool_) if named is None else ~named
    return TrainingPictures(
        pool=_pool(parts, groups, rows),
        drawn=validates if named is None else None,
        reserved=None if named is None else (plain.features[named], plain.labels[named]),
        work=FeatureWork(
            forwarded=sum(part.work.forwarded for part in parts),
            cached=sum(part.work.cached for part in parts),
        ),
        first=plain.features[:NUM_FIRST],
        feature_uris=plain.uris,
        rows=rows,
    )


def _pool(
    parts: Sequence[TrainingFeatures], groups: Mapping[str, str], rows: NDArray[np.bool_]
) -> TrainingSet:
    return TrainingSet(
        features=np.concatenate([part.features[rows] for part in parts]),
        labels=np.concatenate([part.labels[rows] for part in parts]),
        ids=tuple(compress(parts[0].ids, rows)),
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
    if not spec.validation_fraction or spec.head_type == "logistic":  # which has no epoch to choose
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
