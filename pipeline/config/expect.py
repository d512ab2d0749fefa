"""The `dataset.expect` section: what a new dataset version may not do unnoticed."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from pipeline.config.strict import Strict

Action: TypeAlias = Literal["warn", "skip", "fail"]


class ExpectConfig(Strict):
    """What is expected of a dataset version before training is paid for, and what happens otherwise.

    `warn` says so and goes on, `skip` ends the run green without training, `fail` fails it. A version that
    is skipped or failed does not become the one that the next version is compared with.
    """

    class_loss: Action = Field(
        "warn", description="When a class vanished, or lost more than `max_class_loss`: warn, skip or fail."
    )
    max_class_loss: float = Field(
        0.3, ge=0, le=1, description="Share of its pictures that a class may lose from version to version."
    )
    few_pictures: Action = Field(
        "warn", description="When a class has fewer pictures than `min_pictures`: warn, skip or fail."
    )
    min_pictures: int = Field(10, ge=1, description="Pictures that every class should have.")
    quarantine: Action = Field(
        "warn", description="When more than `max_quarantine` was quarantined: warn, skip or fail."
    )
    max_quarantine: float = Field(
        0.2, ge=0, le=1, description="Share of the pictures found that may be kept out, duplicates aside."
    )
    source_mix: Action = Field(
        "warn", description="When sources gained or lost more than `max_source_mix`: warn, skip or fail."
    )
    max_source_mix: float = Field(
        0.3, ge=0, le=1, description="Share of a version's pictures that may come from other sources."
    )
    label_churn: Action = Field(
        "fail", description="When more than `max_label_churn` changed their label: warn, skip or fail."
    )
    max_label_churn: float = Field(
        0.1, ge=0, le=1, description="Share of known pictures that may change their label without a decision."
    )
