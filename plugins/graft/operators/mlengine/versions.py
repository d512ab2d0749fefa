"""Versions of v1."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from graft.operators.base import GraftOperator
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pipeline.ml_engine.resources import Version
    from pipeline.types import JsonObject


class V1VersionOperator(GraftOperator):
    """A step with a version of a model.

    Args:
        model_name: The model.
        version_name: The version.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("model_name", "version_name", "project_id", "impersonation_chain")

    def __init__(self, *, model_name: str, version_name: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.model_name = model_name
        self.version_name = version_name


class MLEngineCreateVersionOperator(GraftOperator):
    """Deploy a SavedModel and wait until it answers. Returns the version.

    A retry finds its own version. One of the same name with another `deploymentUri` is an error, and so is
    one with other labels, another description or scaling, unless it may be updated.

    Args:
        model_name: The model.
        version: The v1 version, at least `name` and `deploymentUri`.
        update_existing: Whether labels, description and scaling of an existing version are set as wanted.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("model_name", "version", "project_id", "impersonation_chain")

    def __init__(
        self, *, model_name: str, version: JsonObject, update_existing: bool = False, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self.model_name = model_name
        self.version = version
        self.update_existing = update_existing

    def perform(self, context: Context) -> Version:
        """Return the READY version."""
        body = version_body(self.version, task_id=self.task_id)
        return self.connect().create_version(self.model_name, body, update_existing=self.update_existing)


class MLEngineSetDefaultVersionOperator(V1VersionOperator):
    """Send a model's traffic to a version. Returns the version.

    Args:
        arguments: Those of `V1VersionOperator`.
    """

    def perform(self, context: Context) -> Version:
        """Return the version that is the default now."""
        return self.connect().set_default(self.model_name, self.version_name)


class MLEngineDeleteVersionOperator(V1VersionOperator):
    """Delete a version; one that is gone already is no error.

    Args:
        arguments: Those of `V1VersionOperator`.
    """

    def perform(self, context: Context) -> None:
        """Delete the version and wait until it is gone."""
        self.connect().delete_version(self.model_name, self.version_name)


class MLEngineListVersionsOperator(GraftOperator):
    """Return every version of a model.

    Args:
        model_name: The model.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("model_name", "project_id", "impersonation_chain")

    def __init__(self, *, model_name: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.model_name = model_name

    def perform(self, context: Context) -> list[Version]:
        """Return the versions."""
        return self.connect().list_versions(self.model_name)


def version_body(version: JsonObject, *, task_id: str) -> Version:
    """Return the v1 version that a DAG spells out, in either spelling of its fields.

    Raises:
        ConfigError: if it lacks a name or a deploymentUri.
    """
    body = {camel_case(name): value for name, value in version.items()}
    if missing := [name for name in ("name", "deploymentUri") if not body.get(name)]:
        raise ConfigError(f"{task_id}: `version` lacks {', '.join(missing)}. Received: {version!r}")
    return cast("Version", body)


def camel_case(name: str) -> str:
    """Return a field's name as v1 writes it; DAGs write `deployment_uri` too."""
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), name)
