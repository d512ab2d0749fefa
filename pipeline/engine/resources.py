"""The wire: what requests may hold (camelCase or snake_case) and how resources are named."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel, to_snake

from pipeline.errors import InvalidArgument, Unimplemented

NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,127}")  # facts b.1: jobs, models and versions
NAME_RULE = (
    "A name should start with a letter and contain only letters, numbers and underscores, 128 at most."
)
MIN_WAIT_SECONDS = 1800  # v1's own: a queue is given half an hour at least
MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
VERSION_PATH = re.compile(r"projects/([^/]+)/models/([^/]+)(?:/versions/([^/]+))?")


def check_name(name: str, *, field: str) -> str:
    """Return the name if it keeps ML Engine's rule.

    Raises:
        InvalidArgument: naming the field and the rule.
    """
    if not NAME.fullmatch(name):
        raise InvalidArgument(f"{NAME_RULE} Received: {name!r}", field=field)
    return name


def _bucket_uri(uri: str) -> str:
    bucket, _, key = uri.removeprefix("gs://").partition("/")
    if not uri.startswith("gs://") or not bucket or ".." in key.split("/"):
        raise ValueError(f"expected gs://bucket/object; nothing else is read. Received: {uri!r}")
    return uri


def _input_path(uri: str) -> str:
    if "*" in uri[:-1]:
        raise ValueError(f"only one trailing * is allowed. Received: {uri!r}")
    return _bucket_uri(uri)


def _duration(text: str) -> str:
    if not re.fullmatch(r"\d{1,12}(\.\d{1,9})?s", text) or seconds_of(text) <= 0:
        raise ValueError(f"expected seconds, such as '7200s'. Received: {text!r}")
    return text


def _wait_time(text: str) -> str:
    if seconds_of(_duration(text)) < MIN_WAIT_SECONDS:
        raise ValueError(f"expected at least '{MIN_WAIT_SECONDS}s'. Received: {text!r}")
    return text


def _module(text: str) -> str:
    if not MODULE.fullmatch(text):
        raise ValueError(f"expected a dotted module name, such as 'trainer.task'. Received: {text!r}")
    return text


BucketUri = Annotated[str, AfterValidator(_bucket_uri)]
InputPath = Annotated[str, AfterValidator(_input_path)]
Duration = Annotated[str, AfterValidator(_duration)]
WaitTime = Annotated[str, AfterValidator(_wait_time)]
Module = Annotated[str, AfterValidator(_module)]
Labels = Annotated[dict[str, str], Field(max_length=64)]


def seconds_of(duration: str) -> float:
    """Return the seconds of `"7200s"`."""
    return float(duration.removesuffix("s"))


class Wire(BaseModel):
    """One object of a request; unknown keys are errors, known ones we do not have are 501."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)
    later: ClassVar[frozenset[str]] = frozenset()
    output_only: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def read(cls, value: Any, *, where: str) -> Self:
        """Check one object of a request.

        Raises:
            InvalidArgument: naming the first field that is wrong.
            Unimplemented: naming a field of v1 that this engine does not have.
        """
        if not isinstance(value, Mapping):
            raise InvalidArgument(f"Expected a JSON object. Received: {value!r}", field=where)
        for key in value:
            if to_snake(str(key)) in cls.later:
                field = f"{where}.{to_snake(str(key))}"
                raise Unimplemented("This engine does not have this part of ML Engine v1.", field=field)
        kept = {key: item for key, item in value.items() if to_snake(str(key)) not in cls.output_only}
        try:
            return cls.model_validate(kept)
        except ValidationError as error:
            raise _first_violation(error, where) from error

    def to_wire(self) -> dict[str, Any]:
        """Return what was set, in lowerCamelCase."""
        return self.model_dump(by_alias=True, exclude_unset=True)


def _first_violation(error: ValidationError, where: str) -> InvalidArgument:
    first = error.errors()[0]
    path = ".".join([where, *(to_snake(str(part)) for part in first["loc"])])
    if first["type"] == "extra_forbidden":
        name = path.rpartition(".")[2]
        return InvalidArgument(
            f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.', field=path
        )
    return InvalidArgument(first["msg"].removeprefix("Value error, "), field=path)


class Scheduling(Wire):
    """`trainingInput.scheduling`."""

    max_running_time: Duration = "604800s"
    max_wait_time: WaitTime | None = None
    priority: int = Field(0, ge=0, le=1000)

    def start_before(self, created: float) -> float | None:
        """Return when a job made at a moment has waited too long, in seconds of the epoch."""
        return None if self.max_wait_time is None else created + seconds_of(self.max_wait_time)


class TrainingInput(Wire):
    """`job.trainingInput`: one replica, packages and a module."""

    later = frozenset(
        "hyperparameters master_config worker_config worker_type worker_count parameter_server_config "
        "parameter_server_type parameter_server_count evaluator_config evaluator_type evaluator_count "
        "network service_account encryption_config use_chief_in_tf_config enable_web_access".split()
    )
    scale_tier: Literal["BASIC", "BASIC_GPU", "CUSTOM"] = "BASIC"
    master_type: str | None = None
    package_uris: list[BucketUri] = Field(min_length=1, max_length=100)
    python_module: Module
    args: list[str] = []
    region: str | None = None
    runtime_version: str | None = None
    python_version: str | None = None
    job_dir: BucketUri | None = None
    scheduling: Scheduling = Scheduling()


class PredictionInput(Wire):
    """`job.predictionInput`: JSON lines in, JSON lines out."""

    data_format: Literal["JSON", "TEXT"]
    input_paths: list[InputPath] = Field(min_length=1)
    output_path: BucketUri
    output_data_format: Literal["JSON"] = "JSON"
    region: str | None = None
    model_name: str | None = None
    version_name: str | None = None
    uri: BucketUri | None = None
    runtime_version: str | None = None
    signature_name: str = "serving_default"
    max_worker_count: int = Field(10, ge=1)
    batch_size: int = Field(32, ge=1, le=4096)


class JobBody(Wire):
    """The body of jobs.create."""

    output_only = frozenset(
        "create_time start_time end_time state error_message training_output prediction_output etag "
        "job_position".split()
    )
    job_id: str
    training_input: dict[str, Any] | None = None
    prediction_input: dict[str, Any] | None = None
    labels: Labels = {}


class ModelBody(Wire):
    """The body of models.create."""

    output_only = frozenset({"default_version", "etag"})
    later = frozenset({"online_prediction_logging", "online_prediction_console_logging"})
    name: str
    description: str = ""
    regions: list[str] = Field(["us-central1"], max_length=1)
    labels: Labels = {}


class VersionBody(Wire):
    """The body of versions.create."""

    output_only = frozenset({"create_time", "last_use_time", "state", "error_message", "is_default", "etag"})
    later = frozenset(
        "auto_scaling manual_scaling package_uris prediction_class accelerator_config container routes "
        "service_account request_logging_config explanation_config last_migration_model_id "
        "last_migration_time".split()
    )
    name: str
    description: str = ""
    deployment_uri: BucketUri
    runtime_version: str | None = None
    python_version: str | None = None
    framework: Literal["TENSORFLOW"] = "TENSORFLOW"
    machine_type: str | None = None
    labels: Labels = {}


Body = TypeVar("Body", bound=Wire)


def raw_input(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return `body[name]` or its snake_case twin, untouched: clients compare it with what they sent."""
    value: dict[str, Any] = body.get(name) or body[to_snake(name)]
    return value


def model_path(project: str, model: str) -> str:
    """Return the full name of a model."""
    return f"projects/{project}/models/{model}"


def version_path(project: str, model: str, version: str) -> str:
    """Return the full name of a version."""
    return f"{model_path(project, model)}/versions/{version}"
