"""The `deploy` section: who lets a version through that passed its gate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.config.strict import Strict


class DeployConfig(Strict):
    """Who lets a version through that passed its gate."""

    require_approval: bool = Field(
        False, description="Whether a person must approve every version that passes the gate."
    )
    approval_hours: float = Field(
        72.0, gt=0, le=24 * 365, description="How long a run waits for that person."
    )
    on_timeout: Literal["reject", "approve"] = Field("reject", description="The answer after that time.")
    approvers: list[str] = Field(
        default_factory=list, description="Airflow user names that may answer; empty for everybody who may."
    )
