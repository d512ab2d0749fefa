"""A training job: what it is told on its command line, and what it records when it is done."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import TypeAlias

from pipeline.artifacts.codec import strip_format
from pipeline.artifacts.finetuning import FinetuneParameters, FinetuneRecord
from pipeline.artifacts.folders import JobDirectory
from pipeline.artifacts.workspace import Workspace
from pipeline.storage import Storage
from pipeline.types import JsonDict

FORMAT = 1
_OF_EPOCHS = ("units", "epochs", "batch_size", "learning_rate", "patience")  # none of logistic regression
History: TypeAlias = dict[str, list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadParameters:
    """How the head is made and trained.

    A field is an argument of the job and a row of the report; one that a classifier's `model` section has
    under the same name is taken from there.

    Args:
        head_type: `dense`, `logistic`, or `module` for a head that a file builds.
        units: Width of the hidden layer of a dense head.
        epochs: Passes over the features, at most.
        batch_size: Pictures in one step.
        learning_rate: Adam's step size.
        seed: Seeds the first weights and the order of the pictures.
        patience: Stop after so many epochs without a better validation loss; 0 never does.
        class_weights: `none`, or `balanced`: a class counts as much as any other, however few its pictures.
        calibration: `temperature`: one temperature, fitted on training pictures, divides the logits; `none`.
    """

    head_type: str = field(default="dense", metadata={"choices": ("dense", "logistic", "module")})
    units: int = 1024
    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 0.001
    seed: int = 42
    patience: int = 0
    class_weights: str = field(default="none", metadata={"choices": ("none", "balanced")})
    calibration: str = field(default="temperature", metadata={"choices": ("temperature", "none")})

    @property
    def hidden_units(self) -> int | None:
        """Width of the hidden layer; None for logistic regression, which has none."""
        return None if self.head_type == "logistic" else self.units

    def head_parameters(self) -> dict[str, int | float | str]:
        """Return these parameters by name, without those of a subclass and what this type of head has not."""
        unused = _OF_EPOCHS if self.head_type == "logistic" else ()
        names = (each.name for each in fields(HeadParameters) if each.name not in unused)
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec(HeadParameters):
    """Everything a training job is told; `batch_size` is its argument `--batch-size`.

    Args:
        pack_index: URI of the pack index.
        weights: URI of the staged weights; it ends in their SHA-256.
        backbone: Name of the frozen network.
        workspace: URI of the workspace with the feature cache.
        head_module: URI of a staged custom head; it ends in its SHA-256. Empty for the reference head.
        validation_fraction: Share of the pictures that validates, in whole groups.
        validation: `given` if the pictures that validate are those that the pack index names.
        finetune: `FinetuneParameters` as text; empty for a frozen network.
        views: Altered copies of each picture.
        views_seed: Seeds what the copies are altered by.
        warm_start: URI of the model whose head training begins from; empty for a new head.
        reject_below: The model answers with an empty label below this probability.
        thresholds: Such probabilities by class, as JSON, in place of `reject_below`; empty for none.
        reject_unlike: The model answers with an empty label above this novelty; 0 never does.
        job_dir: URI that the model is written under; the platform adds it.
    """

    pack_index: str
    weights: str
    backbone: str
    workspace: str
    head_module: str = ""
    validation_fraction: float = 0.0
    views: int = 0
    views_seed: int = 0
    warm_start: str = ""
    reject_below: float = 0.0
    thresholds: str = ""
    reject_unlike: float = 0.0
    validation: str = ""
    finetune: str = ""
    job_dir: str = field(default="", metadata={"required": True})

    @property
    def weights_digest(self) -> str:
        """The SHA-256 of the staged weights."""
        return self.weights.rpartition("/")[2]

    @property
    def finetuning(self) -> FinetuneParameters | None:
        """How blocks of the backbone are trained; None if it stays frozen."""
        return FinetuneParameters.from_text(self.finetune) if self.finetune else None

    @property
    def class_thresholds(self) -> dict[str, float]:
        """The probabilities by class below which the model answers with an empty label."""
        thresholds: dict[str, float] = json.loads(self.thresholds) if self.thresholds else {}
        return thresholds

    def label_bounds(self, classes: Sequence[str]) -> float | list[float]:
        """Return the probability below which a label is empty: one for each class if they differ."""
        by_class = self.class_thresholds
        if not by_class:
            return self.reject_below
        return [by_class.get(label, self.reject_below) for label in classes]

    def to_args(self) -> list[str]:
        """Return the command line of the job; the platform appends `--job-dir`."""
        values = ((_flag(each.name), getattr(self, each.name)) for each in fields(self))
        return [text for flag, value in values if value != "" for text in (flag, str(value))]

    @classmethod
    def from_args(cls, argv: Sequence[str] | None = None) -> TrainingSpec:
        """Read the command line of a job, by default that of the process.

        Raises:
            SystemExit: if it is not the command line of a job, after the parser's message on stderr.
        """
        parser = argparse.ArgumentParser(prog="python -m pipeline.trainer.task", description=cls.__doc__)
        for each in fields(cls):
            is_required = each.default is MISSING
            parser.add_argument(
                _flag(each.name),
                type=str if is_required else type(each.default),
                default=None if is_required else each.default,
                required=is_required or each.metadata.get("required", False),
                choices=each.metadata.get("choices"),
            )
        return cls(**vars(parser.parse_args(argv)))

    def open_workspace(self, storage: Storage) -> Workspace:
        """Return the workspace of the job."""
        return Workspace(storage, self.workspace.rstrip("/"))

    def open_job(self, storage: Storage) -> JobDirectory:
        """Return the directory that the job writes to."""
        return JobDirectory(storage, self.job_dir.rstrip("/"))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationSplit:
    """How many pictures trained and validated while the epoch was chosen.

    Args:
        training: Pictures that trained then, altered copies included.
        validation: Pictures that validated.
        final_training: Pictures that trained the head that was kept, altered copies included.
    """

    training: int
    validation: int
    final_training: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationRecord:
    """How many altered copies of each picture there were, and their seed."""

    views: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStart:
    """The model whose head training began from, and the classes whose outputs were taken over."""

    model_uri: str
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The temperature that divides the logits, and what it does for pictures that a head had not seen.

    Args:
        temperature: Above 1 where the head was surer than right.
        pictures: Training pictures that were held out to fit it.
        log_loss_before: Their log loss without it.
        log_loss_after: Their log loss with it.
    """

    temperature: float
    pictures: int
    log_loss_before: float
    log_loss_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossValidation:
    """How heads do that were trained again without a fold of the training pictures, on that fold.

    Args:
        folds: Heads that were trained; whole groups are left out.
        pictures: Training pictures that were left out once.
        accuracy: Mean over the folds.
        spread: Standard deviation of the accuracy over the folds.
        log_loss: Mean over the folds, without the temperature.
        units: Width of the hidden layer of these heads; 0 for logistic regression.
    """

    folds: int
    pictures: int
    accuracy: float
    spread: float
    log_loss: float
    units: int

    @property
    def line(self) -> str:
        """The result in one clause."""
        return (
            f"retrained {self.folds} times, each time without 1/{self.folds} of the training pictures, "
            f"accuracy on those is {100 * self.accuracy:.1f} % on average, with a standard deviation of "
            f"{100 * self.spread:.1f} points"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Regularization:
    """How strongly logistic regression is regularized.

    Args:
        c: The inverse of the strength, scikit-learn's `C`.
        tried: The values that it was chosen from; none where too few pictures could be held out.
        log_losses: Of held-out training pictures, with each of those values.
    """

    c: float
    tried: tuple[float, ...] = ()
    log_losses: tuple[float, ...] = ()

    @property
    def line(self) -> str:
        """The choice in one clause."""
        if not self.tried:
            return f"C = {self.c:g}, because too few pictures could be held out to choose it"
        least, most = min(self.tried), max(self.tried)
        return f"C = {self.c:g}, chosen from {least:g} to {most:g} by cross-validation on training pictures"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureWork:
    """How many pictures went through the frozen network, and how many features came from the cache."""

    forwarded: int
    cached: int

    def __add__(self, other: FeatureWork) -> FeatureWork:
        """Return the work of two networks."""
        return FeatureWork(forwarded=self.forwarded + other.forwarded, cached=self.cached + other.cached)


@dataclass(frozen=True, slots=True, kw_only=True)
class TFLiteParity:
    """How many pictures the TFLite export was compared on, and the largest difference to TensorFlow."""

    pictures: int
    largest_difference: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerPackage:
    """Version of the trainer package, and the file that the job imported it from."""

    version: str
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    """What a training job did: `training.json`, written last.

    Args:
        history: Loss and accuracy of each epoch, as Keras's `History` has them; none of logistic regression,
            and of the head that a fine-tuning of blocks begins from.
        epochs_run: Epochs of this history.
        best_epoch: The epoch, from 1, whose head was kept; with a `validation_fraction` the one to which all
            pictures then trained. 0 for logistic regression.
        validation: Sizes of the validation split; None without one.
        augmentation: The altered copies; None without any.
        class_weights: As in `HeadParameters`.
        warm_start: Where the head began; None for a new one.
        calibration: The temperature; None where there is none.
        cross_validation: How retrained heads do; None for a custom head, and for too few pictures.
        regularization: Of logistic regression; None for other heads.
        finetune: How blocks of the backbone were trained; None if it stayed frozen.
        head_module: URI of the staged custom head; None for the reference head.
        features: URIs of the cached features of the pictures as they are.
        work: What the frozen network had to do.
        tflite: The parity of the TFLite export; None where the head has none.
        tensorflow: Why the job needed TensorFlow, reason by reason; empty if it did not.
        package: The code that ran.
        classes: The label of class 0, of class 1, and so on.
        parameters: The backbone, the SHA-256 of its weights, and the head's parameters.
        seconds: Wall seconds of each part.
        cpu_seconds: CPU seconds of each part, over all threads.
        format: Of this record.
    """

    history: History
    epochs_run: int
    best_epoch: int
    validation: ValidationSplit | None = None
    augmentation: AugmentationRecord | None = None
    class_weights: str = "none"
    warm_start: WarmStart | None = None
    calibration: Calibration | None = None
    cross_validation: CrossValidation | None = None
    regularization: Regularization | None = None
    finetune: FinetuneRecord | None = None
    head_module: str | None = None
    features: tuple[str, ...]
    work: FeatureWork
    tflite: TFLiteParity | None = None
    tensorflow: tuple[str, ...] = ()
    package: TrainerPackage
    classes: tuple[str, ...]
    parameters: Mapping[str, int | float | str]
    seconds: Mapping[str, float]
    cpu_seconds: Mapping[str, float]
    format: int = FORMAT

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        value = asdict(self)
        value["light"] = value.pop("tflite")  # the key keeps its first name
        return value

    @classmethod
    def from_dict(cls, value: JsonDict) -> TrainingRecord:
        """Read what `to_dict` wrote.

        Raises:
            FormatTooNew: if a newer version of Graft wrote it.
        """
        plain: JsonDict = dict(strip_format(value, FORMAT, cls))
        parity = plain.pop("light", None)
        keys = ("validation", "augmentation", "warm_start", "calibration", "cross_validation")
        validation, augmentation, start, calibration, folds = map(plain.get, keys)
        chosen, tuned = plain.get("regularization"), plain.get("finetune")
        return cls(
            **{
                **plain,
                "validation": validation
                and ValidationSplit(**{"final_training": validation["training"], **validation}),
                "augmentation": augmentation and AugmentationRecord(**augmentation),
                "warm_start": start and WarmStart(**{**start, "classes": tuple(start["classes"])}),
                "calibration": calibration and Calibration(**calibration),
                "cross_validation": folds and CrossValidation(**folds),
                "regularization": chosen
                and Regularization(
                    c=chosen["c"], tried=tuple(chosen["tried"]), log_losses=tuple(chosen["log_losses"])
                ),
                "finetune": tuned and FinetuneRecord.from_dict(tuned),
                "features": tuple(value["features"]),
                "work": FeatureWork(**value["work"]),
                "tflite": parity and TFLiteParity(**parity),
                "tensorflow": tuple(value.get("tensorflow", ())),
                "package": TrainerPackage(**value["package"]),
                "classes": tuple(value["classes"]),
            }
        )

    def write(self, job: JobDirectory) -> None:
        """Write the record into the directory of the job."""
        job.storage.write_json(job.training, self.to_dict())

    @classmethod
    def read(cls, job: JobDirectory) -> TrainingRecord:
        """Read the record of a job.

        Raises:
            ObjectNotFound: if the job has left none.
            FormatTooNew: if a newer version of Graft wrote it.
        """
        return cls.from_dict(job.storage.read_json(job.training))
