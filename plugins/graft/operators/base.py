"""The base of all operators: errors in Airflow's terms, the connection and the workspace."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, cast

from airflow.sdk import BaseOperator

from graft.failures import airflow_failures
from graft.hooks.ml_engine import DEFAULT_CONNECTION, MLEngineHook
from graft.links import ClassifierLink
from pipeline.artifacts.record import Record
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Settings
from pipeline.errors import ConfigError
from pipeline.storage import Storage

if TYPE_CHECKING:
    from airflow.sdk import BaseOperatorLink, Context

    from pipeline.ml_engine.protocol import MLEngine
    from pipeline.ml_engine.resources import Model, PredictionOutput, Version
    from pipeline.types import JsonValue

StepOutput: TypeAlias = "Record | JsonValue | Model | Version | list[Version] | PredictionOutput"

REFUSED = {
    "delegate_to": "a bearer token acts for its own user only",
}


class GraftOperator(BaseOperator):
    """A step of a run. Sub-classes write `perform`; what it returns goes to XCom, so it is small and plain.

    Args:
        ml_engine_conn_id: The connection to ML Engine, for the steps that call it.
        gcp_conn_id: The same by the name it had in Google's provider; goes before the other.
        project_id: The project, where it is not the connection's.
        impersonation_chain: Accepted and logged, without effect: the connection's token decides who acts.
        arguments: Those of every operator.

    Raises:
        ConfigError: for an argument of the old operators that has no meaning here.
    """

    operator_extra_links: ClassVar[Sequence[BaseOperatorLink]] = (ClassifierLink(),)  # type: ignore[misc]

    def __init__(
        self,
        *,
        ml_engine_conn_id: str = DEFAULT_CONNECTION,
        gcp_conn_id: str | None = None,
        project_id: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        **arguments: Any,
    ) -> None:
        refuse_arguments(type(self).__name__, arguments)
        arguments = {name: value for name, value in arguments.items() if name not in REFUSED}  # None
        super().__init__(**{"doc_md": describe_operator(type(self)), **arguments})
        self.ml_engine_conn_id = gcp_conn_id or ml_engine_conn_id
        self.project_id = project_id
        self.impersonation_chain = impersonation_chain

    def execute(self, context: Context) -> JsonValue:
        """Run the step; an error that another try would repeat ends the task at once."""
        if self.impersonation_chain:
            self.log.warning(
                "`impersonation_chain` has no effect: the token of connection %s decides who acts",
                self.ml_engine_conn_id,
            )
        with airflow_failures():
            return to_xcom(self.perform(context))

    @abstractmethod
    def perform(self, context: Context) -> StepOutput:
        """Do the work of the step."""

    def connect(self) -> MLEngine:
        """Return ML Engine."""
        return MLEngineHook(self.ml_engine_conn_id, project=self.project_id).get_conn()

    @property
    def workspace(self) -> Workspace:
        """The bucket of datasets, models and runs."""
        return open_workspace()


def triggering_user(context: Context) -> str | None:
    """Return the signed-in user who started the run; None where Airflow started it."""
    user = getattr(context.get("dag_run"), "triggering_user_name", None)
    return str(user) if user else None


def open_workspace() -> Workspace:
    """Return the workspace that the environment names."""
    return Workspace(Storage.from_environment(), Settings().workspace)


def to_xcom(output: StepOutput) -> JsonValue:
    """Return an operator's result as plain JSON values."""
    return output.to_dict() if isinstance(output, Record) else cast("JsonValue", output)


def describe_operator(operator: type) -> str:
    """Return what an operator does, for the task's page: its docstring down to the arguments."""
    return (inspect.getdoc(operator) or "").partition("\n\nArgs:")[0]


def refuse_arguments(operator: str, arguments: Mapping[str, Any]) -> None:
    """Refuse the arguments of the old operators that have no meaning here.

    Raises:
        ConfigError: naming the argument, the reason and what to do.
    """
    for name, reason in REFUSED.items():
        if arguments.get(name) is not None:
            raise ConfigError(
                f"{operator}: `{name}` has no meaning here: {reason}. Received: {arguments[name]!r}",
                argument=name,
            )
