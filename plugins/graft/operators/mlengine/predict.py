"""Online prediction as a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from graft.operators.base import GraftOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pipeline.types import JsonValue


class MLEngineOnlinePredictOperator(GraftOperator):
    """Ask a model online. Returns one prediction for each instance.

    Args:
        model_name: The model.
        instances: What it is asked about, in v1's JSON: `{"b64": "..."}` is bytes.
        version_name: A version; the default one unless given.
        signature_name: The SavedModel's signature.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("model_name", "instances", "version_name", "project_id")

    def __init__(
        self,
        *,
        model_name: str,
        instances: Sequence[JsonValue],
        version_name: str | None = None,
        signature_name: str | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.model_name = model_name
        self.instances = instances
        self.version_name = version_name
        self.signature_name = signature_name

    def perform(self, context: Context) -> list[JsonValue]:
        """Return the predictions."""
        return self.connect().predict(
            self.model_name,
            list(self.instances),
            version=self.version_name,
            signature_name=self.signature_name,
        )
