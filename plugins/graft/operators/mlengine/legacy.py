"""The names that the operators had before: `Manage*` of provider 14 and older, and those of Airflow 1.10."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from graft.operators.base import GraftOperator
from graft.operators.mlengine.jobs import (
    MLEngineStartBatchPredictionJobOperator,
    MLEngineStartTrainingJobOperator,
)
from graft.operators.mlengine.versions import version_body
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from graft.operators.base import StepOutput
    from pipeline.ml_engine.resources import Model
    from pipeline.types import JsonObject

MODEL_OPERATIONS = ("create", "get")
VERSION_OPERATIONS = ("create", "set_default", "list", "delete")


class MLEngineManageModelOperator(GraftOperator):
    """Create or get a model. Returns the model; None if there is none to get.

    Args:
        model: The v1 model, at least its `name`.
        operation: `create` or `get`.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("model", "operation", "project_id", "impersonation_chain")

    def __init__(self, *, model: JsonObject, operation: str = "create", **arguments: Any) -> None:
        super().__init__(**arguments)
        self.model = model
        self.operation = operation

    def perform(self, context: Context) -> StepOutput:
        """Return the model."""
        _check_operation(self.task_id, self.operation, MODEL_OPERATIONS)
        if not self.model.get("name"):
            raise ConfigError(f"{self.task_id}: `model` needs a `name`. Received: {self.model!r}")
        engine = self.connect()
        if self.operation == "get":
            return engine.get_model(str(self.model["name"]))
        return engine.create_model(cast("Model", dict(self.model)))


class MLEngineManageVersionOperator(GraftOperator):
    """Create, list or delete versions of a model, or set its default one.

    Args:
        model_name: The model.
        version_name: The version; to create one, `version` may have its name instead.
        version: The v1 version to create, at least its `deploymentUri`.
        operation: `create`, `set_default`, `list` or `delete`.
        update_existing: Whether labels, description and scaling of an existing version are set as wanted.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = (
        *("model_name", "version_name", "version", "operation"),
        *("project_id", "impersonation_chain"),
    )

    def __init__(
        self,
        *,
        model_name: str,
        version_name: str | None = None,
        version: JsonObject | None = None,
        operation: str = "create",
        update_existing: bool = False,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.model_name = model_name
        self.version_name = version_name
        self.version = version
        self.operation = operation
        self.update_existing = update_existing

    def perform(self, context: Context) -> StepOutput:
        """Return the version, all versions, or nothing."""
        _check_operation(self.task_id, self.operation, VERSION_OPERATIONS)
        engine = self.connect()
        if self.operation == "list":
            return engine.list_versions(self.model_name)
        version = dict(self.version or {})
        name = str(version.get("name") or self.version_name or "")
        if self.operation == "create":
            body = version_body(version | {"name": name}, task_id=self.task_id)
            return engine.create_version(self.model_name, body, update_existing=self.update_existing)
        if not name:
            raise ConfigError(f"{self.task_id}: `{self.operation}` needs a `version_name`.")
        if self.operation == "set_default":
            return engine.set_default(self.model_name, name)
        engine.delete_version(self.model_name, name)
        return None


def _check_operation(task_id: str, operation: str, operations: Sequence[str]) -> None:
    if operation not in operations:
        raise ConfigError(
            f"{task_id}: `operation` is one of {', '.join(operations)}. Received: {operation!r}",
            operation=operation,
        )


class MLEngineTrainingOperator(MLEngineStartTrainingJobOperator):
    """Train on ML Engine: `MLEngineStartTrainingJobOperator` by its name in Airflow 1.10."""


class MLEngineBatchPredictionOperator(MLEngineStartBatchPredictionJobOperator):
    """Let a model predict files: `MLEngineStartBatchPredictionJobOperator` by its name in Airflow 1.10."""


class MLEngineModelOperator(MLEngineManageModelOperator):
    """Create or get a model: `MLEngineManageModelOperator` by its name in Airflow 1.10."""


class MLEngineVersionOperator(MLEngineManageVersionOperator):
    """Manage versions: `MLEngineManageVersionOperator` by its name in Airflow 1.10."""
