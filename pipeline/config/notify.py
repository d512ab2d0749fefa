"""The `notify` section: who is notified of the outcome of a run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipeline.artifacts.run_summary import Outcome
from pipeline.config.strict import Strict

USUAL: tuple[Outcome, ...] = tuple(outcome for outcome in Outcome if outcome is not Outcome.SKIPPED)


class NotifyConfig(Strict):
    """One receiver of notifications."""

    to: Literal["log", "webhook"] = Field(
        description="`log`: a line in Airflow's log. `webhook`: a JSON document by HTTP POST."
    )
    connection: str | None = Field(
        None, description="For `webhook`: the Airflow connection that holds the address."
    )
    about: list[Outcome] = Field(
        default_factory=lambda: list(USUAL),
        min_length=1,
        description="Which outcomes: success, refused, rejected, superseded, skipped, failed, approval (a "
        "person is waited for). By default all but skipped.",
    )

    @model_validator(mode="after")
    def _webhook_has_a_connection(self) -> NotifyConfig:
        if (self.to == "webhook") != (self.connection is not None):
            raise ValueError(
                "`connection` names the Airflow connection of a `webhook`, which needs one; `log` has none"
            )
        return self
