"""`up` and `down` over small stand-ins for the engine and Airflow; the real ones are in tests/e2e."""

import os
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.config import Settings
from pipeline.errors import StackError
from pipeline.stack import StackStatus, airflow_database, control, description, down, status, up
from pipeline.stack.environment import COMPONENTS, Component
from pipeline.stack.health import get_json
from pipeline.stack.state import Secrets, StackState, free_ports, load_state

SERVER = """
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(json.dumps({"status": "ok"}).encode())
    def log_message(self, *args): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


TITLES = ("-m pipeline.engine --port {} --home x", "airflow api_server -- host:127.0.0.1 port:{}")


def stand_ins(settings: Settings, state: StackState, secrets: Secrets) -> tuple[Component, ...]:
    ports = (state.engine_port, state.airflow_port)
    return tuple(
        Component(
            name=name,
            command=(sys.executable, "-c", SERVER, str(port), title.format(port)),
            variables={"GRAFT_CLASSIFIERS": settings.classifiers},
        )
        for name, port, title in zip(COMPONENTS[:2], ports, TITLES, strict=True)
    )


def unanswered(url: str, records: Any) -> list[str]:
    return [] if get_json(url) else ["airflow-api-server"]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setattr(control, "build_components", stand_ins)
    monkeypatch.setattr(control, "unhealthy_airflow", unanswered)
    monkeypatch.setattr(control, "ensure_database", lambda settings, state, component, on_progress: state)
    monkeypatch.setattr(control, "COMPONENTS", COMPONENTS[:2])
    monkeypatch.setattr(description, "COMPONENTS", COMPONENTS[:2])
    settings = Settings(home=tmp_path / "home")
    yield settings
    down(settings)
    assert status(settings).state == "stopped"


def pids(described: StackStatus) -> dict[str, int | None]:
    return {process.name: process.pid for process in described.processes}


def kill(pid: int) -> None:
    process = psutil.Process(pid)
    process.kill()
    os.waitpid(pid, 0)


class TestUp:
    def test_first_start_describes_a_running_stack(self, settings: Settings) -> None:
        lines: list[str] = []
        described = up(settings, lines.append)
        assert described.state == "running"
        assert described == status(settings)
        assert lines[:2] == ["starting engine", "starting airflow-api-server"]
        assert get_json(described.engine.url) == {"status": "ok"}

    def test_second_start_changes_nothing(self, settings: Settings) -> None:
        first = up(settings)
        lines: list[str] = []
        assert up(settings, lines.append) == first
        assert lines == []

    def test_dead_component_comes_back_on_its_port_and_the_living_one_stays(self, settings: Settings) -> None:
        first = up(settings)
        kill(pids(first)["engine"])
        again = up(settings)
        assert again.engine == first.engine
        assert pids(again)["engine"] != pids(first)["engine"]
        assert pids(again)["airflow-api-server"] == pids(first)["airflow-api-server"]

    def test_changed_settings_restart_what_was_started_with_others(self, settings: Settings) -> None:
        first = up(settings)
        again = up(Settings(home=settings.home, classifiers="/mine"))
        assert again.engine.url == first.engine.url
        assert not set(pids(first).values()) & set(pids(again).values())

    def test_ports_and_secrets_survive_down(self, settings: Settings) -> None:
        first = up(settings)
        down(settings)
        again = up(settings)
        assert (again.engine, again.airflow) == (first.engine, first.airflow)

    def test_asked_for_ports_are_used(self, settings: Settings) -> None:
        engine, airflow = free_ports(2)
        described = up(settings, engine_port=engine, airflow_port=airflow)
        assert described.engine.url == f"http://127.0.0.1:{engine}"
        assert described.airflow.url == f"http://127.0.0.1:{airflow}"

    def test_asked_for_port_in_use_is_named_with_the_fix(self, settings: Settings) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            with pytest.raises(StackError, match=rf"Port {port} for engine is in use.*--engine-port PORT"):
                up(settings, engine_port=port)
        assert load_state(settings.home).processes == ()

    def test_asked_for_port_in_use_stops_nothing_that_runs(self, settings: Settings) -> None:
        first = up(settings)
        with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(StackError, match="is in use"):
            up(settings, engine_port=server.getsockname()[1])
        assert status(settings) == first
        assert up(settings) == first

    def test_own_port_taken_while_down_is_exchanged(self, settings: Settings) -> None:
        up(settings)
        down(settings)
        port = load_state(settings.home).engine_port
        with socket.create_server(("127.0.0.1", port)):
            assert up(settings).engine.url != f"http://127.0.0.1:{port}"

    def test_component_that_fails_shows_its_log(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*args: Any) -> tuple[Component, ...]:
            return (
                Component(
                    name="engine", command=(sys.executable, "-c", "raise SystemExit('no luck')"), variables={}
                ),
            )

        monkeypatch.setattr(control, "build_components", broken)
        with pytest.raises(StackError, match=r"engine ended while it was starting(?s:.*)no luck"):
            up(settings)


class TestScheduler:
    def test_starts_once_the_api_server_answers_which_tasks_need_at_once(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def with_scheduler(settings: Settings, state: StackState, secrets: Secrets) -> tuple[Component, ...]:
            engine, api_server = stand_ins(settings, state, secrets)
            slow = f"import time; time.sleep(0.5)\n{SERVER}"
            api_server = replace(api_server, command=(sys.executable, "-c", slow, *api_server.command[3:]))
            scheduler = Component(
                name="airflow-scheduler",
                command=(sys.executable, "-c", "import time; time.sleep(60)"),
                variables={},
            )
            return engine, scheduler, api_server

        monkeypatch.setattr(control, "build_components", with_scheduler)
        monkeypatch.setattr(control, "COMPONENTS", COMPONENTS[:3])
        monkeypatch.setattr(description, "COMPONENTS", COMPONENTS[:3])
        answered: dict[str, bool] = {}

        def note(line: str) -> None:
            answered[line] = get_json(load_state(settings.home).airflow_url) is not None

        up(settings, note)
        assert answered["starting airflow-api-server"] is False
        assert answered["starting airflow-scheduler"] is True


class TestDown:
    @pytest.mark.parametrize("text", [None, "", '{"engine_port": 1', "[]", "{}"])
    def test_ends_all_processes_whatever_became_of_the_state_file(
        self, settings: Settings, text: str | None
    ) -> None:
        described = up(settings)
        path = settings.home / "stack.json"
        path.unlink() if text is None else path.write_text(text)
        assert down(settings) == 2
        assert not any(psutil.pid_exists(pid) for pid in pids(described).values() if pid)

    def test_a_damaged_state_file_costs_up_neither_ports_nor_processes(self, settings: Settings) -> None:
        described = up(settings)
        (settings.home / "stack.json").write_text("{")
        again = up(settings)
        assert (again.engine, again.airflow) == (described.engine, described.airflow)
        assert down(settings) == 2

    def test_down_without_a_stack_is_harmless_and_makes_nothing(self, tmp_path: Path) -> None:
        settings = Settings(home=tmp_path / "never")
        assert down(settings) == 0
        assert not settings.home.exists()

    def test_down_counts_what_it_ended_and_can_be_repeated(self, settings: Settings) -> None:
        up(settings)
        assert down(settings) == 2
        assert down(settings) == 0


class TestStatus:
    def test_stopped_stack_shows_neither_address_nor_secret(self, tmp_path: Path) -> None:
        described = status(Settings(home=tmp_path))
        assert described.state == "stopped"
        document = described.to_dict()
        assert document["engine"] == {"url": None, "project": "local", "token": None}
        assert document["airflow"] == {
            "url": None,
            "username": "admin",
            "password": None,
            "pages": None,
        }
        assert [process.name for process in described.processes] == list(COMPONENTS)
        assert {process.state for process in described.processes} == {"stopped"}

    def test_stack_with_a_dead_part_is_degraded(self, settings: Settings) -> None:
        kill(pids(up(settings))["engine"])
        described = status(settings)
        assert described.state == "degraded"
        assert described.to_dict()["processes"][0] == {"name": "engine", "pid": None, "state": "stopped"}


class TestDatabase:
    COMPONENT = Component(name="airflow-scheduler", command=(), variables={})

    def ensure(self, settings: Settings, state: StackState, lines: list[str]) -> StackState:
        return airflow_database.ensure_database(settings, state, self.COMPONENT, lines.append)

    @pytest.fixture
    def migrate(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        def use(code: str) -> None:
            monkeypatch.setattr(airflow_database, "PYTHON", (sys.executable, "-c", code))

        return use

    def test_database_is_prepared_once_for_each_airflow(
        self, tmp_path: Path, migrate: Callable[[str], None]
    ) -> None:
        settings, lines = Settings(home=tmp_path), []
        migrate("")
        state = self.ensure(settings, StackState(), lines)
        assert load_state(tmp_path) == state
        (tmp_path / "airflow").mkdir()
        database = sqlite3.connect(tmp_path / "airflow" / "airflow.db")
        database.execute("CREATE TABLE alembic_version (version_num)")
        database.execute("INSERT INTO alembic_version VALUES ('x')")
        database.commit()
        database.close()
        assert self.ensure(settings, state, lines) == state
        assert lines == ["preparing Airflow's database"]

    def test_lost_database_is_prepared_again(self, tmp_path: Path, migrate: Callable[[str], None]) -> None:
        settings, lines = Settings(home=tmp_path), []
        migrate("")
        self.ensure(settings, self.ensure(settings, StackState(), lines), lines)
        assert len(lines) == 2

    def test_failure_shows_the_log(self, tmp_path: Path, migrate: Callable[[str], None]) -> None:
        migrate("raise SystemExit('disk full')")
        with pytest.raises(StackError, match=r"Preparing Airflow's database failed(?s:.*)disk full"):
            self.ensure(Settings(home=tmp_path), StackState(), [])
        assert load_state(tmp_path).database == ""


class TestPool:
    def ensure(self, home: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], str]:
        """Return what was said, and the arguments of the command that was run."""
        code = "import sys; open('asked', 'a').write(' '.join(sys.argv[1:]))"
        monkeypatch.setattr(airflow_database, "PYTHON", (sys.executable, "-c", code))
        lines: list[str] = []
        settings = Settings(home=home, fetch_pool=name)
        airflow_database.ensure_pool(settings, StackState(), TestDatabase.COMPONENT, lines.append)
        asked = home / "asked"
        return lines, asked.read_text() if asked.exists() else ""

    def test_of_the_downloads_is_made_where_it_is_not(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lines, asked = self.ensure(tmp_path, "downloads", monkeypatch)
        assert lines == ["making the pool downloads with 2 slots"]
        assert asked.endswith("airflow pools set downloads 2 Downloads of Graft")

    def test_that_is_there_keeps_its_slots(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "airflow").mkdir()
        database = sqlite3.connect(tmp_path / "airflow" / "airflow.db")
        database.execute("CREATE TABLE slot_pool (pool)")
        database.execute("INSERT INTO slot_pool VALUES ('downloads')")
        database.commit()
        database.close()
        assert self.ensure(tmp_path, "downloads", monkeypatch) == ([], "")

    def test_is_not_made_where_none_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.ensure(tmp_path, "", monkeypatch) == ([], "")
