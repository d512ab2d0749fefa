"""The `gate` section: what a new version must reach."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipeline.config.strict import Strict


class Limit(Strict):
    """Bounds of one metric; at least one of the two."""

    min: float | None = Field(None, description="The metric may not be below this.")
    max: float | None = Field(None, description="The metric may not be above this.")

    @model_validator(mode="after")
    def _has_a_bound(self) -> Limit:
        if self.min is None and self.max is None:
            raise ValueError("a limit needs `min` or `max`")
        return self


class GateConfig(Strict):
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
