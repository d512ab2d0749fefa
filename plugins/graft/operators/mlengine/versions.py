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

    A retry finds its own version; one of the same name with another `deploymentUri` is an error.

    Args:
        model_name: The model.
        version: The v1 version, at least `name` and `deploymentUri`.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("model_name", "version", "project_id", "impersonation_chain")

    def __init__(self, *, model_name: str, version: JsonObject, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.model_name = model_name
        self.version = version

    def perform(self, context: Context) -> Version:
        """Return the READY version."""
        body = {camel_case(name): value for name, value in self.version.items()}
        missing = [name for name in ("name", "deploymentUri") if not body.get(name)]
        if missing:
            raise ConfigError(
                f"{self.task_id}: `version` lacks {', '.join(missing)}. Received: {self.version!r}"
            )
        return self.connect().create_version(self.model_name, cast("Version", body))


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


def camel_case(name: str) -> str:
    """Return a field's name as v1 writes it; DAGs write `deployment_uri` too."""
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), name)
