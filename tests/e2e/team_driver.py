"""A team's stack, what the tests do to its parts and to its bucket, and a client that predicts meanwhile."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests
from PIL import Image

from pipeline.datasets.sources.sample import SampleSource
from pipeline.stack.state import load_state
from pipeline.storage import S3Address
from pipeline.storage.s3_bucket import s3_client
from tests.clients.servers import running_moto
from tests.e2e.conftest import Stack, wait_until

PREDICT_SECONDS = 60
HOLD_SECONDS = 400


class Relay:
    """Passes connections on to a port of this machine, but for a while refuses them."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._is_refusing = False
        self.num_refused = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Cut every connection, and each that is made within the block."""
        with self._lock:
            self._is_refusing = True
            cut = list(self._open)
        for connection in cut:
            _cut(connection)
        try:
            yield
        finally:
            self._is_refusing = False

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            with self._lock:
                if self._is_refusing:
                    self.num_refused += 1
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open |= {client, server}
            threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        with client, server:
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            back.start()
            _copy(client, server)
            back.join()
            with self._lock:
                self._open -= {client, server}


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Pass bytes on until one of two connections ends, then end both."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for connection in (source, target):
        _cut(connection)


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def refusable_bucket() -> Iterator[tuple[Relay, S3Address]]:
    """Serve a bucket of S3 that can be made to refuse, with the keys of the environment.

    Yields:
        What is before it, and its address.
    """
    with running_moto() as url:
        s3_client(url, "").create_bucket(Bucket="company")
        with contextlib.closing(Relay(int(url.rpartition(":")[2]))) as relay:
            endpoint = f"http://127.0.0.1:{relay.port}"
            yield relay, S3Address(bucket="company", prefix="team", endpoint=endpoint)


@dataclass(frozen=True)
class TeamStack(Stack):
    """A stack whose temporary files are in a directory of its own, with a DAG that can be held."""

    scratch: Path = field(default=Path())
    bucket: S3Address | None = None

    @property
    def environ(self) -> dict[str, str]:
        inherited = super().environ
        dags = f"{inherited['GRAFT_DAGS']}:{Path(__file__).parent / 'team_dags'}"
        buckets = {"GRAFT_BUCKETS": f"graft={self.bucket}"} if self.bucket else {}
        return inherited | {"TMPDIR": str(self.scratch), "GRAFT_DAGS": dags} | buckets

    def write_pictures(self, name: str, turn: Image.Transpose) -> int:
        """Write the pictures of a held DAG, which no other classifier has; return how many there are."""
        count = 0
        for entry in SampleSource(classes=["brick", "grass"]).entries(0, 1):
            assert entry.read is not None
            file = self.home / "pictures" / name / str(entry.label) / f"{count}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(io.BytesIO(entry.read())) as picture:
                picture.transpose(turn).save(file)
            count += 1
        return count

    # Its parts

    def part(self, name: str) -> psutil.Process:
        """Return the process of a part: its keeper, or a server itself."""
        record = load_state(self.home).find(name)
        assert record is not None
        return psutil.Process(record.pid)

    def kept(self, name: str) -> psutil.Process:
        """Return the process that a keeper keeps, once there is one."""

        def find() -> psutil.Process | None:
            children = self.part(name).children()
            return children[0] if children else None

        return wait_until(find, seconds=60, what=f"process of {name}")

    def name_of(self, pid: int) -> str:
        """Return the part that a process belongs to."""
        session = os.getsid(pid)
        (name,) = [record.name for record in load_state(self.home).processes if record.pid == session]
        return str(name)

    def api_servers(self) -> list[psutil.Process]:
        """Return the processes that answer at the address of Airflow's API server."""
        children = self.kept("airflow-api-server").children()
        alive = [child for child in children if not is_gone(child)]
        return [child for child in alive if "resource_tracker" not in " ".join(child.cmdline())]

    def engine_urls(self) -> dict[str, str]:
        state = load_state(self.home)
        return {"engine": state.engine_url, "engine-2": state.second_engine_url}

    def leader(self) -> str:
        """Return the name of the engine that leads, once one does."""

        def find() -> str | None:
            for name, url in self.engine_urls().items():
                with contextlib.suppress(requests.RequestException, ValueError):
                    if requests.get(f"{url}/readyz", timeout=30).json().get("role") == "leader":
                        return name
            return None

        return str(wait_until(find, seconds=120, what="leading engine"))

    # Holds

    @property
    def holds(self) -> Path:
        return self.home / "holds"

    def ask_to_hold(self, *names: str) -> None:
        self.holds.mkdir(exist_ok=True)
        for name in names:
            (self.holds / name).touch()

    def wait_held(self, name: str) -> int:
        """Return the id of the process that is held."""

        def find() -> str | None:
            files = list(self.holds.glob(f"{name}.*"))
            return files[0].suffix if files else None

        return int(wait_until(find, seconds=HOLD_SECONDS, what=f"hold of {name}").removeprefix("."))

    def release(self, name: str) -> None:
        for file in self.holds.glob(f"{name}.*"):
            file.unlink()

    def kill_worker_at(self, name: str) -> str:
        """Kill the Celery worker whose task is held, as `kill -9 PID` does; return the worker's name."""
        pid = self.wait_held(name)
        task, worker = psutil.Process(pid), self.name_of(pid)
        self.kept(worker).kill()
        wait_until(lambda: is_gone(task), seconds=60, what=f"end of the task of {name}")
        self.release(name)
        return worker

    @contextlib.contextmanager
    def without_postgres(self, seconds: float) -> Iterator[None]:
        """Stop the database; after at least some seconds and the block, start it as a person does."""
        server = self.part("postgres")
        server.send_signal(signal.SIGINT)
        wait_until(lambda: is_gone(server), seconds=60, what="end of PostgreSQL")
        gone = time.monotonic()
        yield
        wait_until(lambda: time.monotonic() - gone >= seconds, seconds=2 * seconds, what="end of the outage")
        self.start_again()

    def start_again(self) -> None:
        """Start what is not there, as a person does."""
        assert self.graft_json("up")["state"] == "running"


def is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Predictions:
    """A client that predicts without a pause, at each engine in turn, until it is stopped.

    If an engine does not answer, it asks the other, as a load balancer does; only both of them can fail it.

    Args:
        stack: The team's stack, where `surfaces` serves.
    """

    def __init__(self, stack: TeamStack) -> None:
        self._urls = list(stack.engine_urls().values())
        self._headers = {"Authorization": f"Bearer {stack.graft_json('status')['engine']['token']}"}
        picture = io.BytesIO()
        Image.new("RGB", (64, 64), (120, 60, 50)).save(picture, "PNG")
        inputs = {"b64": base64.b64encode(picture.getvalue()).decode()}
        self._body = json.dumps({"instances": [{"key": "k", "inputs": inputs}], "signature_name": "keyed"})
        self.num_answers = self.num_other = 0
        self.longest = 0.0
        self.failures: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Predictions:
        assert self._ask(self._urls[0]) is None
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(0.05):
            self._urls.reverse()
            began = time.monotonic()
            first = self._ask(self._urls[0])
            second = self._ask(self._urls[1]) if first else None
            self.longest = max(self.longest, time.monotonic() - began)
            if first and second:
                self.failures.append(f"{first}; {second}")
            self.num_answers += not (first and second)
            self.num_other += bool(first)

    def _ask(self, url: str) -> str | None:
        """Return why there is no prediction, or None."""
        address = f"{url}/v1/projects/local/models/surfaces:predict"
        try:
            answer = requests.post(address, self._body, headers=self._headers, timeout=PREDICT_SECONDS)
            return None if answer.status_code == 200 and answer.json().get("predictions") else answer.text
        except (requests.RequestException, ValueError) as error:
            return str(error)
