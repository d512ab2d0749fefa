"""Roll a model back, as a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from graft.hooks.airflow_api import AirflowApiHook
from graft.operators.base import GraftOperator, triggering_user
from pipeline.artifacts.gate import add_name

if TYPE_CHECKING:
    from airflow.sdk import Context

NOBODY = "airflow"


class RollBackModelOperator(GraftOperator):
    """Give an older version of a model the traffic: once in a run, however often it is tried.

    Args:
        model: Name of the model.
        reason: Why; kept in the history.
        to: The version; the one that served before unless given.
        by: A name to record beside the user who started the run; it stands alone where Airflow started it.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("model", "reason", "to", "by")

    def __init__(
        self, *, model: str, reason: str, to: str | None = None, by: str | None = None, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self.model = model
        self.reason = reason
        self.to = to
        self.by = by

    def perform(self, context: Context) -> dict[str, Any]:
        """Return what serves now and what served until then."""
        from pipeline.deploy.rollback import rollback_version

        ti, user = context["ti"], triggering_user(context) or self.by or NOBODY
        done = rollback_version(
            self.workspace,
            self.connect(),
            model=self.model,
            to=self.to or None,
            by=user,
            reason=add_name(self.reason, self.by, user=user) if self.reason.strip() else "",
            run_id=ti.run_id,
        )
        note = f"**`{done.model}` serves `{done.version}`**, no longer `{done.previous}`.\n\n"
        AirflowApiHook().write_run_note(ti.dag_id, ti.run_id, f"{note}{done.by}: {done.reason}")
        return done.to_dict()
