"""What all steps share: errors in Airflow's terms, the connection and the bucket."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from graft.failures import airflow_failures
from graft.hooks.ml_engine import DEFAULT_CONNECTION, MLEngineHook
from graft.links import ClassifierLink
from pipeline.config import Settings
from pipeline.storage import Storage

if TYPE_CHECKING:
    from airflow.sdk import BaseOperatorLink, Context

    from pipeline.ml_engine.protocol import MLEngine

RUNTIME_VERSION = "2.21"


class GraftOperator(BaseOperator):
    """A step of a run. Sub-classes write `perform`; what it returns goes to XCom, so it is small and plain.

    Args:
        ml_engine_conn_id: The connection to ML Engine, for the steps that call it.
        project_id: The project, where it is not the connection's.
        arguments: Those of every operator.
    """

    operator_extra_links: ClassVar[Sequence[BaseOperatorLink]] = (ClassifierLink(),)  # type: ignore[misc]

    def __init__(
        self,
        *,
        ml_engine_conn_id: str = DEFAULT_CONNECTION,
        project_id: str | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.ml_engine_conn_id = ml_engine_conn_id
        self.project_id = project_id

    def execute(self, context: Context) -> Any:
        """Run the step; an error that another try would repeat ends the task at once."""
        with airflow_failures():
            return self.perform(context)

    @abstractmethod
    def perform(self, context: Context) -> Any:
        """Do the work of the step."""

    def connect(self) -> MLEngine:
        """Return ML Engine."""
        return MLEngineHook(self.ml_engine_conn_id, project=self.project_id).get_conn()

    @property
    def storage(self) -> Storage:
        """The buckets, as the environment maps them."""
        return Storage.from_environment()

    @property
    def workspace(self) -> str:
        """The bucket of datasets, models and runs."""
        return Settings().workspace
