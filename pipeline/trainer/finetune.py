"""Fine-tuning in a training job: what is trained and judged, the process that does it, and what it leaves."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.artifacts.finetuning import FinetuneParameters, FinetuneRecord
from pipeline.artifacts.training import HeadParameters, History, TrainingSpec
from pipeline.errors import ModelError, SignatureMismatch, TrainingDiverged
from pipeline.npz import write_npz
from pipeline.storage import Storage
from pipeline.tflite.head import Head
from pipeline.trainer import finetune_process
from pipeline.trainer.calibration import MIN_PICTURES, assign_folds, calibrate
from pipeline.trainer.cross_validation import FOLDS, cross_validate
from pipeline.trainer.finetune_request import FinetuneRequest, FinetuneResult
from pipeline.trainer.fitting import FittedHead, train_to_best
from pipeline.trainer.head import Pictures, initial_head, train_head
from pipeline.trainer.pictures import TrainingPictures
from pipeline.types import Float32Features

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOLERANCE = 1e-3  # of a probability, between the model that was trained and what is exported


@dataclass(frozen=True, slots=True, kw_only=True)
class Finetuned:
    """A fine-tuned model, and what `TrainingRecord` says of it.

    Args:
        weights: URI of the weights of its network; they end in their SHA-256.
        fitted: Its head.
        pictures: With the features of the network that it began from.
        record: What was done.
        result: What the process that trained answered.
    """

    weights: str
    fitted: FittedHead
    pictures: TrainingPictures
    record: FinetuneRecord
    result: FinetuneResult

    def check(self, features: Float32Features) -> None:
        """Compare the head on features of the network as it is exported with what was trained.

        Args:
            features: Of the first pictures of the pack.

        Raises:
            SignatureMismatch: if the probabilities differ.
        """
        expected = self.result.outputs
        outputs = self.result.head.predict(features[: len(expected)])
        difference = float(np.abs(outputs - expected).max())
        if not difference <= TOLERANCE:
            raise SignatureMismatch(
                f"The fine-tuned network differs from the one that Keras trained by {difference:.2g}, more "
                f"than {TOLERANCE}.",
                difference=difference,
            )


def finetune(
    spec: TrainingSpec,
    parameters: FinetuneParameters,
    storage: Storage,
    classes: Sequence[str],
    pictures: TrainingPictures,
    folder: Path,
) -> Finetuned:
    """Fine-tune a network and its head in a process of its own; keep the weights in the job's directory.

    Args:
        spec: The job's.
        parameters: What of it is about fine-tuning.
        storage: Reads and writes URIs.
        classes: The label of each class.
        pictures: With the features of the network that it begins from.
        folder: Where the processes write to each other.

    Raises:
        TrainingDiverged: when the loss is no longer a number.
        ModelError: if the process refuses.
    """
    request = make_request(spec, parameters, classes, pictures)
    request.write(folder)
    _run(folder, spec)
    result = FinetuneResult.read(folder)
    weights = _keep_weights(spec, storage, result) if result.weights else spec.weights
    record = FinetuneRecord(
        blocks=parameters.blocks,
        on=parameters.on,
        learning_rate=parameters.learning_rate,
        augments=parameters.augments,
        trained_parameters=result.trained_parameters,
        history=result.history,
        epochs_run=len(result.history["loss"]),
        best_epoch=result.best_epoch,
        weights=weights,
        base_weights=spec.weights,
        base_features=pictures.feature_uris,
        resumed_after=result.resumed_after,
        input_bytes=result.input_bytes,
        peak_memory_bytes=result.peak_memory_bytes,
        cpu_seconds=result.cpu_seconds,
    )
    fitted = _fitted_head(spec, parameters, classes, pictures, result)
    return Finetuned(weights=weights, fitted=fitted, pictures=pictures, record=record, result=result)


def make_request(
    spec: TrainingSpec,
    parameters: FinetuneParameters,
    classes: Sequence[str],
    pictures: TrainingPictures,
) -> FinetuneRequest:
    """Return what trains and what judges, and the heads that training begins from."""
    judges = _choose_judges(spec, parameters, pictures)
    if not parameters.changes_network:
        width = pictures.pool.features.shape[1]
        start = judged_start = initial_head(width, len(classes), units=spec.units, seed=spec.seed)
    else:
        start = judged_start = _train_head(spec, classes, pictures)
        within = judges[pictures.rows]
        if within.any():
            judged_start = _train_head(spec, classes, pictures.leave_out(within))
    return FinetuneRequest(
        pool=pictures.rows,
        judges=judges,
        chooses=pictures.validation is not None,
        start=start,
        judged_start=judged_start,
    )


def _choose_judges(
    spec: TrainingSpec, parameters: FinetuneParameters, pictures: TrainingPictures
) -> NDArray[np.bool_]:
    """Return which pictures of the pack judge: those that validate, else some that fit the temperature."""
    judges, pool = np.zeros_like(pictures.rows), np.flatnonzero(pictures.rows)
    if pictures.drawn is not None:
        judges[pool[pictures.drawn]] = True
    elif pictures.reserved is not None:
        judges = ~pictures.rows
    elif parameters.changes_network and spec.calibration == "temperature":
        labels = pictures.pool.labels[: len(pool)]
        folds = assign_folds(pictures.pool.ids, labels, pictures.pool.groups, seed=spec.seed, num_folds=FOLDS)
        if (folds == 0).sum() >= MIN_PICTURES:
            judges[pool[folds == 0]] = True
    return judges


def _train_head(spec: TrainingSpec, classes: Sequence[str], pictures: TrainingPictures) -> Head:
    def train(
        trains: Pictures, parameters: HeadParameters, validation: Pictures | None
    ) -> tuple[Head, History]:
        return train_head(*trains, len(classes), parameters, validation=validation)

    return train_to_best(train, pictures, spec)[0]


def _keep_weights(spec: TrainingSpec, storage: Storage, result: FinetuneResult) -> str:
    data = write_npz(result.weights)
    uri = spec.open_job(storage).finetuned_weights(hashlib.sha256(data).hexdigest())
    storage.write_bytes(uri, data)
    return uri


def _fitted_head(
    spec: TrainingSpec,
    parameters: FinetuneParameters,
    classes: Sequence[str],
    pictures: TrainingPictures,
    result: FinetuneResult,
) -> FittedHead:
    if parameters.changes_network:
        return FittedHead(head=result.head, calibration=result.calibration)
    head, epochs = result.head, result.best_epoch
    head_spec = replace(spec, learning_rate=parameters.learning_rate)
    calibration = None
    if spec.calibration == "temperature":
        head, calibration = calibrate(head, pictures.pool, head_spec, epochs=epochs)
    folds = cross_validate(pictures.pool, head_spec, num_classes=len(classes), epochs=epochs)
    return FittedHead(head=head, history=result.history, calibration=calibration, folds=folds)


def _run(folder: Path, spec: TrainingSpec) -> None:
    command = [sys.executable, "-P", "-m", finetune_process.__name__, str(folder), *spec.to_args()]
    environ = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    environ |= {"KERAS_BACKEND": "tensorflow", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    code = subprocess.run(command, env=environ, check=False).returncode
    if not code:
        return
    error = folder / finetune_process.ERROR
    if error.exists():
        about = json.loads(error.read_text(encoding="utf-8"))
        kind = TrainingDiverged if about["type"] == TrainingDiverged.__name__ else ModelError
        raise kind(about["message"])
    # Not an error of ours: a job that is submitted again goes on after the last epoch.
    raise ChildProcessError(f"The process that fine-tunes ended with status {code}.")
