"""Online prediction as a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from graft.operators.base import GraftOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pipeline.ml_engine.protocol import MLEngine
    from pipeline.types import JsonValue


class MLEngineOnlinePredictOperator(GraftOperator):
    """Ask a model online. Returns one prediction for each instance.

    Instances that are more than a request of v1 holds, 1,572,864 bytes, go in several. Before that the
    pictures in them are resized to the network's own size, which does not change the answer.

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
        from pipeline.deploy.payload import MAX_PAYLOAD_BYTES, payload_bytes, split_instances

        engine, instances = self.connect(), list(self.instances)
        if payload_bytes(instances) > MAX_PAYLOAD_BYTES:
            instances = self._fit(engine, instances)
        predictions: list[JsonValue] = []
        for request in split_instances(instances) if instances else [instances]:
            predictions += engine.predict(
                self.model_name, request, version=self.version_name, signature_name=self.signature_name
            )
        return predictions

    def _fit(self, engine: MLEngine, instances: list[JsonValue]) -> list[JsonValue]:
        from pipeline.deploy.payload import find_pixel_spec, fit_instances, payload_bytes
        from pipeline.ml_engine.protocol import default_version

        version = self.version_name or default_version(engine.get_model(self.model_name))
        spec = find_pixel_spec(self.workspace, engine, self.model_name, version) if version else None
        if spec is None:
            return instances
        fitting = fit_instances(instances, spec)
        self.log.info(
            "The instances have %d bytes, more than a request of v1 holds. Their pictures are sent as "
            "%d x %d pixels, the network's own size: %d bytes.",
            payload_bytes(instances),
            spec.width,
            spec.height,
            payload_bytes(fitting),
        )
        return fitting
