"""The `gate` section: what a new version must reach."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from pipeline.config.strict import Strict

MetricName: TypeAlias = Literal[
    "accuracy",
    "loss",
    "macro_f1",
    "weighted_f1",
    "macro_precision",
    "macro_recall",
    "top_2_accuracy",
    "top_3_accuracy",
    "top_5_accuracy",
    "roc_auc",
    "pr_auc",
    "brier",
    "ece",
]
ClassMetricName: TypeAlias = Literal["precision", "recall", "f1", "roc_auc", "pr_auc"]
SliceMetricName: TypeAlias = Literal["accuracy", "loss", "macro_f1"]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
ChangeAction: TypeAlias = Literal["allow", "require_approval", "refuse"]
LOWER_IS_BETTER = frozenset({"loss", "brier", "ece"})


class Limit(Strict):
    """Bounds of one metric; at least one of the three."""

    min: float | None = Field(None, description="The metric may not be below this.")
    max: float | None = Field(None, description="The metric may not be above this.")
    min_lower_bound: float | None = Field(
        None, description="The lower end of the metric's 95 % interval may not be below this."
    )

    @model_validator(mode="after")
    def _has_a_bound(self) -> Limit:
        if self.min is None and self.max is None and self.min_lower_bound is None:
            raise ValueError("a limit needs `min`, `max` or `min_lower_bound`")
        return self


class GateDefaults(Strict):
    """The rules that are in force beside a gate's own; each can be switched off."""

    informative: bool = Field(
        True, description="Refuse answers that do not depend on the labels, or that never name a class."
    )
    not_worse: bool = Field(True, description="Refuse a model shown to be less accurate than the champion.")
    class_drop: bool = Field(
        True,
        description="Refuse a class shown to be worse than the champion's by `max_class_drop`.",
    )
    ratchet: bool = Field(
        True,
        description="Refuse a model shown to be less accurate than the best of the last 365 days.",
    )

    @property
    def switched_off(self) -> tuple[str, ...]:
        """The rules that are not in force."""
        return tuple(name for name, is_on in self.model_dump().items() if not is_on)


class Drop(Strict):
    """How much worse than the champion one metric may be; at least one of the two."""

    max_drop: float | None = Field(None, ge=0, description="In the metric's own unit.")
    max_relative_drop: float | None = Field(None, ge=0, description="As a share of the champion's value.")

    @model_validator(mode="after")
    def _has_a_bound(self) -> Drop:
        if self.max_drop is None and self.max_relative_drop is None:
            raise ValueError("a change needs `max_drop` or `max_relative_drop`")
        return self


class NonInferiority(Strict):
    """The proof that the candidate's accuracy is not worse than the champion's by more than a margin."""

    margin: float = Field(gt=0, lt=1, description="The loss of accuracy that would still be borne.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Of the one-sided bound that is held to it.")


class ClassLimit(Strict):
    """What every class must reach."""

    min: Share = Field(description="No class may be below this.")


class SliceRule(Strict):
    """A part of the test pictures that is shown by itself, and what each value of it must reach."""

    by: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = Field(
        description="`label`, `source`, `size`, or a column of the manifest."
    )
    metric: SliceMetricName = Field("accuracy", description="`accuracy`, `loss` or `macro_f1`.")
    min: float | None = Field(None, description="The metric may not be below this in any slice.")
    max: float | None = Field(None, description="The metric may not be above this in any slice.")
    max_drop: float | None = Field(
        None, ge=0, description="How much worse than the champion's it may be in any slice."
    )
    min_pictures: int = Field(1, ge=1, description="Slices of fewer pictures are shown but not judged.")

    @property
    def has_limit(self) -> bool:
        """Whether the slice is judged, not only shown."""
        return any(limit is not None for limit in (self.min, self.max, self.max_drop))


class LatencyLimit(Strict):
    """What the smoke test allows, measured online before the version gets traffic."""

    p95: float = Field(gt=0, description="Milliseconds within which 95 of 100 answers must come.")


class GateConfig(Strict):
    """What a new version must reach before it is deployed."""

    absolute: dict[MetricName, Limit] = Field(
        default_factory=dict,
        description="Bounds by metric, e.g. `accuracy` (0 to 1) or `loss` (mean negative log-likelihood).",
    )
    change: dict[MetricName, Drop] = Field(
        default_factory=dict, description="How much worse than the champion a metric may be."
    )
    non_inferiority: NonInferiority | None = Field(
        None, description="Accuracy must be shown not to be worse than the champion's by a margin."
    )
    defaults: GateDefaults = Field(
        default_factory=GateDefaults,
        description="The rules that are always in force; e.g. `{not_worse: off}` switches one off.",
    )
    max_class_drop: Share = Field(
        0.1, description="How much a class's recall may be shown to drop; of the default rule `class_drop`."
    )
    classes_changed: ChangeAction = Field(
        "allow", description="What happens when classes were added, removed or renamed since the champion."
    )
    per_class: dict[ClassMetricName, ClassLimit] = Field(
        default_factory=dict, description="What every class must reach, e.g. `recall: {min: 0.8}`."
    )
    slices: list[SliceRule] = Field(
        default_factory=list, description="Parts of the test pictures to show, and to hold to limits."
    )
    min_test_pictures: int = Field(1, ge=1, description="Refuse when fewer pictures than this were tested.")
    latency_ms: LatencyLimit | None = Field(
        None, description="Judged by the smoke test, on the new version before it gets traffic."
    )
    size_mb: float | None = Field(None, gt=0, description="The model directory may not be larger than this.")
    first_version: Literal["absolute_only", "require_approval", "refuse"] = Field(
        "absolute_only", description="What happens while no version serves that could be compared with."
    )
    min_accuracy: float | None = Field(
        None, ge=0, le=1, description="Shorthand of `absolute: {accuracy: {min: ...}}`."
    )
    max_loss: float | None = Field(None, gt=0, description="Shorthand of `absolute: {loss: {max: ...}}`.")
    override_by: str | None = Field(
        None, description="The person who takes this run's version in spite of its gate; needs a reason."
    )
    override_reason: str | None = Field(None, description="Why; recorded with the version.")

    @field_validator("slices", mode="before")
    @classmethod
    def _slice_by_its_name(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [{"by": item} if isinstance(item, str) else item for item in value]

    @model_validator(mode="after")
    def _override_has_a_person_and_a_reason(self) -> GateConfig:
        has_text = [text is not None for text in (self.override_by, self.override_reason)]
        if any(has_text) and not all(
            text and text.strip() for text in (self.override_by, self.override_reason)
        ):
            raise ValueError("an override needs both `override_by` (a person) and `override_reason`")
        return self

    @model_validator(mode="after")
    def _has_a_rule(self) -> GateConfig:
        for short, metric, bound in (("min_accuracy", "accuracy", "min"), ("max_loss", "loss", "max")):
            limit = self.absolute.get(metric)  # type: ignore[call-overload]
            if getattr(self, short) is not None and limit is not None and getattr(limit, bound) is not None:
                raise ValueError(f"`{short}` and `absolute.{metric}.{bound}` say the same thing; keep one")
        rules = (
            self.limits,
            self.change,
            self.non_inferiority,
            self.per_class,
            self.latency_ms,
            self.size_mb,
        )
        judged = any(rules) or any(rule.has_limit for rule in self.slices)
        if not judged and "min_test_pictures" not in self.model_fields_set:
            raise ValueError(
                "the gate has no rule; set `min_accuracy`, `max_loss`, `absolute`, `change`, "
                "`non_inferiority`, `per_class`, `slices` with a limit, `latency_ms`, `size_mb` or "
                "`min_test_pictures`"
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
