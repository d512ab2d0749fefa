"""Calibration: one temperature, so that probabilities mean what they say.

A head of a thousand units is sure of every training picture, so its probabilities for new pictures are too
large. Heads trained on two thirds of the training pictures answer for the last third; the temperature that
fits those answers best divides the logits of the head that all pictures train. No label changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pipeline.artifacts.training import Calibration, HeadParameters
from pipeline.tflite.head import Head, LogisticHead, softmax
from pipeline.trainer.head import train_head
from pipeline.types import Float32Features, Int64Labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDS = 3
MIN_PICTURES = 20  # a temperature of fewer held-out pictures is a guess
LIMITS = (0.05, 20.0)
_STEPS = 50  # of a bisection
HeadT = TypeVar("HeadT", Head, LogisticHead)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSet:
    """The pictures that trained a head, for training it again on a part of them.

    Args:
        features: Pooled features of the pictures, then those of their altered copies, in the same order.
        labels: Class index of each.
        ids: Of the pictures, without copies.
        groups: Name of the group of each picture that shares one; any other is its own.

    Shapes:
        features: (copies * num_images, feature_width).  labels: (copies * num_images,).
    """

    features: Float32Features
    labels: Int64Labels
    ids: Sequence[str]
    groups: Mapping[str, str]

    @property
    def copies(self) -> int:
        """How often each picture is there, as it is and altered."""
        return len(self.labels) // len(self.ids)

    @property
    def plain(self) -> Float32Features:
        """Features of the pictures as they are."""
        return self.features[: len(self.ids)]


def calibrate(
    head: Head, pictures: TrainingSet, parameters: HeadParameters, *, epochs: int
) -> tuple[Head, Calibration | None]:
    """Return the head with its logits divided by one temperature, and how that was found.

    Args:
        head: The trained head.
        pictures: What trained it.
        parameters: How it was trained.
        epochs: The epoch whose head was kept.

    Returns:
        The head as it is, and None, where too few pictures can be held out.
    """
    num = len(pictures.ids)
    folds = assign_folds(pictures.ids, pictures.labels[:num], pictures.groups, seed=parameters.seed)
    held_out = folds >= 0
    if held_out.sum() < MIN_PICTURES:
        return head, None
    logits = _cross_fit(pictures, folds, replace(parameters, epochs=epochs), len(head.output_bias))
    calibration = calibration_of(logits[held_out], pictures.labels[:num][held_out])
    return soften(head, calibration.temperature), calibration


def calibration_of(logits: NDArray[np.float32], labels: Int64Labels) -> Calibration:
    """Return the temperature that fits the logits of held-out pictures, and what it does for them."""
    temperature = fit_temperature(logits, labels)
    return Calibration(
        temperature=temperature,
        pictures=len(labels),
        log_loss_before=log_loss(logits, labels),
        log_loss_after=log_loss(logits / np.float32(temperature), labels),
    )


def soften(head: HeadT, temperature: float) -> HeadT:
    """Return a head whose logits are divided by a temperature."""
    divisor = np.float32(temperature)
    return replace(head, output_kernel=head.output_kernel / divisor, output_bias=head.output_bias / divisor)


def _cross_fit(
    pictures: TrainingSet, folds: NDArray[np.int64], parameters: HeadParameters, num_classes: int
) -> NDArray[np.float32]:
    """Return the logits of each held-out picture, of a head that neither it nor its copies trained."""
    logits = np.zeros((len(folds), num_classes), np.float32)
    for fold in range(FOLDS):
        trains = np.tile(folds != fold, pictures.copies)
        head, _ = train_head(pictures.features[trains], pictures.labels[trains], num_classes, parameters)
        rows = np.flatnonzero(folds == fold)
        logits[rows] = head.score(head.hide(pictures.features[rows]))
    return logits


def log_loss(logits: NDArray[np.float32], labels: Int64Labels) -> float:
    """Return the mean log loss of these logits."""
    own = softmax(logits)[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(own, 1e-7)).mean())


def assign_folds(
    ids: Sequence[str],
    labels: Int64Labels,
    groups: Mapping[str, str],
    *,
    seed: int,
    num_folds: int = FOLDS,
) -> NDArray[np.int64]:
    """Return which fold holds each training picture out; -1 for a class of one group: no fold does.

    Whole groups are dealt out, class by class, so that near duplicates share a fold and every fold leaves
    pictures of each class to train on.

    Args:
        ids: The training pictures.
        labels: Class index of each.
        groups: Name of the group of each picture that shares one; any other is its own.
        seed: Another seed deals otherwise.
        num_folds: How many folds.
    """
    members: dict[str, list[int]] = {}
    for row, id in enumerate(ids):
        members.setdefault(groups.get(id, id), []).append(row)
    by_class: dict[int, list[str]] = {}
    for name in sorted(members, key=lambda name: hashlib.sha256(f"fold {seed} {name}".encode()).digest()):
        by_class.setdefault(int(labels[members[name][0]]), []).append(name)
    folds = np.full(len(ids), -1, np.int64)
    for names in by_class.values():
        for place, name in enumerate(names if len(names) > 1 else ()):
            folds[members[name]] = place % num_folds
    return folds


def fit_temperature(logits: NDArray[np.float32], labels: Int64Labels) -> float:
    """Return the temperature of the least log loss, within `LIMITS`.

    The targets are smoothed as if half a picture more had been answered wrongly (Krichevsky and Trofimov):
    where every held-out answer is right, the best temperature alone would make any answer certain.

    Shapes:
        logits: (num_images, classes).  labels: (num_images,).
    """
    num, classes = logits.shape
    wrong = 0.5 / (num + 1)
    targets = np.full(logits.shape, wrong / max(classes - 1, 1))
    targets[np.arange(num), labels] = 1 - wrong
    low, high = 1 / LIMITS[1], 1 / LIMITS[0]
    for _ in range(_STEPS):  # the loss is convex in the inverse temperature
        inverse = (low * high) ** 0.5
        slope = ((softmax(logits * np.float32(inverse)) - targets) * logits).sum()
        low, high = (inverse, high) if slope < 0 else (low, inverse)
    return float((low * high) ** -0.5)
