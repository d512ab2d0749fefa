"""The few calls of Airflow's REST API that the command line makes."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlencode

from pipeline.errors import StackError

TIMEOUT_SECONDS = 60


class AirflowApi:
    """Airflow's REST API, version 2.

    Args:
        url: The API server's address.
        username: Who signs in.
        password: Their password.
    """

    def __init__(self, url: str, username: str, password: str) -> None:
        self.url = url
        self._credentials = {"username": username, "password": password}
        self._token = ""
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def find_dag(self, dag_id: str) -> dict[str, Any] | None:
        """Return a DAG, or None while Airflow does not know it."""
        dag: dict[str, Any] | None = self._call("GET", f"/api/v2/dags/{quote(dag_id)}", missing_is_none=True)
        return None if dag is None or dag["is_stale"] else dag

    def request_parse(self, dag_id: str, bundle: str) -> None:
        """Ask the dag-processor to read a DAG's file again now, and to look for new files in its bundle.

        Any file of the bundle will do for a DAG that is not known yet. In a bundle without any, the
        dag-processor looks for itself every few seconds.
        """
        dags = self._call("GET", f"/api/v2/dags?{urlencode({'limit': 100})}")["dags"]
        ours = [dag for dag in dags if dag["bundle_name"] == bundle]
        ours.sort(key=lambda dag: dag["dag_id"] != dag_id)
        if ours:
            self._call("PUT", f"/api/v2/parseDagFile/{quote(ours[0]['file_token'], safe='')}")

    def import_errors(self) -> list[dict[str, Any]]:
        """Return what Airflow could not import: `filename` and `stack_trace`."""
        found: list[dict[str, Any]] = self._call("GET", "/api/v2/importErrors?limit=100")["import_errors"]
        return found

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Start a run and return its id."""
        body = {"logical_date": None, "conf": conf}
        run = self._call("POST", f"/api/v2/dags/{quote(dag_id)}/dagRuns", body)
        return str(run["dag_run_id"])

    def get_run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return a run."""
        found: dict[str, Any] = self._call("GET", _run_path(dag_id, run_id))
        return found

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return `queued`, `running`, `success` or `failed`."""
        return str(self.get_run(dag_id, run_id)["state"])

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the run's task instances, mapped ones one by one."""
        found: list[dict[str, Any]] = []
        while True:
            query = urlencode({"limit": 100, "offset": len(found)})
            page = self._call("GET", f"{_run_path(dag_id, run_id)}/taskInstances?{query}")
            found += page["task_instances"]
            if len(found) >= page["total_entries"] or not page["task_instances"]:
                return found

    def task_log(self, task: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the events of the task instance's last try."""
        path = f"{_run_path(task['dag_id'], task['dag_run_id'])}/taskInstances/{quote(task['task_id'])}"
        query = urlencode({"map_index": task["map_index"], "full_content": "true"})
        log = self._call("GET", f"{path}/logs/{task['try_number']}?{query}", missing_is_none=True) or {}
        return [event if isinstance(event, dict) else {"event": event} for event in log.get("content", [])]

    def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        missing_is_none: bool = False,
        signed_in: bool = False,
    ) -> Any:
        if not self._token:
            self._token = self._sign_in()
        try:
            return self._send(method, path, body)
        except urllib.error.HTTPError as error:
            if error.code == 404 and missing_is_none:
                return None
            if error.code == 401 and not signed_in:
                self._token = ""
                return self._call(method, path, body, missing_is_none=missing_is_none, signed_in=True)
            text = error.read().decode(errors="replace")
            raise StackError(
                f"Airflow refused {method} {path}: {error.code} {_detail(text)}", status=error.code
            ) from error
        except (OSError, HTTPException) as error:
            raise StackError(
                f"Airflow at {self.url} does not answer: {error}. `graft status` shows what runs; "
                "its logs are in $GRAFT_HOME/logs."
            ) from error

    def _sign_in(self) -> str:
        try:
            return str(self._send("POST", "/auth/token", self._credentials)["access_token"])
        except (OSError, HTTPException) as error:
            raise StackError(
                f"Signing in to Airflow at {self.url} failed: {error}. Try `graft up` again."
            ) from error

    def _send(self, method: str, path: str, body: Any) -> Any:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        with self._opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
            text = answer.read()
        return json.loads(text) if text.strip() else None


def _run_path(dag_id: str, run_id: str) -> str:
    return f"/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}"


def _detail(text: str) -> str:
    try:
        return str(json.loads(text)["detail"])
    except (ValueError, KeyError, TypeError):
        return text[:500]
