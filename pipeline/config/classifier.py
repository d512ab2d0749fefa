"""A classifier: the whole YAML file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationError, field_validator

from pipeline.config.dataset import DatasetConfig
from pipeline.config.deploy import DeployConfig
from pipeline.config.gate import GateConfig
from pipeline.config.model import ModelConfig
from pipeline.config.notify import NotifyConfig
from pipeline.config.problems import explain_errors
from pipeline.config.retrain import ON_DATASET_CHANGE, RetrainConfig
from pipeline.config.serving import ServingConfig
from pipeline.config.strict import Strict
from pipeline.errors import ConfigError
from pipeline.types import JsonDict, JsonObject

NAME_PATTERN = r"^[a-zA-Z][a-zA-Z0-9_]{0,99}$"  # ML Engine's rule for model names
STAGING_SUFFIX = "__candidate"  # of the hidden model that tests a first version before it serves


class Classifier(Strict):
    """One image classifier: its pictures, its model, its gate and its schedule."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)] = Field(
        description="Letters, digits and underscores; it names the DAG and the ML Engine model."
    )
    description: str = Field("", description="One line that says what it tells apart.")
    dataset: DatasetConfig = Field(description="The pictures.")
    model: ModelConfig = Field(
        default_factory=ModelConfig, description="The frozen network and its new head."
    )
    gate: GateConfig = Field(
        default_factory=lambda: GateConfig(min_accuracy=0.8),
        description="What a new version must reach; an accuracy of 0.8 by default.",
    )
    serving: ServingConfig = Field(
        default_factory=ServingConfig, description="How a deployed version answers."
    )
    deploy: DeployConfig = Field(
        default_factory=DeployConfig, description="Who lets a version through that passed its gate."
    )
    schedule: str | None = Field(
        None,
        description="When to retrain: a cron line, `@daily` and the like, or `on_dataset_change`: at an "
        "event of new pictures; null for never.",
    )
    retrain: RetrainConfig = Field(
        default_factory=RetrainConfig, description="What a run does when there is nothing new."
    )
    notify: list[NotifyConfig] = Field(
        default_factory=lambda: [NotifyConfig(to="log")],
        description="Who is notified how a run ended; a line in Airflow's log by default.",
    )

    @field_validator("name")
    @classmethod
    def _name_is_not_reserved(cls, value: str) -> str:
        if value.endswith(STAGING_SUFFIX):
            raise ValueError(f"names that end with `{STAGING_SUFFIX}` are reserved for versions under test")
        return value

    @field_validator("schedule")
    @classmethod
    def _schedule_is_known(cls, value: str | None) -> str | None:
        presets = ("@once", "@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
        names = (*presets, ON_DATASET_CHANGE)
        if value is None or value in names or len(value.split()) == 5:
            return value
        raise ValueError(f"`schedule` is a cron line of five fields or one of {', '.join(names)}")

    @property
    def asks_a_person(self) -> bool:
        """Whether a version may need a person's approval."""
        asked = (self.gate.first_version, self.gate.classes_changed)
        return self.deploy.require_approval or "require_approval" in asked

    def to_dict(self) -> JsonDict:
        """Return plain JSON values: what goes through Airflow and into lineage."""
        return self.model_dump(mode="json", exclude_unset=True)

    @classmethod
    def from_dict(cls, value: JsonObject, *, origin: str = "classifier") -> Classifier:
        """Check a mapping and build the classifier.

        Args:
            value: The mapping, as YAML or JSON gave it.
            origin: The file or run it came from, for the message.

        Raises:
            ConfigError: with the origin, each wrong key, and how to fix it.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise ConfigError(f"{origin}: {explain_errors(error, value, cls)}", origin=origin) from error
