"""Static checks of docker/: no container runs here."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from pipeline.engine.control import database_name
from pipeline.stack.environment import AIRFLOW_COMMANDS, DAG_BUNDLES
from pipeline.stack.team import _outage_variables

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
TEAM = yaml.safe_load((DOCKER / "compose.team.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
BASE = "python:3.11-slim@sha256:9c900dea9e8fb7e16277c179b555cc72d29a352dbc33cff48ad5a0412fd5bfc7"
SECRETS = {
    *("GRAFT_ENGINE_TOKEN", "GRAFT_AIRFLOW_PASSWORD", "GRAFT_JWT_SECRET"),
    *("GRAFT_API_SECRET", "GRAFT_FERNET_KEY"),
}


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCKER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestDockerfile:
    def test_both_images_come_from_one_base(self) -> None:
        assert re.findall(r"^FROM (.+)$", DOCKERFILE, re.M) == [
            f"{BASE} AS base",
            "base AS engine",
            "base AS airflow",
            "airflow AS team",
        ]

    def test_nothing_runs_as_root(self) -> None:
        users = re.findall(r"^USER (.+)$", DOCKERFILE, re.M)
        assert users == ["graft", "root", "graft"]  # the middle one installs what only a team needs
        assert DOCKERFILE.index("\nUSER graft") < DOCKERFILE.index("FROM base AS engine")

    def test_everything_installed_is_in_the_lock(self) -> None:
        installs = re.findall(r"pip install (.+?)(?: \\)?$", DOCKERFILE, re.M)
        assert len(installs) == 4
        uv, lock, project, _ = installs
        assert "--excludes not_in_images.txt -r requirements-team.txt" in DOCKERFILE
        assert uv == f"--no-cache-dir uv=={_uv_version()}"
        assert lock.endswith("--compile-bytecode --require-hashes -r requirements.txt")
        assert "requirements-dev" not in DOCKERFILE
        assert project.endswith("--no-deps --no-build-isolation -e .")

    def test_what_is_copied_exists_and_is_not_ignored(self) -> None:
        ignore = (ROOT / ".dockerignore").read_text().split()
        assert ignore[0] == "*"
        for sources in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.M):
            for source in sources.split():
                assert (ROOT / source).exists(), source
                assert f"!{source}" in ignore

    def test_no_secret_is_baked_in(self) -> None:
        assert not re.search(r"(?i)(token|password|secret|key)\s*=", DOCKERFILE)


def _uv_version() -> str:
    found = re.search(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.M)
    assert found is not None
    return found[1]


class TestCompose:
    def test_it_is_the_engine_and_airflows_components(self) -> None:
        components = {arguments[0] for arguments in AIRFLOW_COMMANDS.values()}
        assert set(SERVICES) == {"init", "engine"} | components
        for arguments in AIRFLOW_COMMANDS.values():
            assert SERVICES[arguments[0]]["command"][: len(arguments)] == list(arguments)

    def test_ports_are_published_on_loopback_only(self) -> None:
        ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
        assert sorted(ports) == ["127.0.0.1:8080:8080", "127.0.0.1:8091:8091"]

    @pytest.mark.parametrize("name", sorted(SERVICES))
    def test_service_has_no_rights_it_does_not_need(self, name: str) -> None:
        service = SERVICES[name]
        assert service["user"] == "10001:10001"
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["read_only"] is True
        assert not {"privileged", "network_mode", "pid", "cap_add"} & set(service)

    @pytest.mark.parametrize("name", sorted(SERVICES))
    def test_image_is_one_of_ours(self, name: str) -> None:
        target = SERVICES[name]["build"]["target"]
        assert f"FROM base AS {target}" in DOCKERFILE
        assert SERVICES[name]["image"] == f"graft-{target}"

    def test_secrets_come_from_outside_and_must_be_given(self) -> None:
        text = (DOCKER / "compose.yaml").read_text()
        required = set(re.findall(r"\$\{(\w+):\?", text))
        assert required == SECRETS
        for service in SERVICES.values():
            for name, value in service.get("environment", {}).items():
                if re.search("TOKEN|PASSWORD$|SECRET|FERNET|CONN_", name):
                    assert "${GRAFT_" in value, name

    def test_airflow_knows_its_address_as_its_links_and_the_owner_of_jobs(self) -> None:
        port = SERVICES["api-server"]["ports"][0].rpartition(":")[0]
        for name in set(SERVICES) - {"init", "engine"}:
            assert SERVICES[name]["environment"]["AIRFLOW__API__BASE_URL"] == f"http://{port}"

    def test_dags_come_from_where_the_local_stack_has_them(self) -> None:
        for name in set(SERVICES) - {"init", "engine"}:
            bundles = SERVICES[name]["environment"]["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"]
            assert json.loads(bundles) == DAG_BUNDLES

    @pytest.mark.parametrize("name", sorted(SERVICES))
    def test_memory_processes_and_logs_are_bounded(self, name: str) -> None:
        service = SERVICES[name]
        assert re.search(r"\d+g", service["mem_limit"])
        assert service["pids_limit"] > 0
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}

    def test_every_service_that_stays_has_a_health_check(self) -> None:
        assert "HEALTHCHECK" in DOCKERFILE.split("FROM base AS engine")[1].split("FROM base")[0]
        for name in set(SERVICES) - {"init", "engine"}:
            assert SERVICES[name]["healthcheck"]["test"] == ["CMD", "python", "docker/health.py", name]
            assert SERVICES[name]["healthcheck"]["retries"] == 5

    def test_the_engine_has_no_secret_and_no_file_of_airflow(self) -> None:
        engine = SERVICES["engine"]
        assert "environment" not in engine
        assert engine["volumes"] == ["engine:/var/lib/graft/engine", "buckets:/var/lib/graft/buckets"]
        assert set(COMPOSE["volumes"]) == {"buckets", "engine", "state"}
        for name in set(SERVICES) - {"init", "engine"}:
            assert not any(volume.startswith("engine:") for volume in SERVICES[name]["volumes"])

    def test_tables_and_tokens_are_there_before_anything_starts(self) -> None:
        done = {"condition": "service_completed_successfully"}
        assert SERVICES["init"]["entrypoint"] == ["python", "docker/init.py"]
        assert all(SERVICES[name]["depends_on"]["init"] == done for name in set(SERVICES) - {"init"})


class TestTeam:
    """docker/compose.team.yaml."""

    def test_it_is_what_a_teams_stack_has(self) -> None:
        components = {arguments[0] for arguments in AIRFLOW_COMMANDS.values()} | {"api-server-2"}
        assert set(TEAM["services"]) == components | {
            *("postgres", "redis", "init", "engine", "engine-2", "worker-1", "worker-2")
        }

    @pytest.mark.parametrize("name", sorted(TEAM["services"]))
    def test_service_is_bounded_and_has_no_right_it_does_not_need(self, name: str) -> None:
        service = TEAM["services"][name]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not {"privileged", "network_mode", "pid", "cap_add"} & set(service)
        assert re.search(r"\d+[gm]", service["mem_limit"])
        assert service["pids_limit"] > 0
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}
        assert name == "init" or service["healthcheck"]["retries"] == 5
        if name not in ("postgres", "redis"):
            assert (service["image"], service["build"]["target"]) == ("graft-team", "team")
            assert (service["user"], service["cap_drop"]) == ("10001:10001", ["ALL"])
            assert service["read_only"] is True

    def test_ports_are_published_on_loopback_only(self) -> None:
        ports = [port for service in TEAM["services"].values() for port in service.get("ports", [])]
        assert sorted(port.rpartition(":")[0] for port in ports) == [
            f"127.0.0.1:{port}" for port in (8080, 8081, 8091, 8092)
        ]

    def test_secrets_are_files(self, tmp_path: Path) -> None:
        load("make_env").write_files(tmp_path / "secrets")
        files = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
        assert set(TEAM["secrets"]) == set(files)
        assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
        given = {secret for service in TEAM["services"].values() for secret in service.get("secrets", [])}
        assert given == set(files)
        for service in TEAM["services"].values():
            for name, value in service.get("environment", {}).items():
                is_secret = re.search("TOKEN|PASSWORD|SECRET|FERNET|^AIRFLOW_CONN_|BROKER_URL", name)
                assert not is_secret or "/run/secrets/" in value or "passwords.json" in value, name
        with pytest.raises(FileExistsError):
            load("make_env").write_files(tmp_path / "secrets")

    def test_engines_have_no_secret_of_airflow(self) -> None:
        for name in ("engine", "engine-2"):
            assert TEAM["services"][name]["secrets"] == ["database_password"]
            assert not any(volume.startswith("state:") for volume in TEAM["services"][name]["volumes"])

    def test_engines_accept_the_address_of_their_database(self, tmp_path: Path) -> None:
        url = TEAM["services"]["engine"]["environment"]["GRAFT_DATABASE"]
        (tmp_path / "password").write_text("word")
        assert "postgres:5432/graft" in database_name(tmp_path, url, tmp_path / "password")

    def test_settings_are_those_of_the_local_team(self) -> None:
        """What `graft up --profile team` sets against outages, the containers set too."""
        environment = TEAM["services"]["scheduler"]["environment"]
        ours = _outage_variables()
        assert {name: environment.get(name) for name in ours} == ours

    def test_both_api_servers_have_the_name_that_workers_use(self) -> None:
        for name in ("api-server", "api-server-2"):
            assert TEAM["services"][name]["networks"]["default"]["aliases"] == ["airflow-api"]
        for name in ("worker-1", "worker-2"):
            environment = TEAM["services"][name]["environment"]
            assert (
                environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://airflow-api:8080/execution/"
            )

    def test_what_only_tests_need_is_in_no_image(self) -> None:
        excluded = re.findall(r"^\w\S*", (DOCKER / "not_in_images.txt").read_text(), re.M)
        lock = (ROOT / "requirements-team.txt").read_text()
        assert all(re.search(rf"^{name}==", lock, re.M) for name in excluded)


SCHEMA = json.loads((ROOT / "tests" / "unit" / "compose_spec" / "compose-spec.json").read_text())


@pytest.mark.parametrize("value", [COMPOSE, TEAM], ids=["compose.yaml", "compose.team.yaml"])
def test_file_follows_the_compose_specification(value: dict[str, Any]) -> None:
    validator = Draft202012Validator(SCHEMA)
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)] == []
    wrong = json.loads(json.dumps(value))
    wrong["services"]["engine"]["mem_limits"] = "2g"
    assert [error.message for error in validator.iter_errors(wrong)]


class TestScripts:
    def test_start_hands_files_to_airflow_and_libpq(self, tmp_path: Path) -> None:
        start = load("start")
        for name in ("token", "password"):
            (tmp_path / name).write_text(f"my:{name}\n")
        environ = {
            "GRAFT_ENGINE_URL": "http://engine:8091",
            "GRAFT_ENGINE_TOKEN_FILE": str(tmp_path / "token"),
            "GRAFT_AIRFLOW_URL": "http://airflow-api:8080",
            "GRAFT_AIRFLOW_PASSWORD_FILE": str(tmp_path / "password"),
        }
        start.set_connections(environ)
        engine = json.loads(environ["AIRFLOW_CONN_ML_ENGINE_DEFAULT"])
        airflow = json.loads(environ["AIRFLOW_CONN_GRAFT_AIRFLOW_API"])
        assert (engine["host"], engine["password"]) == ("http://engine:8091", "my:token")
        assert (airflow["login"], airflow["password"]) == ("admin", "my:password")
        for _ in range(2):
            start.write_passfile(tmp_path / "pgpass", "my:pass\\word")
        assert (tmp_path / "pgpass").read_text() == "*:*:*:*:my\\:pass\\\\word\n"
        assert (tmp_path / "pgpass").stat().st_mode & 0o777 == 0o600

    def test_start_names_the_file_that_is_missing(self) -> None:
        with pytest.raises(SystemExit, match="GRAFT_ENGINE_TOKEN_FILE: /none cannot be read.*make_env"):
            load("start").set_connections({"GRAFT_ENGINE_TOKEN_FILE": "/none"})

    def test_a_container_is_healthy_if_airflow_says_so(self) -> None:
        is_healthy = load("health").is_healthy
        report = {"scheduler": {"status": "healthy"}, "triggerer": {"status": "unhealthy"}}
        states = {name: is_healthy(report, name) for name in ("api-server", "scheduler", "triggerer")}
        assert states == {"api-server": True, "scheduler": True, "triggerer": False}
        assert not is_healthy(report, "dag-processor")

    def test_a_container_is_not_healthy_while_nobody_answers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GRAFT_HEALTH_URL", "http://127.0.0.1:9")
        assert load("health").main("scheduler") == 1

    def test_env_file_has_every_secret_and_is_private(self, tmp_path: Path) -> None:
        path = tmp_path / ".env"
        load("make_env").write_env(path)
        values = dict(line.split("=", 1) for line in path.read_text().splitlines())
        assert set(values) == SECRETS
        assert all(len(value) >= 16 for value in values.values())
        assert path.stat().st_mode & 0o777 == 0o600

    def test_env_file_is_never_overwritten(self, tmp_path: Path) -> None:
        path = tmp_path / ".env"
        path.write_text("mine")
        with pytest.raises(FileExistsError):
            load("make_env").write_env(path)
        assert path.read_text() == "mine"

    def test_env_file_is_never_committed(self) -> None:
        assert "docker/.env" in (ROOT / ".gitignore").read_text().split()

    def test_init_writes_what_engine_and_airflow_read(self, tmp_path: Path) -> None:
        environ = {"GRAFT_ENGINE_TOKEN": "t", "GRAFT_AIRFLOW_PASSWORD": "p"}
        load("init").write_secrets(tmp_path, environ)
        tokens = json.loads((tmp_path / "engine" / "tokens.json").read_text())["tokens"]
        assert [token["sha256"] for token in tokens] == [hashlib.sha256(b"t").hexdigest()]
        assert json.loads((tmp_path / "airflow" / "passwords.json").read_text()) == {"admin": "p"}
