"""The resources of v1 as responses show them. A field without a value is absent."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, RootModel

from pipeline.engine.v1.fields import Labels, Message
from pipeline.engine.v1.resources import ModelSpec, VersionSpec
from pipeline.ml_v1 import JobState

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Int64 = Annotated[str, Field(pattern="^-?[0-9]{1,19}$")]  # as in all of proto3's JSON


class Empty(Message):
    """`{}`."""


class FieldViolation(Message):
    """A field of the request that is wrong."""

    field: str
    description: str


class ErrorDetail(Message):
    """A `google.rpc.BadRequest`."""

    type_url: str = Field(alias="@type")
    field_violations: list[FieldViolation]


class Status(Message):
    """A `google.rpc.Status`: the error of an operation, and, with `status`, that of a response."""

    code: int
    message: str
    status: str | None = None
    details: list[ErrorDetail] | None = None


class Error(Message):
    """The body of every response that is not a success."""

    error: Status


class PredictionOutput(Message):
    """`job.predictionOutput`."""

    output_path: str
    prediction_count: Int64
    error_count: Int64
    node_hours: float


class HyperparameterMetric(Message):
    """A metric that a trial reported."""

    training_step: Int64
    objective_value: float


class HyperparameterOutput(Message):
    """One of `job.trainingOutput.trials`."""

    trial_id: str
    hyperparameters: dict[str, str]
    final_metric: HyperparameterMetric | None = None
    is_trial_stopped_early: bool | None = None
    state: JobState
    start_time: Time | None = None
    end_time: Time | None = None


class TrainingOutput(Message):
    """`job.trainingOutput`; a job that tunes nothing has none of its fields."""

    completed_trial_count: Int64 | None = None
    trials: list[HyperparameterOutput] | None = None
    is_hyperparameter_tuning_job: bool | None = None
    hyperparameter_metric_tag: str | None = None


class Job(Message):
    """A job. `trainingInput` and `predictionInput` are shown as they were sent."""

    job_id: str
    training_input: dict[str, Any] | None = None
    prediction_input: dict[str, Any] | None = None
    create_time: Time
    start_time: Time | None = None
    end_time: Time | None = None
    labels: Labels | None = None
    state: JobState
    error_message: str | None = None
    prediction_output: PredictionOutput | None = None
    training_output: TrainingOutput | None = None
    etag: str
    job_position: Int64 | None = None


class JobLog(Message):
    """A piece of a job's log."""

    log: str
    next_offset: Int64
    complete: bool


class VersionState(StrEnum):
    """States of a version; the value is the spelling on the wire."""

    READY = "READY"
    CREATING = "CREATING"
    FAILED = "FAILED"
    DELETING = "DELETING"

    @property
    def is_changing(self) -> bool:
        """Whether the version is being created or deleted."""
        return self in (VersionState.CREATING, VersionState.DELETING)


class Version(VersionSpec):
    """A version of a model."""

    create_time: Time
    state: VersionState
    is_default: bool | None = None
    last_use_time: Time | None = None
    error_message: str | None = None
    etag: str


class Model(ModelSpec):
    """A model."""

    default_version: Version | None = None
    etag: str


class VersionName(Message):
    """The version that an operation changes."""

    name: str


class OperationMetadata(Message):
    """`operation.metadata`."""

    type_url: str = Field(alias="@type")
    create_time: Time
    start_time: Time
    operation_type: str
    model_name: str
    project_number: Int64
    end_time: Time | None = None
    version: VersionName | None = None
    labels: Labels | None = None
    is_cancellation_requested: bool | None = None


class Operation(Message):
    """A long-running change of a model or a version."""

    name: str
    metadata: OperationMetadata
    done: Literal[True] | None = None
    error: dict[str, Any] | None = None
    response: dict[str, Any] | None = None


class TpuConfig(Message):
    """`config` of projects.getConfig."""

    tpu_service_account: str


class Config(Message):
    """The answer of projects.getConfig."""

    service_account: str
    service_account_project: Int64
    config: TpuConfig


class Capability(Message):
    """What a location can do."""

    type: str


class Location(Message):
    """Where jobs and versions run."""

    name: str
    capabilities: list[Capability]


class JobList(Message):
    """A page of jobs."""

    jobs: list[Job] | None = None
    next_page_token: str | None = None


class ModelList(Message):
    """A page of models."""

    models: list[Model] | None = None
    next_page_token: str | None = None


class VersionList(Message):
    """A page of versions."""

    versions: list[Version] | None = None
    next_page_token: str | None = None


class OperationList(Message):
    """A page of operations."""

    operations: list[Operation] | None = None
    next_page_token: str | None = None


class LocationList(Message):
    """A page of locations."""

    locations: list[Location] | None = None


class Predictions(Message):
    """One prediction per instance, in order."""

    predictions: list[Any]


class PredictionError(Message):
    """Why nothing was predicted."""

    error: str


class Prediction(RootModel[Predictions | PredictionError]):
    """The body of a prediction's response."""


class PredictionRequest(BaseModel):
    """The body of a prediction's request; the worker reads it."""

    instances: list[Any]
    signature_name: str = "serving_default"


class ManyPredictionsRequest(PredictionRequest):
    """The body of a request to several models; a model is `MODEL` or `MODEL/versions/VERSION`."""

    models: list[str]


class ManyPredictions(BaseModel):
    """The answers of several models: for each what its own `predict` would answer, errors included."""

    results: dict[str, Prediction | Error]


class FeedbackRequest(BaseModel):
    """Pictures whose answers were wrong, and the right label of each; not part of v1."""

    instances: list[Any]
    labels: list[str]
    origin: str = ""
    who: str = ""


class ReaderTokenRequest(BaseModel):
    """Who or what a reader token is for; not part of v1."""

    name: str


class RevokeReaderTokenRequest(BaseModel):
    """The id of a reader token; not part of v1."""

    id: str


class ReaderTokenResource(BaseModel):
    """What is kept of a reader token."""

    id: str
    name: str
    created: str


class NewReaderToken(ReaderTokenResource):
    """A reader token that was made just now."""

    token: str


class RevokedReaderToken(BaseModel):
    """The id of a reader token that is refused from now on."""

    id: str


class ReaderTokenList(BaseModel):
    """The reader tokens of a model, the oldest first."""

    tokens: list[ReaderTokenResource]


class Feedback(BaseModel):
    """The ids of the pictures that are kept, in the order of the instances."""

    feedback: list[str]
