"""The training input of an engine whose jobs may have several replicas: workers, parameter servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic.alias_generators import to_camel, to_snake

from pipeline.engine.v1.fields import Wire, because
from pipeline.engine.v1.resources import TrainingInput
from pipeline.types import JsonValue

ROLES = {"worker": "worker", "parameter_server": "ps", "evaluator": "evaluator"}  # v1's, TensorFlow's
TIERS = {  # besides the master; what v1 had for them
    "STANDARD_1": {"worker": 4, "ps": 3},
    "PREMIUM_1": {"worker": 19, "ps": 11},
}
MAX_REPLICAS = 1000


class AcceleratorConfig(Wire):
    """`acceleratorConfig` of replicas: how many GPUs each has; the type is kept."""

    count: int = Field(0, ge=0, le=64)
    type: str = ""


class ReplicaConfig(Wire):
    """What each replica of a role has."""

    unsupported = because("no containers", "image_uri container_command container_args") | because(
        "the nodes of the cluster are what they are", "disk_config tpu_tf_version"
    )
    accelerator_config: AcceleratorConfig = AcceleratorConfig()


class MasterConfig(ReplicaConfig):
    """`trainingInput.masterConfig`."""

    path_prefix = "master_config"


class WorkerConfig(ReplicaConfig):
    """`trainingInput.workerConfig`."""

    path_prefix = "worker_config"


class ParameterServerConfig(ReplicaConfig):
    """`trainingInput.parameterServerConfig`."""

    path_prefix = "parameter_server_config"


class EvaluatorConfig(ReplicaConfig):
    """`trainingInput.evaluatorConfig`."""

    path_prefix = "evaluator_config"


class DistributedTrainingInput(TrainingInput):
    """`job.trainingInput`: packages and a module, which each of its replicas runs."""

    unsupported = because(
        "jobs run as the nodes of the cluster do",
        "network service_account encryption_config enable_web_access",
    )
    unsupported_values = {"scale_tier": because("no TPU", "BASIC_TPU")}
    scale_tier: Literal["BASIC", "BASIC_GPU", "CUSTOM", "STANDARD_1", "PREMIUM_1"] = "BASIC"  # type: ignore[assignment]
    master_config: MasterConfig = MasterConfig()
    worker_type: str | None = None
    worker_count: int = Field(0, ge=0, le=MAX_REPLICAS)
    worker_config: WorkerConfig = WorkerConfig()
    parameter_server_type: str | None = None
    parameter_server_count: int = Field(0, ge=0, le=MAX_REPLICAS)
    parameter_server_config: ParameterServerConfig = ParameterServerConfig()
    evaluator_type: str | None = None
    evaluator_count: int = Field(0, ge=0, le=1)
    evaluator_config: EvaluatorConfig = EvaluatorConfig()
    use_chief_in_tf_config: bool = False  # of custom containers; TF_CONFIG has a chief in any case

    @model_validator(mode="before")
    @classmethod
    def _drop_absent_replicas(cls, value: JsonValue) -> JsonValue:
        """Drop what the replicas of a role would be that has a count of 0."""
        if not isinstance(value, Mapping):
            return value
        counts = {to_snake(str(key)): item for key, item in value.items()}
        absent = [role for role in ROLES if counts.get(f"{role}_count") in (0, "0")]
        names = {f"{role}_{part}" for role in absent for part in ("type", "count", "config")}
        return {key: item for key, item in value.items() if to_snake(str(key)) not in names}

    @model_validator(mode="after")
    def _replicas(self) -> Self:
        for role in ROLES:
            kind, count = getattr(self, f"{role}_type"), getattr(self, f"{role}_count")
            num_gpus = getattr(self, f"{role}_config").accelerator_config.count
            values = {"count": count, "type": kind, "config": num_gpus}
            names = [to_camel(f"{role}_{part}") for part, value in values.items() if value]
            if names and self.scale_tier != "CUSTOM":
                raise ValueError(f"{names[0]} may be set only if scaleTier is CUSTOM.")
            if names and not (count and kind):
                raise ValueError(
                    f"{to_camel(f'{role}_count')} and {to_camel(f'{role}_type')} must be set together."
                )
        return self

    @property
    def replicas(self) -> dict[str, int]:
        """How many replicas it has of each role besides the master, by TensorFlow's names."""
        counts = {short: getattr(self, f"{role}_count") for role, short in ROLES.items()}
        return {role: count for role, count in TIERS.get(self.scale_tier, counts).items() if count}

    @property
    def num_gpus(self) -> dict[str, int]:
        """How many GPUs each replica of a role has."""
        configs = {short: getattr(self, f"{role}_config") for role, short in ROLES.items()}
        counts = {role: config.accelerator_config.count for role, config in configs.items()}
        own = self.master_config.accelerator_config.count or int(self.scale_tier == "BASIC_GPU")
        return {role: count for role, count in {"chief": own, **counts}.items() if count}
