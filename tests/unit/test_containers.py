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

from pipeline.stack.environment import AIRFLOW_COMMANDS, DAG_BUNDLES

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
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
        ]

    def test_nothing_runs_as_root(self) -> None:
        users = re.findall(r"^USER (.+)$", DOCKERFILE, re.M)
        assert users == ["graft"]
        assert DOCKERFILE.index("\nUSER graft") < DOCKERFILE.index("FROM base AS engine")

    def test_everything_installed_is_in_the_lock(self) -> None:
        installs = re.findall(r"pip install (.+?)(?: \\)?$", DOCKERFILE, re.M)
        assert len(installs) == 3
        uv, lock, project = installs
        assert uv == f"--no-cache-dir uv=={_uv_version()}"
        assert lock.endswith("--compile-bytecode --require-hashes -r requirements.txt")
        assert "requirements-dev" not in DOCKERFILE
        assert project.endswith("--no-deps -e .")

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


class TestScripts:
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
