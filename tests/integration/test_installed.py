"""A plain Airflow with our wheel, started by its own commands: pages, DAGs and a run to green."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

import pytest
import requests

from pipeline.airflow_api import AirflowApi
from tests.distribution import build_wheel
from tests.fakes.clock import wait_for
from tests.integration.engine_process import EngineProcess, free_port

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2400)]

UV = Path(sys.executable).with_name("uv")
COMPONENTS = (
    ("api-server",),
    ("scheduler", "--skip-serve-logs"),
    ("dag-processor",),
    ("triggerer", "--skip-serve-logs"),
)
BUNDLES = [
    {"name": "dags-folder", "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle", "kwargs": {}},
    {
        "name": "classifiers",
        "classpath": "graft.classifier_bundle.ClassifierBundle",
        "kwargs": {"shipped_dags": True},
    },
]
LOADER = """# Airflow reads the DAGs of Graft from this file.
from graft.loader import load_dags

globals().update(load_dags())
"""
THEIRS = """from airflow.sdk import DAG

with DAG(dag_id="theirs", schedule=None):
    pass
"""
SHIPPED = {
    *("surfaces", "opera_capitol", "surfaces_by_hand"),
    *("engine_sweep", "model_comparison", "model_rollback"),
}


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `airflow` of an environment of its own, made from Airflow first and our wheel then."""
    folder = tmp_path_factory.mktemp("plain")
    environment = folder / "venv"
    pinned = f"apache-airflow=={version('apache-airflow')}"
    install = ("pip", "install", "--quiet", "--python", str(environment / "bin" / "python"))
    for words in (
        ("venv", "--quiet", "--python", sys.executable, str(environment)),
        (*install, pinned),
        (*install, pinned, str(build_wheel(folder))),
    ):
        run = subprocess.run([UV, *words], capture_output=True, text=True, timeout=1200, check=False)
        assert run.returncode == 0, run.stderr[-3000:]
    return environment / "bin" / "airflow"


class PlainAirflow:
    """Airflow as its documentation starts it, with the three settings of docs/existing_airflow.md."""

    def __init__(self, airflow: Path, home: Path, engine_url: str, settings: dict[str, str]) -> None:
        self.airflow, self.home, self.port = airflow, home, free_port()
        (home / "airflow" / "dags").mkdir(parents=True)
        (home / "airflow" / "dags" / "theirs.py").write_text(THEIRS)
        (home / "airflow" / "passwords.json").write_text('{"admin": "secret"}')
        url = f"http://127.0.0.1:{self.port}"
        self.api = AirflowApi(url, "admin", "secret")
        mine = {name: text for name, text in os.environ.items() if not name.startswith(("AIRFLOW", "GRAFT_"))}
        plain = {
            "AIRFLOW_HOME": str(home / "airflow"),
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "airflow" / "passwords.json"),
        }
        ours = {
            "GRAFT_HOME": str(home),
            "AIRFLOW_CONN_ML_ENGINE_DEFAULT": json.dumps({"conn_type": "ml_engine", "host": engine_url}),
        }
        self.environ = mine | plain | ours | settings

    def start(self, ended: ExitStack) -> None:
        self.run("db", "migrate")
        for command in COMPONENTS:
            with (self.home / f"{command[0]}.log").open("wb") as log:
                process = subprocess.Popen(
                    [self.airflow, *command],
                    env=self.environ,
                    cwd=self.home,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            ended.callback(end_group, process)
        wait_for(self.is_up, seconds=300)

    def is_up(self) -> bool:
        try:
            return requests.get(f"{self.api.url}/api/v2/monitor/health", timeout=10).ok
        except OSError:
            return False

    def run(self, *arguments: str) -> str:
        run = subprocess.run(
            [self.airflow, *arguments],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
        return run.stdout

    def dag_ids(self) -> set[str]:
        return {dag["dag_id"] for dag in self.api._call("GET", "/api/v2/dags?limit=100")["dags"]}

    def page(self, path: str) -> requests.Response:
        token = requests.post(
            f"{self.api.url}/auth/token", json={"username": "admin", "password": "secret"}, timeout=60
        ).json()["access_token"]
        return requests.get(
            f"{self.api.url}{path}", headers={"Authorization": f"Bearer {token}"}, timeout=120
        )


def end_group(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


@pytest.fixture(params=["bundle", "loader"])
def plain(request: pytest.FixtureRequest, airflow: Path, tmp_path: Path) -> Iterator[PlainAirflow]:
    with EngineProcess(tmp_path) as engine, ExitStack() as ended:
        engine.start()
        bundles = {"AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(BUNDLES)}
        plain = PlainAirflow(airflow, tmp_path, engine.url, bundles if request.param == "bundle" else {})
        if request.param == "loader":
            (tmp_path / "airflow" / "dags" / "graft_dags.py").write_text(LOADER)
        plain.start(ended)
        yield plain


def test_an_airflow_that_exists_shows_and_runs_classifiers(plain: PlainAirflow) -> None:
    wait_for(lambda: plain.dag_ids() >= {"theirs", *SHIPPED}, seconds=300)
    assert plain.api.import_errors() == []
    plugins = plain.api._call("GET", "/api/v2/plugins")["plugins"]
    assert [each["name"] for each in plugins if each["external_views"]] == ["graft"]
    assert plain.api._call("GET", "/api/v2/plugins/importErrors")["import_errors"] == []
    page = plain.page("/graft/")
    assert page.status_code == 200
    assert "surfaces" in page.text

    plain.api._call("PATCH", "/api/v2/dags/surfaces", {"is_paused": False})
    run_id = plain.api.trigger("surfaces", {})
    wait_for(lambda: plain.api.run_state("surfaces", run_id) in ("success", "failed"), seconds=900)
    states = {task.task_id: task.state for task in plain.api.task_instances("surfaces", run_id)}
    assert plain.api.run_state("surfaces", run_id) == "success", states
    assert states["promote"] == "success", states
