"""What a user may say: the `Classifier` YAML, its run parameters, and the settings from the environment.

One pydantic model serves the YAML, the Airflow trigger form, the REST conf and the command line, so they
cannot disagree. Unknown keys are errors everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.errors import ConfigError
from pipeline.storage import WORKSPACE_BUCKET

NAME_PATTERN = r"^[a-zA-Z][a-zA-Z0-9_]{0,99}$"  # ML Engine's rule for model names, facts/ml_engine_v1.md b.1
PROJECT_ROOT = Path(__file__).resolve().parent.parent
SHIPPED_CLASSIFIERS = PROJECT_ROOT / "dags" / "classifiers"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceConfig(_Strict):
    """Where the pictures come from."""

    type: Literal["folder", "npz", "sample"] = Field(
        description="`folder`: a sub-folder per class. `npz`: arrays `features` and `labels`. "
        "`sample`: the pictures that come with Graft."
    )
    uri: str | None = Field(
        None,
        description="A path, `file://`, `gs://bucket/prefix` or, for `npz`, `http(s)://` address.",
    )
    classes: list[str] | None = Field(
        None,
        description="The label of class 0, of class 1, ... `npz` needs it; others take the names found.",
    )

    @model_validator(mode="after")
    def _fits_its_type(self) -> SourceConfig:
        if self.type == "sample" and self.uri is not None:
            raise ValueError(
                "a `sample` source takes no `uri`; use `type: folder` or `type: npz` for your own pictures"
            )
        if self.type != "sample" and not self.uri:
            raise ValueError(f"a `{self.type}` source needs `uri`")
        if self.type == "npz" and not self.classes:
            raise ValueError("an `npz` source needs `classes`: the label of class 0, of class 1, ...")
        if self.classes is not None and len(set(self.classes)) != len(self.classes):
            raise ValueError(f"`classes` has a label twice: {self.classes}")
        if self.classes is not None and len(self.classes) < 2:
            raise ValueError(f"a classifier needs at least two classes; `classes` has {len(self.classes)}")
        return self


class SplitConfig(_Strict):
    """Which pictures test and which train."""

    method: Literal["hash", "random"] = Field(
        "hash",
        description="`hash`: by content, sticky over later dataset versions. "
        "`random`: scikit-learn's train_test_split, as in the article.",
    )
    test_fraction: float = Field(0.2, gt=0, lt=1, description="Share of the pictures kept for the test.")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Salt of `hash`, random_state of `random`.")


class DatasetConfig(_Strict):
    """The pictures of a classifier."""

    source: SourceConfig = Field(description="Where the pictures come from.")
    split: SplitConfig = Field(
        default_factory=SplitConfig, description="Which pictures test and which train."
    )


class HeadConfig(_Strict):
    """The layers that are trained."""

    units: int = Field(
        1024, ge=1, le=16384, description="Width of the hidden layer between features and classes."
    )


class ModelConfig(_Strict):
    """The frozen network and how its new head is trained."""

    backbone: str = Field(
        "efficientnet_lite0", description="The frozen network: `efficientnet_lite0` or `inception_v3`."
    )
    weights: str = Field(
        "imagenet", description="`imagenet`, or a path or `gs://` URI of a weights file for the backbone."
    )
    head: HeadConfig = Field(default_factory=HeadConfig, description="The layers that are trained.")
    epochs: int = Field(20, ge=1, le=10_000, description="Passes over the training pictures' features.")
    batch_size: int = Field(32, ge=1, le=65_536, description="Pictures in one training step.")
    learning_rate: float = Field(0.001, gt=0, le=10, description="Step size of the Adam optimiser.")
    seed: int = Field(
        0, ge=0, le=2**31 - 1, description="Seeds the head's first weights and the order of pictures."
    )


class Limit(_Strict):
    """Bounds of one metric; at least one of the two."""

    min: float | None = Field(None, description="The metric may not be below this.")
    max: float | None = Field(None, description="The metric may not be above this.")

    @model_validator(mode="after")
    def _has_a_bound(self) -> Limit:
        if self.min is None and self.max is None:
            raise ValueError("a limit needs `min` or `max`")
        return self


class GateConfig(_Strict):
    """What a new version must reach before it is deployed."""

    absolute: dict[Literal["accuracy", "loss"], Limit] = Field(
        default_factory=dict,
        description="Bounds by metric: `accuracy` (0 to 1) and `loss` (mean negative log-likelihood).",
    )
    min_test_pictures: int = Field(1, ge=1, description="Refuse when fewer pictures than this were tested.")
    min_accuracy: float | None = Field(
        None, ge=0, le=1, description="Shorthand of `absolute: {accuracy: {min: ...}}`."
    )
    max_loss: float | None = Field(None, gt=0, description="Shorthand of `absolute: {loss: {max: ...}}`.")

    @model_validator(mode="after")
    def _has_a_rule(self) -> GateConfig:
        for short, metric, bound in (("min_accuracy", "accuracy", "min"), ("max_loss", "loss", "max")):
            limit = self.absolute.get(metric)  # type: ignore[call-overload]
            if getattr(self, short) is not None and limit is not None and getattr(limit, bound) is not None:
                raise ValueError(f"`{short}` and `absolute.{metric}.{bound}` say the same thing; keep one")
        if not self.limits and "min_test_pictures" not in self.model_fields_set:
            raise ValueError(
                "the gate has no rule; set `min_accuracy`, `max_loss`, `absolute` or `min_test_pictures`"
            )
        return self

    @property
    def limits(self) -> dict[str, Limit]:
        """Bounds by metric, the shorthands folded in."""
        limits: dict[str, Limit] = {str(metric): limit for metric, limit in self.absolute.items()}
        for metric, bound, value in (("accuracy", "min", self.min_accuracy), ("loss", "max", self.max_loss)):
            if value is not None:
                old = limits[metric].model_dump() if metric in limits else {}
                limits[metric] = Limit(**{**old, bound: value})
        return limits


class Classifier(_Strict):
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
        description="What a new version must reach; an accuracy of 0.8 unless said otherwise.",
    )
    schedule: str | None = Field(
        None, description="When to retrain: a cron line or `@daily` and the like; null for never."
    )

    @field_validator("schedule")
    @classmethod
    def _schedule_is_known(cls, value: str | None) -> str | None:
        presets = ("@once", "@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
        if value is None or value in presets or len(value.split()) == 5:
            return value
        raise ValueError(f"`schedule` is a cron line of five fields or one of {', '.join(presets)}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: what goes through Airflow and into lineage."""
        return self.model_dump(mode="json", exclude_unset=True)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], *, origin: str = "classifier") -> Classifier:
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
            raise ConfigError(f"{origin}: {_explain(error)}", origin=origin) from error


# Dotted run parameters: what one run may change. Names are the YAML's own path.
RUN_PARAMS = (
    "dataset.source.uri",
    "dataset.split.method",
    "dataset.split.test_fraction",
    "dataset.split.seed",
    "model.backbone",
    "model.weights",
    "model.head.units",
    "model.epochs",
    "model.batch_size",
    "model.learning_rate",
    "model.seed",
    "gate.min_accuracy",
    "gate.max_loss",
    "gate.min_test_pictures",
)


def _explain(error: ValidationError) -> str:
    parts = []
    for item in error.errors():
        key = ".".join(str(piece) for piece in item["loc"]) or "(the whole file)"
        if item["type"] == "extra_forbidden":
            parts.append(f"unknown key `{key}`; remove it or correct its spelling")
        elif item["type"] == "missing":
            parts.append(f"`{key}` is missing; add it")
        else:
            parts.append(f"`{key}`: {item['msg'].removeprefix('Value error, ')}. Received: {item['input']!r}")
    return "; ".join(parts)


def parameter_schema(name: str) -> dict[str, Any]:
    """Return the JSON schema and description of one dotted run parameter."""
    model: type[BaseModel] = Classifier
    *path, leaf = name.split(".")
    for part in path:
        model = model.model_fields[part].annotation  # type: ignore[assignment]
    schema: dict[str, Any] = model.model_json_schema()["properties"][leaf]
    return schema


def parameter_value(classifier: Classifier, name: str) -> Any:
    """Return the value that a dotted run parameter has in a classifier."""
    value: Any = classifier
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _full_name(name: str) -> str:
    found = [known for known in RUN_PARAMS if known == name or known.endswith(f".{name}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"parameter `{name}` is ambiguous; say one of {', '.join(found)}", unknown=[name])
    raise ConfigError(f"unknown parameter `{name}`; known: {', '.join(RUN_PARAMS)}", unknown=[name])


def with_params(classifier: Classifier, params: Mapping[str, Any]) -> Classifier:
    """Return the classifier with one run's dotted parameters applied, checked again as a whole.

    A null leaves the YAML's value. A name may be shortened from the left while no other ends like it:
    `epochs`, `split.seed`.

    Raises:
        ConfigError: for an unknown parameter (the known ones are listed) or a bad value.
    """
    value = classifier.to_dict()
    value.setdefault("gate", classifier.gate.model_dump(exclude_unset=True))
    for short, setting in params.items():
        name = _full_name(short)
        if setting is None or setting == parameter_value(classifier, name):
            continue
        *path, leaf = name.split(".")
        section = value
        for part in path:
            section = section.setdefault(part, {})
        section[leaf] = setting
        _drop_shorthand_twin(value, name)
    return Classifier.from_dict(value, origin=f"parameters of {classifier.name}")


def _drop_shorthand_twin(value: dict[str, Any], name: str) -> None:
    twins = {"gate.min_accuracy": ("accuracy", "min"), "gate.max_loss": ("loss", "max")}
    if name not in twins:
        return
    metric, bound = twins[name]
    absolute = value["gate"].get("absolute", {})
    limit = absolute.get(metric, {})
    limit.pop(bound, None)
    if metric in absolute and not any(bound is not None for bound in limit.values()):
        del absolute[metric]


class Settings(BaseSettings):
    """What the environment says; every variable starts with `GRAFT_`."""

    model_config = SettingsConfigDict(env_prefix="GRAFT_", extra="ignore", frozen=True)

    home: Path = Field(
        Path(".graft"), description="Directory of all state: buckets, engine, Airflow, logs, secrets."
    )
    classifiers: str = Field("", description="Further directories of classifier YAML, separated by `:`.")
    buckets: str = Field("", description="Directories that stand for buckets: `name=/directory,...`.")
    bucket: str = Field(WORKSPACE_BUCKET, description="The bucket that holds datasets, models and runs.")
    project: str = Field("local", description="The project in ML Engine's resource names.")

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @property
    def workspace(self) -> str:
        """URI of the bucket that holds datasets, models and runs, without a trailing slash."""
        return f"gs://{self.bucket}"

    @property
    def classifier_directories(self) -> list[Path]:
        """The shipped directory, then those of `GRAFT_CLASSIFIERS`."""
        further = [Path(part).expanduser().absolute() for part in self.classifiers.split(os.pathsep) if part]
        return [SHIPPED_CLASSIFIERS, *further]


def read_classifier(path: Path) -> Classifier:
    """Read one YAML file; its relative paths are looked for beside it, then in the project's root.

    Raises:
        ConfigError: naming the file, the key and the fix.
    """
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}", origin=str(path)) from error
    if not isinstance(value, dict):
        raise ConfigError(
            f"{path}: expected a mapping with `name` and `dataset`. Received: {value!r}", origin=str(path)
        )
    Classifier.from_dict(value, origin=str(path))
    for *sections, leaf in (("dataset", "source", "uri"), ("model", "weights")):
        section = value
        for name in sections:
            section = section.get(name, {})
        if section.get(leaf):
            section[leaf] = absolute_uri(section[leaf], (path.parent, PROJECT_ROOT))
    return Classifier.from_dict(value, origin=str(path))


def absolute_uri(uri: str, bases: Sequence[Path]) -> str:
    """Return a relative path as an absolute one under the first base that has it, anything else unchanged."""
    path = Path(uri).expanduser()
    if "://" in uri or uri == "imagenet" or path.is_absolute():
        return uri if "://" in uri else str(path)
    candidates = [Path(os.path.normpath(base.absolute() / path)) for base in bases]
    return str(next((found for found in candidates if found.exists()), candidates[0]))


def classifier_files(settings: Settings) -> list[Path]:
    """Return the YAML files of every classifier directory, shipped ones first."""
    found = []
    for directory in settings.classifier_directories:
        found += sorted(path for path in directory.glob("*.y*ml") if path.suffix in (".yaml", ".yml"))
    return found


def find_classifier(name: str, settings: Settings) -> Classifier:
    """Return the classifier of this name.

    Raises:
        ConfigError: if no YAML has it; the message lists the names there are and the broken files.
    """
    known, broken = [], []
    for path in classifier_files(settings):
        try:
            classifier = read_classifier(path)
        except ConfigError as error:
            if path.stem == name:
                raise
            broken.append(str(error))
            continue
        if classifier.name == name:
            return classifier
        known.append(classifier.name)
    message = (
        f"no classifier is named {name!r}; known: {', '.join(sorted(known)) or 'none'}. Add NAME.yaml to "
    )
    message += "dags/classifiers or to a directory of GRAFT_CLASSIFIERS."
    raise ConfigError(message + ("" if not broken else f" Broken: {'; '.join(broken)}"), classifier=name)
