"""Models of v1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from graft.operators.base import GraftOperator
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pipeline.ml_engine.resources import Model
    from pipeline.types import JsonObject


class MLEngineCreateModelOperator(GraftOperator):
    """Create a model; one of this name is taken as it is. Returns the model.

    Args:
        model: The v1 model, at least its `name`.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("model", "project_id", "impersonation_chain")

    def __init__(self, *, model: JsonObject, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.model = model

    def perform(self, context: Context) -> Model:
        """Return the model, new or old."""
        if not self.model.get("name"):
            raise ConfigError(f"{self.task_id}: `model` needs a `name`. Received: {self.model!r}")
        return self.connect().create_model(cast("Model", dict(self.model)))


class MLEngineGetModelOperator(GraftOperator):
    """Return a model, or None where there is none.

    Args:
        model_name: The model.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("model_name", "project_id", "impersonation_chain")

    def __init__(self, *, model_name: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.model_name = model_name

    def perform(self, context: Context) -> Model | None:
        """Return the model."""
        return self.connect().get_model(self.model_name)


class MLEngineDeleteModelOperator(GraftOperator):
    """Delete a model; one that is gone already is no error.

    Args:
        model_name: The model.
        delete_contents: Delete its versions first, the default one last; else a model with any is refused.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("model_name", "project_id", "impersonation_chain")

    def __init__(self, *, model_name: str, delete_contents: bool = False, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.model_name = model_name
        self.delete_contents = delete_contents

    def perform(self, context: Context) -> None:
        """Delete the model."""
        from pipeline.ml_engine.protocol import resource_id

        engine = self.connect()
        if self.delete_contents:
            versions = engine.list_versions(self.model_name)
            for version in sorted(versions, key=lambda version: bool(version.get("isDefault"))):
                engine.delete_version(self.model_name, resource_id(version))
        engine.delete_model(self.model_name)
