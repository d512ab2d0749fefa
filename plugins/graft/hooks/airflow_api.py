"""Airflow's own REST API, used for one thing: the note on a run, which tasks cannot write otherwise."""

from __future__ import annotations

import logging
from urllib.parse import quote

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

log = logging.getLogger(__name__)

DEFAULT_CONNECTION = "graft_airflow_api"
TIMEOUT_SECONDS = 20


class AirflowApiHook(BaseHook):
    """Writes run notes.

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

        try:
            connection = self.get_connection(self.airflow_api_conn_id)
        except AirflowNotFoundException:
            log.info("no connection %s: the run gets no note", self.airflow_api_conn_id)
            return False
        url = str(connection.host).rstrip("/")
        credentials = {"username": connection.login, "password": connection.password}
        path = f"/api/v2/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"
        try:
            with requests.Session() as session:
                session.trust_env = False
                answer = session.post(f"{url}/auth/token", json=credentials, timeout=TIMEOUT_SECONDS)
                answer.raise_for_status()
                session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
                query, body = {"update_mask": "note"}, {"note": note[:1000]}
                answer = session.patch(url + path, params=query, json=body, timeout=TIMEOUT_SECONDS)
                answer.raise_for_status()
        except (requests.RequestException, KeyError) as error:
            log.warning("the note of run %s was not written: %s", run_id, error)
            return False
        return True
