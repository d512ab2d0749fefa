"""Airflow's own REST API, for what tasks cannot do otherwise: write a run's note, list what is active."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from pipeline.errors import ConfigError, StackError

if TYPE_CHECKING:
    from pipeline.airflow_api import AirflowApi, Answer, RunReference, TaskInstance

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 20
PATIENCE_SECONDS = 60


class AirflowApiHook(BaseHook):
    """Writes run notes, and lists what has not ended.

    Args:
        airflow_api_conn_id: Connection whose host is the API server's URL, with login and password.
    """

    conn_name_attr = "airflow_api_conn_id"
    default_conn_name = "graft_airflow_api"

    def __init__(self, airflow_api_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.airflow_api_conn_id = airflow_api_conn_id

    def get_conn(self) -> AirflowApi:
        """Return a client of the API.

        Raises:
            ConfigError: without the connection.
        """
        from pipeline.airflow_api import AirflowApi

        try:
            connection = self.get_connection(self.airflow_api_conn_id)
        except AirflowNotFoundException as error:
            raise ConfigError(
                f"There is no connection {self.airflow_api_conn_id}; make one of type `http` with the API "
                "server's address as host, and login and password of a user who may read all DAGs."
            ) from error
        return AirflowApi(
            str(connection.host),
            connection.login or "",
            connection.password or "",
            timeout_seconds=TIMEOUT_SECONDS,
            patience_seconds=PATIENCE_SECONDS,
        )

    def write_run_note(self, dag_id: str, run_id: str, note: str) -> bool:
        """Put a note on a run, for people; a run is not worth failing for it.

        Returns:
            Whether it was written. Without the connection, or when the API refuses, the log says why not.
        """
        try:
            self.get_conn().write_note(dag_id, run_id, note)
        except ConfigError:
            log.info("no connection %s: the run gets no note", self.airflow_api_conn_id)
            return False
        except StackError as error:
            log.warning("the note of run %s was not written: %s", run_id, error)
            return False
        return True

    def find_answer(self, dag_id: str, run_id: str, task_id: str, try_number: int) -> Answer | None:
        """Return what a person answered to an earlier try of a task that asks.

        Returns:
            None without an answer; and where Airflow does not reply, which the log says.
        """
        from pipeline.airflow_api import TaskInstance

        task = TaskInstance(dag_id=dag_id, run_id=run_id, task_id=task_id, try_number=try_number)
        try:
            return self.get_conn().find_answer(task)
        except (ConfigError, StackError) as error:
            log.warning("no answer to try %d of %s could be looked for: %s", try_number, task_id, error)
            return None

    def unfinished_runs(self) -> list[RunReference]:
        """Return the runs of all DAGs that are queued or running.

        Raises:
            ConfigError: without the connection.
        """
        return self.get_conn().unfinished_runs()

    def unfinished_tasks(self) -> list[TaskInstance]:
        """Return the task instances of all DAGs that are at work, or will be without anybody's doing.

        Raises:
            ConfigError: without the connection.
        """
        return self.get_conn().unfinished_tasks()
