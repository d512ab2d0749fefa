"""The resources of v1 as requests send them, and their full names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from pydantic.alias_generators import to_snake

from pipeline.engine.v1.fields import (
    BucketUri,
    Duration,
    InputPath,
    Labels,
    Module,
    WaitTime,
    Wire,
    because,
    seconds_of,
)
from pipeline.engine.v1.hyperparameters import HyperparameterSpec
from pipeline.types import JsonValue

VERSION_PATH = re.compile(r"projects/([^/]+)/models/([^/]+)(?:/versions/([^/]+))?")
TABLE = r"^[A-Za-z0-9_-]+[.:][A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$"


class Scheduling(Wire):
    """`trainingInput.scheduling`."""

    path_prefix = "scheduling"
    max_running_time: Duration = "604800s"
    max_wait_time: WaitTime | None = None
    priority: int = Field(0, ge=0, le=1000)

    def start_before(self, created: float) -> float | None:
        """Return when a job created at that time has waited too long, in seconds of the epoch."""
        return None if self.max_wait_time is None else created + seconds_of(self.max_wait_time)


class TrainingInput(Wire):
    """`job.trainingInput`: one replica, packages and a module."""

    unsupported = {
        **because(
            "one replica, no containers",
            "master_config worker_config worker_type worker_count parameter_server_config "
            "parameter_server_type parameter_server_count evaluator_config evaluator_type evaluator_count",
        ),
        **because(
            "jobs run on this machine as the engine itself",
            "network service_account encryption_config use_chief_in_tf_config enable_web_access",
        ),
    }
    unsupported_values = {"scale_tier": because("one machine, no TPU", "STANDARD_1 PREMIUM_1 BASIC_TPU")}
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
    hyperparameters: HyperparameterSpec | None = None

    @classmethod
    def means_nothing(cls, name: str, value: Mapping[str, JsonValue]) -> bool:
        """Return True for no workers: a count of 0, and what such workers would be."""
        role = name.rpartition("_")[0]
        counts = [item for key, item in value.items() if to_snake(str(key)) == f"{role}_count"]
        return counts in ([0], ["0"]) or super().means_nothing(name, value)

    @model_validator(mode="after")
    def _machine(self) -> Self:
        if (self.scale_tier == "CUSTOM") != bool(self.master_type):
            raise ValueError("masterType must be set if, and only if, scaleTier is CUSTOM.")
        return self


class PredictionInput(Wire):
    """`job.predictionInput`: JSON lines in, JSON lines out."""

    unspecified = {
        "data_format": {"DATA_FORMAT_UNSPECIFIED": "JSON"},
        "output_data_format": {"DATA_FORMAT_UNSPECIFIED": "JSON"},
    }
    unsupported_values = dict.fromkeys(
        ("data_format", "output_data_format"),
        because("convert them to JSON lines", "TF_RECORD TF_RECORD_GZIP CSV"),
    )
    zero_is_absent = frozenset(("max_worker_count", "batch_size"))
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
    batch_size: int = Field(64, ge=1, le=4096)


class JobBody(Wire):
    """The body of jobs.create. The inputs are kept as they came: clients compare them with what they sent."""

    output_only = frozenset(
        "create_time start_time end_time state error_message training_output prediction_output etag "
        "job_position".split()
    )
    job_id: str
    training_input: dict[str, Any] | None = None
    prediction_input: dict[str, Any] | None = None
    labels: Labels = {}


class ModelSpec(Wire):
    """What a client says of a model."""

    name: str
    description: str = ""
    regions: list[str] = Field(["us-central1"], max_length=1)
    online_prediction_logging: bool = False
    online_prediction_console_logging: bool = False
    labels: Labels = {}


class ModelBody(ModelSpec):
    """The body of models.create."""

    output_only = frozenset({"default_version", "etag"})


class Metric(Wire):
    """One of `version.autoScaling.metrics`."""

    name: Literal["CPU_USAGE", "GPU_DUTY_CYCLE"]
    target: int = Field(60, ge=1, le=100)


class AutoScaling(Wire):
    """`version.autoScaling`; without `minNodes` the engine decides how long a version stays loaded."""

    path_prefix = "auto_scaling"
    min_nodes: int | None = Field(None, ge=0, le=1000)
    max_nodes: int = Field(1, ge=1, le=1000)
    metrics: list[Metric] = []


class ManualScaling(Wire):
    """`version.manualScaling`."""

    path_prefix = "manual_scaling"
    nodes: int = Field(1, ge=1, le=1000)


class RequestLoggingConfig(Wire):
    """`version.requestLoggingConfig`: the fraction of predictions that is logged, and the table."""

    path_prefix = "request_logging_config"
    sampling_percentage: float = Field(0, ge=0, le=1)
    bigquery_table_name: str = Field(pattern=TABLE)


class VersionPatch(Wire):
    """What may be changed of a version."""

    description: str = ""
    labels: Labels = {}
    auto_scaling: AutoScaling | None = None
    manual_scaling: ManualScaling | None = None
    request_logging_config: RequestLoggingConfig | None = None

    @model_validator(mode="after")
    def _one_scaling(self) -> Self:
        if self.auto_scaling and self.manual_scaling:
            raise ValueError("autoScaling and manualScaling exclude each other.")
        return self

    @property
    def min_nodes(self) -> int | None:
        """How many nodes stay up: 0 loads the version on demand, None leaves it to the engine."""
        if self.manual_scaling:
            return self.manual_scaling.nodes
        return self.auto_scaling.min_nodes if self.auto_scaling else None


class VersionSpec(VersionPatch):
    """What a client says of a version."""

    name: str
    deployment_uri: BucketUri
    runtime_version: str | None = None
    python_version: str | None = None
    framework: Literal["TENSORFLOW", "FRAMEWORK_UNSPECIFIED"] = "TENSORFLOW"
    machine_type: str | None = None


class VersionBody(VersionSpec):
    """The body of versions.create; `requestLoggingConfig` has no effect there, as in v1."""

    output_only = frozenset(
        "create_time last_use_time state error_message is_default etag request_logging_config "
        "last_migration_model_id last_migration_time".split()
    )
    unsupported = because(
        "a version is a model without code, served by the engine itself",
        "package_uris prediction_class accelerator_config container routes service_account "
        "explanation_config",
    )
    unsupported_values = {"framework": because("export them to ONNX", "SCIKIT_LEARN XGBOOST")}


def model_path(project: str, model: str) -> str:
    """Return the full name of a model."""
    return f"projects/{project}/models/{model}"


def version_path(project: str, model: str, version: str) -> str:
    """Return the full name of a version."""
    return f"{model_path(project, model)}/versions/{version}"
