from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from pytest_httpserver import HTTPServer

from pipeline.airflow_api import TaskInstance
from pipeline.errors import StackUnavailable
from pipeline.storage import Storage
from tests.fakes.ml_engine import FakeMLEngine

WANTED = TaskInstance(dag_id="m", run_id="r 1", task_id="train")


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[TaskInstance]:
    """What Airflow says goes on."""
    from graft.hooks.airflow_api import AirflowApiHook

    found: list[TaskInstance] = []
    monkeypatch.setattr(AirflowApiHook, "unfinished_tasks", lambda self: found)
    monkeypatch.setattr(AirflowApiHook, "unfinished_runs", lambda self: found)
    monkeypatch.setattr("graft.ownership.conf.get", lambda *names, **options: "http://airflow.example.org")
    return found


def add_job(engine: FakeMLEngine, job_id: str, *task: Any, state: str = "RUNNING", **labels: str) -> None:
    from graft.ownership import AIRFLOW, DAG, TASK, deployment, digest

    own = {AIRFLOW: deployment(), DAG: digest("m"), **({TASK: digest(*task)} if task else {})}
    engine.jobs[job_id] = {"jobId": job_id, "state": state, "labels": own | labels}


class TestJobs:
    def cancel(self, make_context: Callable[..., Any]) -> Any:
        from graft.operators.sweep import CancelUnwantedJobsOperator

        return CancelUnwantedJobsOperator(task_id="t").execute(make_context())

    def test_only_jobs_of_tasks_that_are_gone_or_have_ended(
        self, engine: FakeMLEngine, tasks: list[TaskInstance], make_context: Callable[..., Any]
    ) -> None:
        tasks.append(WANTED)
        add_job(engine, "wanted", "m", "r 1", "train", -1)
        add_job(engine, "gone", "m", "r 0", "train", -1)
        add_job(engine, "queued", "m", "r 0", "evaluate", -1, state="QUEUED")
        add_job(engine, "ended", "m", "r 0", "train", -1, state="FAILED")
        add_job(engine, "shared")
        add_job(engine, "shared by a DAG that rests", graft_dag="another")
        add_job(engine, "of another Airflow", "m", "r 0", "train", -1, graft_airflow="another")
        engine.jobs["of a notebook"] = {"jobId": "of a notebook", "state": "RUNNING"}
        assert set(self.cancel(make_context)) == {"gone", "queued", "shared by a DAG that rests"}
        assert set(engine.cancelled) == {"gone", "queued", "shared by a DAG that rests"}

    def test_a_task_that_one_look_misses_keeps_its_job(
        self,
        engine: FakeMLEngine,
        tasks: list[TaskInstance],
        make_context: Callable[..., Any],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from graft.hooks.airflow_api import AirflowApiHook

        looks = iter([[], [WANTED]])
        monkeypatch.setattr(AirflowApiHook, "unfinished_tasks", lambda self: next(looks))
        add_job(engine, "wanted", "m", "r 1", "train", -1)
        assert self.cancel(make_context) == []

    def test_an_airflow_without_a_name_sweeps_nothing(
        self,
        engine: FakeMLEngine,
        tasks: list[TaskInstance],
        make_context: Callable[..., Any],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        add_job(engine, "gone", "m", "r 0", "train", -1)
        monkeypatch.setattr("graft.ownership.conf.get", lambda *names, **options: None)
        with pytest.raises(AirflowFailException, match="base_url"):
            self.cancel(make_context)
        assert engine.cancelled == []


def test_versions_of_runs_that_go_on_stay(
    engine: FakeMLEngine, storage: Storage, tasks: list[TaskInstance], make_context: Callable[..., Any]
) -> None:
    from graft.operators.sweep import CollectGarbageOperator

    from pipeline.deploy.version import version_name

    tasks.append(WANTED)
    engine.ensure_model("m")
    for run_id in ("r 0", "r 1", "r 2"):
        name = version_name("m", run_id)
        engine.create_version("m", {"name": name, "labels": {"run": "", "dataset": "", "job": ""}})
    operator = CollectGarbageOperator(task_id="t", grace_minutes=0)
    deleted = operator.execute(make_context())
    assert deleted == {"versions": {"m": [version_name("m", "r 2")]}, "jobs": [], "parts": 0}
    assert set(engine.versions["m"]) == {version_name("m", "r 0"), version_name("m", "r 1")}


def test_first_versions_that_never_served_are_swept_with_their_hidden_model(
    engine: FakeMLEngine, storage: Storage, tasks: list[TaskInstance], make_context: Callable[..., Any]
) -> None:
    from graft.operators.sweep import CollectGarbageOperator

    from pipeline.deploy.version import version_name

    tasks.append(WANTED)
    for model, run_id in (("m", "r 1"), ("m", "r 2"), ("other", "r 0"), ("other", "r 2")):
        name = f"{model}__candidate"
        engine.ensure_model(name)
        labels = {"run": "", "dataset": "", "job": ""}
        engine.create_version(name, {"name": version_name(model, run_id), "labels": labels})
    engine.ensure_model("empty__candidate")
    operator = CollectGarbageOperator(task_id="t", grace_minutes=0)
    gone = operator.execute(make_context())["versions"]
    assert gone == {
        "m__candidate": [version_name("m", "r 2")],
        "other__candidate": [version_name("other", run_id) for run_id in ("r 0", "r 2")],
    }
    assert set(engine.models) == {"m__candidate"}
    assert set(engine.versions["m__candidate"]) == {version_name("m", "r 1")}


class TestWhatGoesOn:
    def test_is_read_page_by_page(self, monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer) -> None:
        from graft.hooks.airflow_api import AirflowApiHook

        httpserver.expect_request("/auth/token").respond_with_json({"access_token": "T"})
        for offset in (0, 1):
            httpserver.expect_request(
                "/api/v2/dags/~/dagRuns", query_string=f"state=queued&state=running&limit=100&offset={offset}"
            ).respond_with_json(
                {"dag_runs": [{"dag_id": "m", "dag_run_id": str(offset)}], "total_entries": 2}
            )
        with monkeypatch.context() as patch:
            patch.setattr(
                AirflowApiHook, "get_connection", classmethod(lambda cls, conn_id: connection(httpserver))
            )
            assert [run.run_id for run in AirflowApiHook().unfinished_runs()] == ["0", "1"]

    @pytest.mark.parametrize(("status", "ends"), [(503, False), (403, True)])
    def test_a_sweep_is_tried_again_unless_airflow_refuses_it(
        self, monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer, status: int, ends: bool
    ) -> None:
        from graft.failures import airflow_failures
        from graft.hooks import airflow_api
        from graft.hooks.airflow_api import AirflowApiHook

        monkeypatch.setattr(airflow_api, "PATIENCE_SECONDS", 1)
        httpserver.expect_request("/auth/token").respond_with_json({"access_token": "T"})
        httpserver.expect_request("/api/v2/dags/~/dagRuns").respond_with_json({"detail": "no"}, status=status)
        server = connection(httpserver)
        monkeypatch.setattr(AirflowApiHook, "get_connection", classmethod(lambda cls, conn_id: server))
        expected = AirflowFailException if ends else StackUnavailable
        with pytest.raises(expected, match=f"{status} no"), airflow_failures():
            AirflowApiHook().unfinished_runs()

    def test_without_the_connection_is_an_error_that_says_what_to_make(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from airflow.sdk.exceptions import AirflowNotFoundException
        from graft.hooks.airflow_api import AirflowApiHook

        from pipeline.errors import ConfigError

        def absent(cls: type, conn_id: str) -> None:
            raise AirflowNotFoundException(conn_id)

        monkeypatch.setattr(AirflowApiHook, "get_connection", classmethod(absent))
        with pytest.raises(ConfigError, match="no connection graft_airflow_api; make one of type `http`"):
            AirflowApiHook().unfinished_tasks()


def connection(server: HTTPServer) -> Any:
    from airflow.sdk import Connection

    return Connection(conn_id="c", conn_type="http", host=server.url_for("/"), login="admin", password="pw")


def test_the_dag_parses_and_does_both(tmp_path: Any) -> None:
    from pathlib import Path

    from airflow.dag_processing.dagbag import DagBag

    folder = Path(__file__).resolve().parents[3] / "dags"
    bag = DagBag(dag_folder=folder / "engine_sweep.py", bundle_path=folder)
    assert bag.import_errors == {}
    dag = bag.dags["engine_sweep"]
    assert dag.get_task("cancel_unwanted_jobs").downstream_task_ids == {"collect_garbage"}
    assert dag.max_active_runs == 1
