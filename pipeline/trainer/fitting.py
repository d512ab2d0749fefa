"""Trains a job's head: dense, logistic regression, or what a file of the user's builds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from pipeline.artifacts.folders import JobDirectory, ModelDirectory
from pipeline.artifacts.training import (
    Calibration,
    CrossValidation,
    HeadParameters,
    History,
    Regularization,
    TrainingSpec,
    WarmStart,
)
from pipeline.storage import Storage
from pipeline.tflite.head import Head, TrainedHead
from pipeline.trainer.calibration import calibrate
from pipeline.trainer.cross_validation import FoldOutputs, cross_validate
from pipeline.trainer.head import Pictures, best_epoch, train_head
from pipeline.trainer.logistic import fit_logistic
from pipeline.trainer.pictures import TrainingPictures
from pipeline.trainer.warm_start import read_start

if TYPE_CHECKING:
    from pipeline.trainer.custom_head import KerasHead

HeadT = TypeVar("HeadT")
Train: TypeAlias = "Callable[[Pictures, HeadParameters, Pictures | None], tuple[HeadT, History]]"


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedHead:
    """A trained head, and what `TrainingRecord` says of it under the same names.

    `folds` are the answers of heads that were each trained without a fold of the pictures.
    """

    head: TrainedHead | KerasHead
    history: History = field(default_factory=dict)
    warm_start: WarmStart | None = None
    calibration: Calibration | None = None
    folds: FoldOutputs | None = None
    regularization: Regularization | None = None

    @property
    def cross_validation(self) -> CrossValidation | None:
        """How heads do that were trained without a fold of the pictures each; None where none were."""
        return self.folds.record if self.folds else None

    def keep_answers(self, job: JobDirectory) -> None:
        """Write the answers of those heads into the directory of a job."""
        if self.folds:
            temperature = self.calibration.temperature if self.calibration else 1.0
            self.folds.answers(temperature).write(job)


def fit_head(
    spec: TrainingSpec,
    storage: Storage,
    classes: Sequence[str],
    pictures: TrainingPictures,
    *,
    cross_validates: bool = True,
) -> FittedHead:
    """Train the head that a job is told to.

    Args:
        spec: The job's.
        storage: Where the file of a custom head, or the head to begin from, is.
        classes: The label of each class.
        pictures: What trains it.
        cross_validates: Whether a dense head is trained again without a fold of the pictures each, and the
            epochs of the head itself are told in the log: whether it is more than one of many.

    Raises:
        TrainingDiverged: if the loss is no longer a number.
        LabelMapMismatch: if the head to begin from has another shape.
        EmptyDataset: if a class of a logistic head has no picture.
    """
    if spec.head_module:
        return _fit_custom(spec, storage, pictures, len(classes))
    if spec.head_type == "logistic":
        fit = fit_logistic(pictures.pool, spec, len(classes))
        return FittedHead(
            head=fit.head,
            calibration=fit.calibration,
            folds=fit.folds,
            regularization=fit.regularization,
        )
    fitted = _fit_dense(spec, storage, classes, pictures, tells=cross_validates)
    if not cross_validates:
        return fitted
    epochs = best_epoch(fitted.history)
    folds = cross_validate(pictures.pool, spec, num_classes=len(classes), epochs=epochs)
    return replace(fitted, folds=folds)


def train_to_best(
    train: Train[HeadT], pictures: TrainingPictures, parameters: HeadParameters
) -> tuple[HeadT, History]:
    """Train a head; where pictures were drawn to validate, let them choose the epoch and then train too.

    Returns:
        The head, and the history of the training that chose its epoch.
    """
    head, history = train(pictures.training, parameters, pictures.validation)
    if pictures.drawn is not None:
        head, _ = train(pictures.everything, replace(parameters, epochs=best_epoch(history)), None)
    return head, history


def _fit_dense(
    spec: TrainingSpec,
    storage: Storage,
    classes: Sequence[str],
    pictures: TrainingPictures,
    *,
    tells: bool,
) -> FittedHead:
    width = pictures.pool.features.shape[1]
    start, warm_start = _read_start(spec, storage, classes, width) if spec.warm_start else (None, None)

    def train(
        trains: Pictures, parameters: HeadParameters, validation: Pictures | None
    ) -> tuple[Head, History]:
        begin = start.copy() if start else None
        return train_head(*trains, len(classes), parameters, validation=validation, start=begin, tells=tells)

    head, history = train_to_best(train, pictures, spec)
    calibration = None
    if spec.calibration == "temperature":
        head, calibration = calibrate(head, pictures.pool, spec, epochs=best_epoch(history))
    return FittedHead(head=head, history=history, warm_start=warm_start, calibration=calibration)


def _fit_custom(
    spec: TrainingSpec, storage: Storage, pictures: TrainingPictures, num_classes: int
) -> FittedHead:
    from pipeline.trainer.custom_head import train_custom_head  # imports Keras

    def train(
        trains: Pictures, parameters: HeadParameters, validation: Pictures | None
    ) -> tuple[KerasHead, History]:
        return train_custom_head(
            spec.head_module, storage, *trains, num_classes, parameters, validation=validation
        )

    head, history = train_to_best(train, pictures, spec)
    return FittedHead(head=head, history=history)


def _read_start(
    spec: TrainingSpec, storage: Storage, classes: Sequence[str], feature_width: int
) -> tuple[Head, WarmStart]:
    return read_start(
        ModelDirectory(storage, spec.warm_start),
        classes,
        feature_width=feature_width,
        units=spec.units,
        seed=spec.seed,
    )
