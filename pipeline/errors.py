"""Every error Graft raises on purpose.

PipelineError                     picklable; inputs kept as attributes; .transient says "safe to retry"
  ConfigError(ValueError)         bad settings, YAML or run parameters: never retry
    ClassifierExists              a new classifier's name or file is taken
  DatasetError                    the pictures are not what a run needs
    SourceNotFound                the place a source names is not there
      NoLabels                    a list gives no labels: another kind, or none of the columns
    EmptyDataset                  no usable picture, one class only, or a class without pictures
    UndecodableImage              one picture cannot be read (reason is a quarantine reason)
    BadArchive                    an NPZ, zip or tar that does not keep the format
    FetchRefused                  one address gives no picture (reason is a fetch reason)
    SourceRefused                 an image search said no: key, quota, or nothing found
    SplitError                    a class without both a training and a test picture
    ExpectationFailed             the data gate, set to fail, holds the dataset version back
  PreprocessError                 packing went wrong
    LabelMapMismatch              two label lists that must be equal differ
  ModelError                      backbones and training
    UnknownBackbone               lists the known ones
    WeightsNotFound               says how to give a path
    WeightsMismatch               the digest or a shape is not the pinned one
    NetworkRefused                a network of the user's own cannot be a backbone
    TrainingDiverged              the loss is no longer a number
  ExportError                     the SavedModel could not be written
    SignatureMismatch             the exported model answers otherwise than the trainer
    TFLiteUnavailable             a model's TFLite export cannot be used: TensorFlow serves it
  EvaluationError                 predictions do not join with the test pictures
    PredictionJoinError           a missing, doubled or unknown key
  SmokeTestFailed                 online answers differ from the evaluated ones, or are too slow
  GateRefused                     a version that its gate refused, or did not judge to the end
  ApprovalMissing                 a version that needs a person's approval has none
  RollbackRefused                 nothing to roll back to, or nobody says why
  StorageError          transient reading or writing bytes failed
    ObjectNotFound      (final)   no such object
    UnknownBucket       (final)   neither mapped nor reachable; names GRAFT_BUCKETS
    StorageRefused      (final)   a store refuses the key, its rights or this machine's clock
    DamagedObject       (final)   the bytes are not those that were written
  FormatTooNew                    a newer version of Graft wrote this file
  RecordInvalid                   a file in a bucket is not the record that it should be
  PlatformError                   the v1 API said no: status, reason, request id
    PlatformUnavailable transient no answer, 429 or 5xx
    JobConflict                   the job id exists with another input; names the field
    JobFailed           transient a job ended FAILED: a new one may succeed
      JobFailedForGood  (final)   a job was cancelled, or failed as the next one would
    JobTimeout                    a job passed its deadline
    JobResultError                a job's result cannot be brought back
  NotebookError                   a cell cannot be run as a job
  StackError                      starting or stopping the local stack, a request that it refused
    StackUnavailable    transient it does not answer
    BackupError                   a backup cannot be made, or is damaged
  ApiError                        the engine refuses a request; status codes: engine/v1/errors.py
    NotFound  AlreadyExists  InvalidArgument  FailedPrecondition
    Unauthenticated  PermissionDenied  ResourceExhausted  Unimplemented  Unavailable
    DeadlineExceeded  Internal
    Aborted  Cancelled
    DamagedModel  DatabaseUnavailable  LostHead
"""

from __future__ import annotations

from typing import Any, ClassVar

EXIT_FINAL = 78  # of a program that failed for a reason that the next one would meet again: EX_CONFIG


class PipelineError(Exception):
    """Base of all of Graft's errors.

    Args:
        message: What happened, what was expected, how to fix it.
        details: The inputs that caused it; they become attributes and survive pickling.
    """

    transient: ClassVar[bool] = False
    max_characters: ClassVar[int] = 20_000  # of a message: what is longer loses its middle

    def __init__(self, message: str, **details: Any) -> None:
        if len(message) > self.max_characters:
            half = self.max_characters // 2 - 50  # so that it is not shortened again when it is pickled
            left_out = len(message) - 2 * half
            message = f"{message[:half]} [{left_out} characters left out] {message[-half:]}"
        super().__init__(message)
        self.message = message
        self.details = details
        self.__dict__.update(details)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.details)


def _rebuild(kind: type[PipelineError], message: str, details: dict[str, Any]) -> PipelineError:
    return kind(message, **details)


class ConfigError(PipelineError, ValueError):
    """Bad settings, a bad classifier YAML, or bad run parameters."""


class ClassifierExists(ConfigError):
    """A classifier or a file of this name is there already."""


class DatasetError(PipelineError):
    """The pictures are not what a run needs."""


class SourceNotFound(DatasetError):
    """The place a source names is not there."""


class NoLabels(SourceNotFound):
    """A list gives no labels: it is of another kind, or has none of the columns."""


class EmptyDataset(DatasetError):
    """No usable picture, one class only, or a class without pictures."""


class UndecodableImage(DatasetError):
    """One picture cannot be read; `reason` is its quarantine reason."""

    reason: str


class BadArchive(DatasetError):
    """An NPZ, zip or tar that does not keep the format."""


class FetchRefused(DatasetError):
    """One address gives no picture; `reason` is a fetch reason."""

    reason: str


class SourceRefused(DatasetError):
    """An image search said no: a wrong key, an exhausted quota, or nothing found."""


class SplitError(DatasetError):
    """A class without both a training and a test picture."""


class ExpectationFailed(DatasetError):
    """The data gate, set to fail, holds the dataset version back; `findings` say why."""


class PreprocessError(PipelineError):
    """Packing went wrong."""


class LabelMapMismatch(PreprocessError):
    """Two label lists that must be equal differ."""


class ModelError(PipelineError):
    """Backbones and training."""


class UnknownBackbone(ModelError):
    """No row of the backbone table has this name."""


class WeightsNotFound(ModelError):
    """The backbone's weights are in none of the places looked at."""


class WeightsMismatch(ModelError):
    """A digest or a shape is not the pinned one."""


class NetworkRefused(ModelError):
    """A network of the user's own cannot be a backbone; the message names the file and what to change."""


class TrainingDiverged(ModelError):
    """The loss is no longer a number."""


class ExportError(PipelineError):
    """The SavedModel could not be written."""


class SignatureMismatch(ExportError):
    """The exported model answers otherwise than the trainer did."""


class TFLiteUnavailable(ExportError):
    """A model's TFLite export cannot be used; the message says why. TensorFlow serves the model instead."""


class EvaluationError(PipelineError):
    """Predictions and test pictures do not fit."""


class PredictionJoinError(EvaluationError):
    """A prediction's key is missing, doubled or unknown."""


class SmokeTestFailed(PipelineError):
    """Online answers differ from the evaluated ones, or come too slowly."""


class GateRefused(PipelineError):
    """The gate refused the version, or has a rule that was never judged."""


class ApprovalMissing(PipelineError):
    """A version that needs a person's approval has none."""


class RollbackRefused(PipelineError):
    """There is no version to roll back to, it is not READY, or nobody says why."""


class StorageError(PipelineError):
    """Reading or writing bytes failed."""

    transient = True


class ObjectNotFound(StorageError):
    """No object has this URI."""

    transient = False


class DamagedObject(StorageError):
    """The bytes of an object are not those that were written."""

    transient = False


class FormatTooNew(PipelineError):
    """A newer version of Graft wrote this file."""

    @classmethod
    def check(cls, record: str, number: int, newest: int) -> None:
        """Make sure that this version of Graft reads a file.

        Args:
            record: What the file is called in the message.
            number: The format number in it.
            newest: The newest number that is read.

        Raises:
            FormatTooNew: if the file is of a newer format.
        """
        if number > newest:
            raise cls(
                f"The {record} has the format {number}; this version of Graft reads up to {newest}. Upgrade "
                "Graft to the version that wrote it.",
                record=record,
                format=number,
            )


class RecordInvalid(PipelineError):
    """A file in a bucket is not the record that it should be."""


class UnknownBucket(StorageError):
    """The bucket is neither mapped to a directory nor reachable."""

    transient = False


class StorageRefused(StorageError):
    """The store of a bucket refuses: the key, what the key may do, or the time of this machine."""

    transient = False


class PlatformError(PipelineError):
    """The ML Engine API said no; carries `status`, `reason` and `request_id` where known."""


class PlatformUnavailable(PlatformError):
    """No answer, or one that asks to come again (429, 5xx)."""

    transient = True


class JobConflict(PlatformError):
    """The job id exists with another input; `field` names what differs."""


class JobFailed(PlatformError):
    """A job ended FAILED; carries `job_id` and `state`. A new one may succeed."""

    transient = True


class JobFailedForGood(JobFailed):
    """A job was cancelled, or failed for a reason that a new one would meet again."""

    transient = False


class JobTimeout(PlatformError):
    """A job passed its deadline."""


class JobResultError(PlatformError):
    """A job's result cannot be brought back."""


class NotebookError(PipelineError):
    """A cell cannot be run as a job: it is no Python, or needs what no packaged cell defines."""


class StackError(PipelineError):
    """Starting or stopping the local stack failed, or a part of it refused a request."""


class BackupError(StackError):
    """A backup cannot be made or restored; the state before is as it was."""


class StackUnavailable(StackError):
    """A part of the stack does not answer for now."""

    transient = True


class ApiError(PipelineError):
    """The engine refuses a request; `field` names the offending field if there is one."""

    field: str | None = None


class NotFound(ApiError):
    """The resource does not exist."""


class AlreadyExists(ApiError):
    """A resource with this name exists."""


class InvalidArgument(ApiError):
    """The request is malformed."""


class FailedPrecondition(ApiError):
    """The system is not in the state the request needs."""


class DamagedModel(FailedPrecondition):
    """Files of a version are not what they were when it was created, and cannot be restored."""


class Aborted(ApiError):
    """The resource was changed since the client read it."""


class Cancelled(ApiError):
    """The operation was cancelled by a client."""


class Unauthenticated(ApiError):
    """No bearer token, or a wrong one."""


class PermissionDenied(ApiError):
    """The token may not do this."""


class ResourceExhausted(ApiError):
    """A limit is reached; come again later."""


class Unimplemented(ApiError):
    """A part of v1 that this engine does not have."""


class Unavailable(ApiError):
    """A part of the engine is not ready; come again later."""


class LostHead(Unavailable):
    """The file of a head is gone, or is not the one it was: the engine has to provide it again."""


class DatabaseUnavailable(Unavailable):
    """The engine's database cannot be used now: it is locked, or its disk is full. Nothing was written."""


class DeadlineExceeded(ApiError):
    """A request took longer than it may; come again later."""


class Internal(ApiError):
    """The engine itself failed."""
