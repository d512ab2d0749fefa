"""What a trial of a study leaves: how heads of one combination of parameters do, fold by fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pipeline.artifacts.codec import as_object, build_record, strip_format
from pipeline.artifacts.folders import JobDirectory
from pipeline.artifacts.training import FeatureWork
from pipeline.types import JsonObject, JsonValue

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldScore:
    """How a head does on the training pictures that it was trained without.

    Args:
        pictures: How many they are.
        log_loss: Mean negative log-likelihood of their labels.
        accuracy: Share of them whose most probable class is their label.
    """

    pictures: int
    log_loss: float
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialScores:
    """What a trial did: `trial.json`.

    Args:
        folds: Of its cross-validation.
        fit_cpu_seconds: CPU time of one training of the head.
        work: What the frozen network had to do for the training pictures.
    """

    folds: tuple[FoldScore, ...]
    fit_cpu_seconds: float
    work: FeatureWork

    @property
    def pictures(self) -> int:
        """Training pictures that were left out once."""
        return sum(fold.pictures for fold in self.folds)

    @property
    def loss(self) -> float:
        """The mean log loss of all pictures."""
        return sum(fold.pictures * fold.log_loss for fold in self.folds) / self.pictures

    @property
    def accuracy(self) -> float:
        """The accuracy of all pictures."""
        return sum(fold.pictures * fold.accuracy for fold in self.folds) / self.pictures

    def to_dict(self) -> dict[str, JsonValue]:
        """Return plain JSON values."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, value: JsonObject) -> TrialScores:
        """Read what `to_dict` wrote.

        Raises:
            FormatTooNew: if a newer version of Graft wrote it.
            RecordInvalid: if it is no such record.
        """
        value = strip_format(value, FORMAT, cls)
        rows = value.get("folds")
        return build_record(
            cls,
            value,
            folds=tuple(
                build_record(FoldScore, as_object(each))
                for each in (rows if isinstance(rows, Sequence) else ())
            ),
            work=build_record(FeatureWork, as_object(value.get("work"))),
        )

    def write(self, trial: JobDirectory) -> None:
        """Write the scores into the directory of the trial."""
        trial.storage.write_json(trial.trial, self.to_dict())

    @classmethod
    def read(cls, trial: JobDirectory) -> TrialScores:
        """Read the scores of a trial.

        Raises:
            ObjectNotFound: if it has left none.
            FormatTooNew: if a newer version of Graft wrote it.
        """
        return cls.from_dict(trial.storage.read_json(trial.trial))
