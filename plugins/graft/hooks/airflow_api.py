"""Airflow's own REST API, for what tasks cannot do otherwise: write a run's note, see what goes on."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    import requests

    from pipeline.types import JsonDict

log = logging.getLogger(__name__)

DEFAULT_CONNECTION = "graft_airflow_api"
TIMEOUT_SECONDS = 20
UNFINISHED = (
    *("scheduled", "queued", "running", "restarting", "deferred", "awaiting_input"),
    *("up_for_retry", "up_for_reschedule"),
)


class AirflowApiHook(BaseHook):
    """Writes run notes, and lists what has not ended.

    Args:
        airflow_api_conn_id: Connection whose host is the API server's URL, with login and password.
    """

    conn_name_attr = "airflow_api_conn_id"
    default_conn_name = DEFAULT_CONNECTION

    def __init__(self, airflow_api_conn_id: str = DEFAULT_CONNECTION) -> None:
        super().__init__()
        self.airflow_api_conn_id = airflow_api_conn_id

    def write_run_note(self, dag_id: str, run_id: str, note: str) -> bool:
        """Put a note on a run, for people; a run is not worth failing for it.

        Returns:
            Whether it was written. Without the connection, or when the API refuses, the log says why not.
        """
        import requests

        path = f"/api/v2/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"
        query, body = {"update_mask": "note"}, {"note": note[:1000]}
        try:
            with self._sign_in() as (session, url):
                answer = session.patch(url + path, params=query, json=body, timeout=TIMEOUT_SECONDS)
                answer.raise_for_status()
        except AirflowNotFoundException:
            log.info("no connection %s: the run gets no note", self.airflow_api_conn_id)
            return False
        except (requests.RequestException, KeyError) as error:
            log.warning("the note of run %s was not written: %s", run_id, error)
            return False
        return True

    def unfinished_runs(self) -> list[JsonDict]:
        """Return the runs of all DAGs that are queued or running.

        Raises:
            ConfigError: without the connection.
        """
        return self._list("/api/v2/dags/~/dagRuns", "dag_runs", ("queued", "running"))

    def unfinished_tasks(self) -> list[JsonDict]:
        """Return the task instances of all DAGs that are at work, or will be without anybody's doing.

        Raises:
            ConfigError: without the connection.
        """
        return self._list("/api/v2/dags/~/dagRuns/~/taskInstances", "task_instances", UNFINISHED)

    def _list(self, path: str, name: str, states: Sequence[str]) -> list[JsonDict]:
        found: list[JsonDict] = []
        try:
            with self._sign_in() as (session, url):
                while True:
                    query: Any = {"state": list(states), "limit": 100, "offset": len(found)}
                    answer = session.get(url + path, params=query, timeout=TIMEOUT_SECONDS)
                    answer.raise_for_status()
                    page = answer.json()
                    found += page[name]
                    if not page[name] or len(found) >= page["total_entries"]:
                        return found
        except AirflowNotFoundException as error:
            raise ConfigError(
                f"There is no connection {self.airflow_api_conn_id}; make one of type `http` with the API "
                "server's address as host, and login and password of somebody who may read all DAGs."
            ) from error

    @contextmanager
    def _sign_in(self) -> Iterator[tuple[requests.Session, str]]:
        import requests

        connection = self.get_connection(self.airflow_api_conn_id)
        url = str(connection.host).rstrip("/")
        credentials = {"username": connection.login, "password": connection.password}
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(f"{url}/auth/token", json=credentials, timeout=TIMEOUT_SECONDS)
            answer.raise_for_status()
            session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
            yield session, url
