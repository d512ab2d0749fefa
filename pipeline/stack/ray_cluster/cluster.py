"""Start, look at and end a Ray cluster of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import httpx

import pipeline
from pipeline.errors import StackError
from pipeline.stack.processes import ProcessRecord, log_tail, start_process, stop_processes
from pipeline.stack.state import free_ports, locked, write_private
from pipeline.types import JsonObject, JsonValue

HEAD = "head"
DASHBOARD, GCS = 8265, 6379
START_SECONDS = 300.0
POLL_SECONDS = 0.5
OBJECT_STORE_BYTES = 100_000_000  # jobs of Graft keep nothing there
PASSED = ("PATH", "LANG", "LC_ALL", "TZ")
HIDDEN = ("/home", "/mnt", "/root", "/run", "/srv", "/var/lib")
PROGRAMS = Path(__file__).parent
RAY_VERSION = "2.60"


@dataclass(frozen=True, slots=True, kw_only=True)
class RayStatus:
    """What an engine needs of a cluster.

    Args:
        address: Of its dashboard, on this machine.
        token_file: Holds its token.
        hosts: The names of its hosts that run, the head first.
        python: The interpreter of its hosts that has Ray.
    """

    address: str
    token_file: str
    hosts: tuple[str, ...]
    python: str = ""

    def to_dict(self) -> JsonObject:
        """Return plain JSON values."""
        return {"address": self.address, "token_file": self.token_file, "hosts": list(self.hosts)}

    @property
    def environ(self) -> dict[str, str]:
        """The settings of an engine that runs its jobs there."""
        return {
            "GRAFT_ENGINE_BACKEND": "ray",
            "GRAFT_ENGINE_RAY_ADDRESS": self.address,
            "GRAFT_ENGINE_RAY_TOKEN_FILE": self.token_file,
            "GRAFT_ENGINE_RAY_PYTHON": sys.executable,
            "GRAFT_ENGINE_RAY_DRIVER_PYTHON": self.python,
            "GRAFT_ENGINE_RAY_SHARES_DIRECTORIES": "true",
        }


class RayCluster:
    """A head and some nodes in network, mount and process namespaces of their own.

    The hosts reach each other and nothing else; this machine reaches the head's dashboard at a port of
    127.0.0.1. They see the buckets that are directories, the interpreters of Graft and Ray, and nothing of
    the rest of `GRAFT_HOME`.

    Args:
        home: `GRAFT_HOME`; the cluster's state is in `ray` below it.
        directories: The buckets that are directories.
        ray: The program `ray`.
    """

    def __init__(self, home: Path, *, directories: Sequence[Path] = (), ray: Path | None = None) -> None:
        self._home = home
        self._directories = directories
        self._ray = ray or Path("ray")
        self.directory = home / "ray"

    @property
    def token_file(self) -> Path:
        """The file of the cluster's token."""
        return self.directory / "token"

    @property
    def _state_file(self) -> Path:
        return self.directory / "cluster.json"

    def _read_state(self) -> tuple[int, dict[str, ProcessRecord]]:
        try:
            value = json.loads(self._state_file.read_text())
        except FileNotFoundError:
            return 0, {}
        return value["port"], {name: ProcessRecord(**record) for name, record in value["processes"].items()}

    def _write_state(self, port: int, records: dict[str, ProcessRecord]) -> None:
        processes: dict[str, JsonValue] = {name: asdict(record) for name, record in records.items()}
        write_private(self._state_file, {"port": port, "processes": processes})

    @property
    def processes(self) -> dict[str, ProcessRecord]:
        """The network's process, and the first process of each host; those that live."""
        return {name: record for name, record in self._read_state()[1].items() if record.is_alive}

    @property
    def status(self) -> RayStatus:
        """Where the cluster answers, and its hosts that run."""
        hosts = tuple(name for name in self.processes if name != "network")
        port = self._read_state()[0]
        return RayStatus(
            address=f"http://127.0.0.1:{port}",
            token_file=str(self.token_file),
            hosts=hosts,
            python=str(self._ray.absolute().parent / "python"),
        )

    def up(self, *, nodes: int = 1, cpus: int = 0, port: int | None = None) -> RayStatus:
        """Start what of the cluster does not run; return when all its hosts are there.

        Args:
            nodes: How many hosts run jobs; the head runs none.
            cpus: Processors that each of them offers; 0 for all of this machine.
            port: Of this machine, for the dashboard; a free one if None.

        Raises:
            StackError: if this machine cannot have it, or it does not start.
        """
        self._check_machine()
        for directory in (self.directory, *self._directories):
            directory.mkdir(parents=True, exist_ok=True)
        with locked(self._home):
            records = self.processes
            if "network" not in records:
                stop_processes(records.values(), grace_seconds=0, first=signal.SIGKILL)
                records = self._start_network(port)
            else:  # a host that ended is no reason to give up
                self._write_state(self._read_state()[0], records)
            self._keep_token()
        for name in (HEAD, *(f"node{number + 1}" for number in range(nodes))):
            if name not in records:
                self.start_host(name, cpus=cpus)
        self.wait_for_hosts(nodes + 1)
        return self.status

    def _check_machine(self) -> None:
        if sys.platform != "linux" or os.geteuid():
            raise StackError(
                "`graft ray up` makes Linux namespaces: run it as root, on Linux; in a container, say."
            )
        missing = [name for name in ("ip", "unshare", "nsenter") if shutil.which(name) is None]
        if missing:
            raise StackError(f"`graft ray up` needs {', '.join(missing)}: install iproute2 and util-linux.")
        if not self._ray.is_file():
            raise StackError(
                f"There is no Ray at {self._ray}. `make ray` installs it; or name the program of another "
                f"environment with Ray {RAY_VERSION}: `--ray PATH`."
            )

    def _keep_token(self) -> None:
        if not self.token_file.exists():
            descriptor = os.open(self.token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(32))

    def _start_network(self, port: int | None) -> dict[str, ProcessRecord]:
        port = port or self._read_state()[0] or free_ports(1)[0]
        words = (str(PROGRAMS / "network.py"), str(port), address_of(HEAD), str(DASHBOARD))
        record = self._start("network", [sys.executable, "-I", *words])
        self._write_state(port, {"network": record})
        self._wait(lambda: _has_own_network(record.pid), "network", seconds=60)
        return {"network": record}

    def _start(self, name: str, command: Sequence[str]) -> ProcessRecord:
        return start_process(
            name,
            command,
            environ={"PATH": os.environ.get("PATH", os.defpath)},
            directory=self.directory,
            log=self.log(name),
            fingerprint="",
        )

    def log(self, name: str) -> Path:
        """Return the log of a host, or of the network."""
        return self.directory / f"{name}.log"

    @cached_property
    def _shown(self) -> list[str]:
        paths = [
            *(sys.prefix, sys.base_prefix, os.path.realpath(sys.executable)),
            str(Path(pipeline.__file__).resolve().parent),
            *(str(self._ray.absolute().parent.parent), os.path.realpath(self._ray.parent / "python")),
            *(str(directory.resolve()) for directory in self._directories),
            str(self.token_file.resolve()),
        ]
        return sorted({path for path in paths if not path.startswith(("/usr", "/lib", "/bin"))})

    def start_host(self, name: str, *, cpus: int = 0) -> None:
        """Start a host, and link it to the others; one that was lost comes back as new."""
        state = self.directory / name
        (state / "tmp").mkdir(parents=True, exist_ok=True)
        (state / "tmp").chmod(0o1777)
        plan = {
            "name": name,
            "address": address_of(name),
            "state": str(state),
            "hidden": [*HIDDEN, str(self._home.resolve())],
            "shown": self._shown,
            "command": self._command(name, cpus),
            "environ": self._environ(),
        }
        namespaces = "--net --mount --pid --uts --ipc --fork --kill-child --mount-proc".split()
        program = [sys.executable, "-I", str(PROGRAMS / "host.py"), json.dumps(plan)]
        record = self._start(name, ["unshare", *namespaces, *program])
        port, records = self._read_state()
        self._write_state(port, records | {name: record})
        self._wait(lambda: _has_own_network(record.pid), name, seconds=60)
        with contextlib.suppress(StackError):  # of a host that was lost a moment ago
            self._in_network(f"link delete {name}")
        self._in_network(f"link add {name} type veth peer name eth0 netns {record.pid}")
        self._in_network(f"link set {name} master hosts")
        self._in_network(f"link set {name} up")

    def _command(self, name: str, cpus: int) -> list[str]:
        common = [
            *(str(self._ray), "start", "--block", f"--node-ip-address={address_of(name)}"),
            f"--object-store-memory={OBJECT_STORE_BYTES}",
            *("--dashboard-agent-listen-port=52365", "--dashboard-agent-grpc-port=52366"),
            *("--metrics-export-port=52367", "--runtime-env-agent-port=52368", "--disable-usage-stats"),
        ]
        if name != HEAD:
            return [*common, f"--address={address_of(HEAD)}:{GCS}", f"--num-cpus={cpus or os.cpu_count()}"]
        dashboard = [f"--dashboard-host={address_of(HEAD)}", f"--dashboard-port={DASHBOARD}"]
        return [*common, "--head", f"--port={GCS}", "--num-cpus=0", "--include-dashboard=true", *dashboard]

    def _environ(self) -> dict[str, str]:
        names = [
            name for name in os.environ if name in ("PATH", "LANG", "LC_ALL", "TZ") or name[:4] == "PIP_"
        ]
        return {
            **{name: os.environ[name] for name in names},
            "HOME": "/tmp",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_file.resolve()),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_gcs_server_request_timeout_seconds": "240",
        }

    def _in_network(self, words: str) -> None:
        place = f"--net=/proc/{self.processes['network'].pid}/ns/net"
        command = ["nsenter", place, "ip", *words.split()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise StackError(f"`ip {words}` in the network of Ray's hosts failed: {done.stderr.strip()}")

    def cut_off(self, name: str) -> None:
        """Take the link of a host down."""
        self._in_network(f"link set {name} down")

    def kill(self, name: str) -> None:
        """End a host at once, with all that runs on it."""
        stop_processes([self.processes[name]], grace_seconds=0, first=signal.SIGKILL)

    def _get(self, path: str) -> httpx.Response | None:
        headers = {"Authorization": f"Bearer {self.token_file.read_text()}"}
        try:
            return httpx.get(f"{self.status.address}/{path}", headers=headers, trust_env=False, timeout=30)
        except httpx.HTTPError:
            return None

    def living_hosts(self) -> set[str]:
        """Return the addresses of the hosts that Ray says live; none while the head does not answer."""
        answer = self._get("api/v0/nodes?limit=1000")
        if answer is None or answer.status_code != 200:
            return set()
        nodes = answer.json()["data"]["result"]["result"]
        return {node["node_ip"] for node in nodes if node["state"] == "ALIVE"}

    def wait_for_hosts(self, count: int) -> None:
        """Wait until Ray has so many hosts.

        Raises:
            StackError: if it has not in time, or a host ends.
        """
        self._wait(lambda: len(self.living_hosts()) >= count, HEAD, seconds=START_SECONDS)

    def _wait(self, is_ready: Callable[[], bool], name: str, *, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not is_ready():
            dead = [each for each, record in self._read_state()[1].items() if not record.is_alive]
            if dead or time.monotonic() > deadline:
                name = dead[0] if dead else name
                raise StackError(
                    f"Ray's cluster does not start: {name} {'ended' if dead else f'took {seconds:.0f} s'}. "
                    f"{self.log(name)} ends with:\n{log_tail(self.log(name))}"
                )
            time.sleep(POLL_SECONDS)

    def down(self) -> int:
        """End all hosts and what runs on them; return how many hosts there were."""
        with locked(self._home):
            records = self.processes
            stop_processes(records.values(), grace_seconds=0, first=signal.SIGKILL)
            for name in records:
                shutil.rmtree(self.directory / name, ignore_errors=True)
        return len([name for name in records if name != "network"])


def address_of(name: str) -> str:
    """Return the address of a host in the cluster's network."""
    return f"10.77.0.{1 if name == HEAD else 1 + int(name.removeprefix('node'))}"


def _has_own_network(pid: int) -> bool:
    """Whether a process has entered its network namespace."""
    try:
        return os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
    except OSError:
        return False
