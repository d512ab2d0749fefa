"""The `retrain` section: what a run does when there is nothing new."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.config.strict import Strict

ON_DATASET_CHANGE = "on_dataset_change"


class RetrainConfig(Strict):
    """What a run does when there is nothing new."""

    unchanged: Literal["auto", "skip", "train"] = Field(
        "auto",
        description="When dataset version and parameters are those of the serving version: `skip` training, "
        "`train` again, or `auto`: skip in runs by schedule, event and backfill, train in those by hand.",
    )
    debounce_seconds: float = Field(
        30.0,
        ge=0,
        le=24 * 3600,
        description="How long a run by an event of new pictures waits first, so that a burst makes one run.",
    )
