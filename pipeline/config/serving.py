"""The `serving` section: how a deployed version answers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.config.strict import Strict


class ServingConfig(Strict):
    """How a deployed version answers."""

    reject_below: float = Field(
        0.0,
        ge=0,
        le=1,
        description="No label (none of these) where no class is this probable; 0 always gives one.",
    )
    thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict,
        description="By class, in place of `reject_below`: no label where the most probable class is this "
        "one and less probable than that, e.g. `{cat: 0.8}`.",
    )
    reject_unlike: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="No label for a picture that is less like the training pictures than this share of them, "
        "0.95 for instance; 0 always gives one.",
    )
