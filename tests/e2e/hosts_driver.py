"""Hosts for the tests, each a network namespace behind one bridge, and a team's stack that they join."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import requests

from pipeline.config import PROJECT_ROOT
from pipeline.stack.state import load_state
from pipeline.storage import Storage
from tests.e2e.conftest import GRAFT, Stack, wait_until

SUBNET = "10.77.23"
MIDDLE = f"{SUBNET}.1"  # of the stack, the site and the store
KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_CONFIG_FILE": os.devnull,
}


def ip(*words: str, check: bool = True) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


@dataclass(frozen=True)
class Host:
    """A host of its own network, and its GRAFT_HOME.

    Args:
        number: 2 for the first; the last part of its address.
        home: The directory.
        core: The only processor of what runs there.
        environ: Of its commands.
    """

    number: int
    home: Path
    core: int
    environ: dict[str, str]

    @property
    def address(self) -> str:
        return f"{SUBNET}.{self.number}"

    @property
    def namespace(self) -> str:
        return f"graft{self.number}"

    def graft(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run(GRAFT, *arguments)

    def python(self, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run(sys.executable, "-c", code, *arguments)

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ip", "netns", "exec", self.namespace, "taskset", "-c", str(self.core), *command],
            env={**self.environ, "GRAFT_HOME": str(self.home)},
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )

    def join(self, address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.graft("join", address, "--role", "worker", *arguments)

    def serve(self, address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.graft("join", address, "--role", "server", "--listen", self.address, *arguments)

    def cut_off(self) -> None:
        ip("-n", self.namespace, "link", "set", "eth0", "down")

    def plug_in(self) -> None:
        ip("-n", self.namespace, "link", "set", "eth0", "up")

    def processes(self) -> list[psutil.Process]:
        """Return what runs in the namespace."""
        done = subprocess.run(
            ["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=False
        )
        return [psutil.Process(int(pid)) for pid in done.stdout.split() if psutil.pid_exists(int(pid))]


@contextmanager
def network(hosts: list[Host]) -> Iterator[None]:
    """Make the bridge and the namespaces; end what is in them and take them away, whatever happens."""
    bridge = "graftbr"

    def remove() -> None:
        for host in hosts:
            for process in host.processes():
                process.kill()
            ip("netns", "del", host.namespace, check=False)
        ip("link", "del", bridge, check=False)

    remove()  # what a killed test has left
    with ExitStack() as stack:
        stack.callback(remove)
        ip("link", "add", bridge, "type", "bridge")
        ip("addr", "add", f"{MIDDLE}/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        for host in hosts:
            end = f"graftv{host.number}"
            ip("netns", "add", host.namespace)
            ip("link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
            ip("link", "set", end, "master", bridge, "up")
            ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", host.namespace, "link", "set", device, "up")
        yield


@contextmanager
def shared_root(prefix: str) -> Iterator[Path]:
    """Make a directory for a stack and its hosts; pytest's own are closed to PostgreSQL's user."""
    with tempfile.TemporaryDirectory(prefix=prefix) as directory:
        root = Path(directory)
        root.chmod(0o711)
        for name in ("classifiers", "scratch"):
            (root / name).mkdir()
        yield root


@contextmanager
def server(*arguments: str) -> Iterator[int]:
    """Run one of the servers of `hosts_servers`; give its port."""
    command = [sys.executable, "-m", "tests.e2e.hosts_servers", *arguments]
    with subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@dataclass(frozen=True)
class HostsStack(Stack):
    """A team's stack whose bucket is a store on the network."""

    store_port: int = 0
    site_port: int = 0
    scratch: Path = field(default=Path())

    @property
    def environ(self) -> dict[str, str]:
        return super().environ | self.joined_environ

    @property
    def joined_environ(self) -> dict[str, str]:
        """What the environment of a host that joins has, too."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("GRAFT_", "AIRFLOW", "AWS_"))
        }
        return (
            kept
            | KEYS
            | {
                "TMPDIR": str(self.scratch),
                "SOURCE_DATE_EPOCH": "1700000000",  # rows of pictures say when they were fetched
                "GRAFT_BUCKETS": f"graft=s3://graft?endpoint=http://{MIDDLE}:{self.store_port}&region=eu-1",
                "GRAFT_FETCH_ALLOW": f"{MIDDLE}:{self.site_port}",
                "GRAFT_DAGS": str(Path(__file__).parent / "hosts_dags"),
            }
        )

    @cached_property
    def bucket(self) -> Storage:
        os.environ.update(KEYS)
        return Storage.from_environment(self.environ)

    @property
    def address(self) -> str:
        return str(load_state(self.home).address)

    @property
    def machines(self) -> dict[str, int]:
        """Return the slots of each machine that has joined."""
        file = self.home / "servers" / "machines.json"
        return {machine["name"]: machine["slots"] for machine in json.loads(file.read_text())["machines"]}

    def downloads(self) -> dict[str, int]:
        """Return how many pictures each host has asked the site for."""
        found: dict[str, int] = requests.get(f"http://{MIDDLE}:{self.site_port}/clients", timeout=30).json()
        return found

    def write_list(self, name: str, count: int) -> None:
        rows = [f"http://{MIDDLE}:{self.site_port}/{number}.jpg,c{number % 2}" for number in range(count)]
        self.bucket.write_bytes(f"gs://graft/lists/{name}.csv", "\n".join(["url,label", *rows, ""]).encode())

    def start_run(self, dag_id: str, run_id: str) -> None:
        api = self.airflow()
        wait_until(lambda: api.last_parsed(dag_id), seconds=180, what=f"DAG {dag_id}")
        body = {"logical_date": None, "dag_run_id": run_id}
        api._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)

    def end_run(self, dag_id: str, run_id: str) -> list[Any]:
        """Wait until a run has ended; return the answers of Airflow about its tasks."""
        api = self.airflow()

        def find() -> str | None:
            state = api._call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"]
            return state if state in ("success", "failed") else None

        state = wait_until(find, seconds=600, what=f"end of {dag_id}", pause=1)
        tasks = api._call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        assert state == "success", tasks
        return list(tasks)

    def finished(self, name: str) -> list[int] | None:
        """Return how many pictures the journal of each chunk has, once two have any."""
        chunks: Counter[str] = Counter()
        for uri in self.bucket.list_uris(f"gs://graft/datasets/{name}/journal/"):
            chunks[uri.split("/")[6]] += self.bucket.read_bytes(uri).count(b"\n")
        return list(chunks.values()) if len(chunks) == 2 else None

    def has_logs(self, dag_id: str, task_id: str, count: int) -> bool:
        """Return True if the bucket has the logs of so many runs of a task."""
        uris = self.bucket.list_uris(f"gs://graft/airflow/logs/dag_id={dag_id}/run_id=run/task_id={task_id}/")
        return len({uri.partition("attempt=")[0] for uri in uris}) >= count

    def log_of(self, dag_id: str, run_id: str, task_id: str, map_index: int, try_number: int) -> list[str]:
        """Return the lines of a log as Airflow's page gets them."""
        task = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        answer = self.airflow()._call(
            "GET", f"{task}/logs/{try_number}?map_index={map_index}&full_content=true"
        )
        return [line["event"] for line in answer["content"]]

    def delete_run(self, dag_id: str, run_id: str) -> None:
        answer = self.airflow()._send("DELETE", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}", None)
        assert answer.ok, answer.text

    def read_dataset(self, name: str) -> dict[str, bytes]:
        """Return every object of a dataset's versions, without the moment when each was made."""
        uris = self.bucket.list_uris(f"gs://graft/datasets/{name}/")
        objects = {uri: self.bucket.read_bytes(uri) for uri in uris}
        infos = [json.loads(data) for uri, data in objects.items() if uri.endswith("/dataset.json")]
        (moment,) = {info["created_at"].encode() for info in infos}
        return {uri: data.replace(moment, b"") for uri, data in objects.items()}
