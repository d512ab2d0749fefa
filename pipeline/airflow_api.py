"""The few calls of Airflow's REST API that the command line and the operators make."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

import requests

from pipeline.errors import StackError, StackUnavailable
from pipeline.patience import PATIENCE_SECONDS, Clock, call_patiently
from pipeline.types import JsonDict, JsonObject, JsonValue

PAGE_SIZE = 100
MAX_NOTE_CHARACTERS = 1000
NO_ERROR = "its log names no error; look at it in Airflow"
AIRFLOW_FAILURES = ("AirflowException", "AirflowFailException")  # what they wrap is named in their message
UNFINISHED_RUNS = ("queued", "running")
UNFINISHED_TASKS = (
    *("scheduled", "queued", "running", "restarting", "deferred", "awaiting_input"),
    *("up_for_retry", "up_for_reschedule"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReference:
    """Names one run.

    Args:
        dag_id: The DAG.
        run_id: The run.
        state: `queued`, `running`, `success` or `failed`, where it was asked for.
    """

    dag_id: str
    run_id: str
    state: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInstance:
    """One task of a run; a mapped task has one for each of its inputs.

    Args:
        dag_id: The DAG.
        run_id: The run.
        task_id: The task.
        map_index: Which input of a mapped task, -1 for others.
        try_number: The latest try.
        state: Airflow's state; None before it is scheduled.
        started: When the latest try began.
        ended: When it ended.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    try_number: int = 1
    state: str | None = None
    started: datetime | None = None
    ended: datetime | None = None

    @classmethod
    def from_dict(cls, value: JsonDict) -> TaskInstance:
        """Read Airflow's JSON."""
        return cls(
            dag_id=value["dag_id"],
            run_id=value["dag_run_id"],
            task_id=value["task_id"],
            map_index=value["map_index"],
            try_number=value["try_number"],
            state=value["state"],
            started=_read_time(value["start_date"]),
            ended=_read_time(value["end_date"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a person answered to a task that asked.

    Args:
        options: The options they chose.
        fields: The values of the form's fields, by name.
        at: When.
        user: Name of the person, or their id without one; empty where the time was up.
    """

    options: tuple[str, ...]
    fields: Mapping[str, JsonValue]
    at: datetime
    user: str = ""

    @classmethod
    def from_dict(cls, value: JsonDict) -> Answer:
        """Read the answer as REST gives it, or as a task gets it that resumes."""
        at, user = value["responded_at"], value["responded_by_user"]
        return cls(
            options=tuple(value["chosen_options"]),
            fields=value["params_input"] or {},
            at=at if isinstance(at, datetime) else datetime.fromisoformat(at),
            user=str(user["name"] or user["id"]) if user else "",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """One event of a task's log.

    Args:
        text: What was logged.
        level: `info`, `error` and the like; empty for plain output.
        error: The exception that it carries, as `type: message`; empty without one. The types that Airflow
            has for any failure are left out, for they say nothing.
    """

    text: str
    level: str = ""
    error: str = ""

    @classmethod
    def from_dict(cls, value: JsonDict | str) -> LogEvent:
        """Read Airflow's JSON; plain output comes as a string."""
        if isinstance(value, str):
            return cls(text=value)
        details = value.get("error_detail")
        error = _describe(details[0]["exc_type"], details[0]["exc_value"]) if details else ""
        return cls(text=str(value.get("event", "")), level=value.get("level") or "", error=error)


def _describe(name: str, message: str) -> str:
    return message if message and name in AIRFLOW_FAILURES else f"{name}: {message}"


def find_error(events: Sequence[LogEvent]) -> str:
    """Return the last exception of a task's log, or its last error line."""
    for event in reversed(events):
        if event.error:
            return event.error
    errors = [event.text for event in events if event.level in ("error", "critical")]
    return errors[-1] if errors else NO_ERROR


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportFailure:
    """A DAG file that Airflow could not import.

    Args:
        filename: The file, as the bundle names it.
        stack_trace: Why.
        at: When Airflow tried last.
    """

    filename: str
    stack_trace: str
    at: datetime | None = None


def _read_time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


class AirflowApi:
    """Airflow's REST API, version 2.

    Args:
        url: The API server's address.
        username: The user to sign in.
        password: Their password.
        timeout_seconds: How long an answer may take.
        patience_seconds: How long a request that is not answered, or answered 5xx, is made again.
        clock: Paces these requests.
    """

    def __init__(
        self,
        url: str,
        username: str,
        password: str,
        *,
        timeout_seconds: float = 60,
        patience_seconds: float = PATIENCE_SECONDS,
        clock: Clock | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._credentials = {"username": username, "password": password}
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy leads to this machine
        self._session.headers["Connection"] = "close"  # a kept connection is lost when Airflow restarts

    def last_parsed(self, dag_id: str) -> datetime | None:
        """Return when Airflow last read a DAG; None while it does not know it."""
        dag = self._call("GET", f"/api/v2/dags/{quote(dag_id)}", missing_ok=True)
        return _read_time(dag["last_parsed_time"]) if dag and not dag["is_stale"] else None

    def request_parse(self, dag_id: str, bundle: str) -> None:
        """Ask the dag-processor to read a DAG's file again now, and to look for new files in its bundle.

        Any file of the bundle will do for a DAG that is not known yet. In a bundle without any, the
        dag-processor looks for itself every few seconds. A file that somebody has asked for already is
        answered 409, which is as good.
        """
        dags = self._call("GET", f"/api/v2/dags?limit={PAGE_SIZE}")["dags"]
        ours = [dag for dag in dags if dag["bundle_name"] == bundle]
        ours.sort(key=lambda dag: dag["dag_id"] != dag_id)
        if ours:
            path = f"/api/v2/parseDagFile/{quote(ours[0]['file_token'], safe='')}"
            self._call("PUT", path, conflict_ok=True)

    def import_errors(self) -> list[ImportFailure]:
        """Return the DAG files that Airflow could not import."""
        failures = self._call("GET", f"/api/v2/importErrors?limit={PAGE_SIZE}")["import_errors"]
        return [
            ImportFailure(
                filename=each["filename"],
                stack_trace=each["stack_trace"],
                at=_read_time(each.get("timestamp")),
            )
            for each in failures
        ]

    def trigger(self, dag_id: str, conf: JsonObject) -> str:
        """Start a run and return its id, which is ours so that a repeated request starts no second run."""
        run_id = f"manual__{datetime.now(UTC).isoformat()}"
        body: JsonObject = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
        run = self._call("POST", f"/api/v2/dags/{quote(dag_id)}/dagRuns", body, conflict_ok=True)
        return str(run.get("dag_run_id", run_id))  # none if Airflow started it, and its answer was lost

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return `queued`, `running`, `success` or `failed`."""
        return str(self._call("GET", _run_path(dag_id, run_id))["state"])

    def last_run(self, dag_id: str) -> RunReference | None:
        """Return the run that was asked for last, with its state; None without any."""
        path = f"/api/v2/dags/{quote(dag_id, safe='')}/dagRuns?order_by=-run_after&limit=1"
        for row in self._call("GET", path, missing_ok=True).get("dag_runs", ()):
            return RunReference(dag_id=dag_id, run_id=row["dag_run_id"], state=row["state"])
        return None

    def redo_task(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Let a task of a run that has ended be done again, and all tasks after it.

        A task that is at work is not touched, so that a repeated request disturbs nothing.
        """
        body: JsonObject = {
            "dag_run_id": run_id,
            "task_ids": [task_id],
            "include_downstream": True,
            "only_failed": False,
            "prevent_running_task": True,
            "dry_run": False,
        }
        path = f"/api/v2/dags/{quote(dag_id, safe='')}/clearTaskInstances"
        self._call("POST", path, body, conflict_ok=True)

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        """Return the run's task instances, mapped ones one by one."""
        return [TaskInstance.from_dict(row) for row in self._list(_run_path(dag_id, run_id), "taskInstances")]

    def unfinished_tasks(self) -> list[TaskInstance]:
        """Return the task instances of all DAGs that are at work, or will be without anybody's doing."""
        rows = self._list(_run_path("~", "~"), "taskInstances", UNFINISHED_TASKS)
        return [TaskInstance.from_dict(row) for row in rows]

    def unfinished_runs(self) -> list[RunReference]:
        """Return the runs of all DAGs that are queued or running."""
        rows = self._list("/api/v2/dags/~", "dagRuns", UNFINISHED_RUNS)
        return [RunReference(dag_id=row["dag_id"], run_id=row["dag_run_id"]) for row in rows]

    def find_runs(self, run_id: str, *, dag_id: str | None = None) -> list[RunReference]:
        """Return the runs of this id: run ids are unique within one DAG only."""
        dag = quote(dag_id, safe="") if dag_id else "~"
        query = urlencode({"run_id_pattern": run_id, "limit": PAGE_SIZE})
        page = self._call("GET", f"/api/v2/dags/{dag}/dagRuns?{query}", missing_ok=True)
        return [
            RunReference(dag_id=row["dag_id"], run_id=run_id)
            for row in page.get("dag_runs", ())
            if row["dag_run_id"] == run_id
        ]

    def write_note(self, dag_id: str, run_id: str, note: str) -> None:
        """Put a note on a run, for people; Airflow keeps its first thousand characters."""
        body = {"note": note[:MAX_NOTE_CHARACTERS]}
        self._call("PATCH", f"{_run_path(dag_id, run_id)}?update_mask=note", body)

    def find_answer(self, task: TaskInstance) -> Answer | None:
        """Return what a person answered to this try of a task that asked; None without an answer."""
        path = f"{_run_path(task.dag_id, task.run_id)}/taskInstances/{quote(task.task_id)}/{task.map_index}"
        detail = self._call("GET", f"{path}/hitlDetails/tries/{task.try_number}", missing_ok=True)
        return Answer.from_dict(detail) if detail.get("responded_at") else None

    def task_log(self, task: TaskInstance) -> list[LogEvent]:
        """Return the events of the task instance's latest try."""
        path = f"{_run_path(task.dag_id, task.run_id)}/taskInstances/{quote(task.task_id)}"
        query = f"map_index={task.map_index}&full_content=true"
        log = self._call("GET", f"{path}/logs/{task.try_number}?{query}", missing_ok=True)
        return [LogEvent.from_dict(event) for event in log.get("content", [])]

    def _list(self, parent: str, name: str, states: Sequence[str] = ()) -> Iterator[JsonDict]:
        key, num_read = {"taskInstances": "task_instances", "dagRuns": "dag_runs"}[name], 0
        while True:
            query = urlencode({"state": states, "limit": PAGE_SIZE, "offset": num_read}, doseq=True)
            page = self._call("GET", f"{parent}/{name}?{query}")
            yield from page[key]
            num_read += len(page[key])
            if num_read >= page["total_entries"] or not page[key]:
                return

    def _call(
        self,
        method: str,
        path: str,
        body: JsonValue = None,
        *,
        missing_ok: bool = False,
        conflict_ok: bool = False,
    ) -> JsonDict:
        """Send a request, again while Airflow is unavailable: each of ours is safe to repeat."""
        tolerated = [status for status, is_ok in ((404, missing_ok), (409, conflict_ok)) if is_ok]
        return call_patiently(
            lambda: self._call_once(method, path, body, tolerated),
            seconds=self._patience_seconds,
            clock=self._clock,
        )

    def _call_once(self, method: str, path: str, body: JsonValue, tolerated: Collection[int]) -> JsonDict:
        """Send a request, signing in first and once more when the token has expired."""
        if "Authorization" not in self._session.headers:
            self._sign_in()
        answer = self._send(method, path, body)
        if answer.status_code == 401:
            self._sign_in()
            answer = self._send(method, path, body)
        if answer.status_code in tolerated:
            return {}
        if not answer.ok:
            raise _error_of(answer, f"Airflow refused {method} {path}")
        return _read_json(answer)

    def _sign_in(self) -> None:
        self._session.headers.pop("Authorization", None)
        answer = self._send("POST", "/auth/token", self._credentials)
        if not answer.ok:
            raise _error_of(answer, f"Signing in to Airflow at {self.url} failed")
        self._session.headers["Authorization"] = f"Bearer {_read_json(answer)['access_token']}"

    def _send(self, method: str, path: str, body: JsonValue) -> requests.Response:
        try:
            return self._session.request(method, self.url + path, json=body, timeout=self._timeout_seconds)
        except requests.RequestException as error:
            raise StackUnavailable(
                f"Airflow at {self.url} does not answer: {error}. `graft status` shows what runs; "
                "its logs are in $GRAFT_HOME/logs."
            ) from error


def _run_path(dag_id: str, run_id: str) -> str:
    return f"/api/v2/dags/{quote(dag_id, safe='~')}/dagRuns/{quote(run_id, safe='~')}"


def _error_of(answer: requests.Response, what: str) -> StackError:
    kind = StackUnavailable if answer.status_code >= 500 else StackError
    return kind(f"{what}: {answer.status_code} {_detail(answer)}", status=answer.status_code)


def _read_json(answer: requests.Response) -> JsonDict:
    value: JsonDict = answer.json() if answer.content.strip() else {}
    return value


def _detail(answer: requests.Response) -> str:
    try:
        value = answer.json()
    except requests.JSONDecodeError:
        return answer.text[:500]
    return str(value["detail"] if isinstance(value, Mapping) and "detail" in value else value)[:500]
