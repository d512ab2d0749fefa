"""HAProxy in front of engines, which here are small servers that say who they are."""

from __future__ import annotations

import http
import http.client
import http.server
import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from pipeline.config import Settings
from pipeline.errors import ConfigError, StackError
from pipeline.stack import control, front, servers
from pipeline.stack.front import Front, ensure_front_key, front_folder, render
from pipeline.stack.join_file import make_key
from pipeline.stack.joined_server import place
from pipeline.stack.machines import Machine, write_machines
from pipeline.stack.processes import ProcessRecord
from pipeline.stack.profile import HAPROXY
from pipeline.stack.servers import find_programs, write_secret
from pipeline.stack.state import StackState, save_state
from pipeline.types import Profile, Role
from tests.fakes.clock import wait_for

SECONDS = 30
PREDICT = "/v1/projects/p/models/m:predict"
needs_haproxy = pytest.mark.skipif(
    not (shutil.which("haproxy") or Path("/usr/sbin/haproxy").exists()), reason="needs Debian's haproxy"
)


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers with the server's name; `lost` ends the connection of a prediction without an answer."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.loses:  # type: ignore[attr-defined]
            self.close_connection = True
            return
        self._answer()

    def _answer(self) -> None:
        body = json.dumps({"name": self.server.name, "path": self.path}).encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Engine(http.server.ThreadingHTTPServer):
    daemon_threads = True
    loses = False

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.name = name


@contextmanager
def answering(name: str, tls_file: Path | None = None) -> Iterator[Engine]:
    engine = Engine(name)
    if tls_file:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls_file)
        engine.socket = context.wrap_socket(engine.socket, server_side=True)
    thread = threading.Thread(target=engine.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield engine
    finally:
        engine.shutdown()
        engine.server_close()
        thread.join()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def machine_of(name: str, port: int = 0, certificate: str = "") -> Machine:
    serves = f"127.0.0.1:{port}" if port else ""
    return Machine(name=name, slots=0, since=0.0, serves=serves, certificate=certificate)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_machines(tmp_path, 0)
    return tmp_path


@contextmanager
def fronting(home: Path, listen: str, *engines: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "pipeline.stack.front", "--home", str(home), "--listen", listen]
    with subprocess.Popen([*command, "--engine", *map(str, engines)]) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(SECONDS)


def asker(port: int, path: str = PREDICT) -> Callable[[], str]:
    """Return a function that asks, in a connection of its own, and gives the name of who answered."""

    def ask() -> str:
        answer = requests.post(f"http://127.0.0.1:{port}{path}", json={}, timeout=SECONDS)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["name"])

    return ask


def is_up(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/readyz", timeout=SECONDS).ok
    except requests.ConnectionError:
        return False


@needs_haproxy
class TestFront:
    def test_a_server_gets_predictions_from_when_it_joins_until_it_leaves(self, home: Path) -> None:
        port, key = free_port(), home / "server.pem"
        certificate = make_key(key, "server")
        with answering("own") as own, answering("other", key) as other:
            with fronting(home, f"127.0.0.1:{port}", own.server_port):
                wait_for(lambda: is_up(port), seconds=SECONDS)
                ask = asker(port)
                assert {ask() for _ in range(4)} == {"own"}
                idle = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
                idle.request("GET", "/readyz")
                assert idle.getresponse().read()
                write_machines(home, 0, (machine_of("b", other.server_port, certificate),))
                wait_for(lambda: ask() == "other", seconds=SECONDS)
                assert {ask() for _ in range(8)} == {"own", "other"}
                idle.request("GET", "/readyz")  # its connection is of HAProxy's former process
                assert idle.getresponse().status == http.HTTPStatus.OK
                idle.close()
                elsewhere = asker(port, "/v1/projects/p/models")
                assert {elsewhere() for _ in range(4)} == {"own"}
                write_machines(home, 0)
                wait_for(lambda: {ask() for _ in range(4)} == {"own"}, seconds=SECONDS)

    def test_a_prediction_that_a_server_loses_is_answered_by_another(self, home: Path) -> None:
        port = free_port()
        with answering("first") as first, answering("second") as second:
            with fronting(home, f"127.0.0.1:{port}", first.server_port, second.server_port):
                wait_for(lambda: is_up(port), seconds=SECONDS)
                first.loses = True
                assert {asker(port)() for _ in range(6)} == {"second"}
                second.loses = True
                lost = requests.post(f"http://127.0.0.1:{port}/v1/projects/p/jobs", json={}, timeout=SECONDS)
                assert lost.status_code == 502  # it may have been done

    def test_a_server_with_another_certificate_gets_nothing(self, home: Path) -> None:
        port, key = free_port(), home / "server.pem"
        make_key(key, "server")
        wrong = make_key(home / "wrong.pem", "server")
        with answering("own") as own, answering("stranger", key) as other:
            write_machines(home, 0, (machine_of("b", other.server_port, wrong),))
            with fronting(home, f"127.0.0.1:{port}", own.server_port):
                wait_for(lambda: is_up(port), seconds=SECONDS)
                assert {asker(port)() for _ in range(6)} == {"own"}

    def test_without_any_engine_the_answer_is_an_error_of_google(self, home: Path) -> None:
        port = free_port()
        with fronting(home, f"127.0.0.1:{port}", free_port()):

            def ask() -> tuple[int, Any] | None:
                try:
                    answer = requests.get(f"http://127.0.0.1:{port}/v1/projects/p/models", timeout=SECONDS)
                except requests.ConnectionError:
                    return None
                return answer.status_code, answer.json()["error"]["status"]

            assert wait_for(ask, seconds=SECONDS) == (503, "UNAVAILABLE")

    def test_a_front_that_was_killed_leaves_no_haproxy_behind(self, home: Path) -> None:
        port = free_port()
        pid_file = home / "servers" / "front" / "haproxy.pid"
        with answering("own") as own, ExitStack() as stack:
            first = stack.enter_context(fronting(home, f"127.0.0.1:{port}", own.server_port))
            wait_for(lambda: is_up(port), seconds=SECONDS)
            lost = pid_file.read_text()
            first.kill()
            stack.enter_context(fronting(home, f"127.0.0.1:{port}", own.server_port))
            wait_for(lambda: pid_file.read_text() != lost, seconds=SECONDS)
            assert not Path(f"/proc/{lost.strip()}").exists()
            wait_for(lambda: is_up(port), seconds=SECONDS)

    def test_an_address_that_others_reach_is_served_with_tls(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(front, "is_local", lambda host: False)
        port = free_port()
        with answering("own") as own:
            listen = f"127.0.0.1:{port}"
            ensure_front_key(home, listen)
            file = front_folder(home) / "haproxy.cfg"
            write_secret(file, render(home, listen, [own.server_port], ()))
            with subprocess.Popen(
                [str(find_programs(HAPROXY) / "haproxy"), "-db", "-f", str(file)]
            ) as haproxy:

                def ask() -> Any:
                    try:
                        certificate = str(front_folder(home) / "certificate.pem")
                        url = f"https://127.0.0.1:{port}/readyz"
                        return requests.get(url, verify=certificate, timeout=SECONDS).json()
                    except requests.ConnectionError:
                        return None

                try:
                    assert wait_for(ask, seconds=SECONDS)["name"] == "own"
                finally:
                    haproxy.terminate()


def test_a_machines_name_adds_no_line_to_the_configuration(home: Path) -> None:
    named = machine_of("b\n  server evil 127.0.0.1:1", 8472)
    text = render(home, "127.0.0.1:8471", [8500], (named, machine_of("worker")))
    lines = [line for line in text.splitlines() if line.startswith("  server ")]
    assert lines[0] == "  server engine-1 127.0.0.1:8500"
    assert lines[1].startswith("  server b___server_evil_127.0.0.1_1 127.0.0.1:8472 tcp-ut 3s ssl verify")
    assert len(lines) == 3  # the other backend has our own only


def test_without_haproxy_the_package_is_named(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(servers, "SYSTEM", home)
    with pytest.raises(StackError, match="apt-get install haproxy`, or leave `--front` away"):
        Front(home, "127.0.0.1:8471", [8500])
    assert HAPROXY == "haproxy"


@pytest.mark.parametrize(
    ("role", "listen", "message"),
    [
        (Role.WORKER, "10.0.0.6", "--role server"),
        (Role.SERVER, None, "--listen HOST:PORT"),
        (Role.SERVER, "0.0.0.0", "no address"),
        (Role.SERVER, "localhost", "no address"),
        (Role.SERVER, "10.0.0.6:x", "HOST:PORT"),
    ],
)
def test_where_a_server_answers_is_asked_for(
    tmp_path: Path, role: Role, listen: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        place(tmp_path, role, listen)


def test_a_server_has_a_port_by_default(tmp_path: Path) -> None:
    assert place(tmp_path, Role.SERVER, "10.0.0.6") == "10.0.0.6:8472"
    assert place(tmp_path, Role.WORKER, None) == ""


def test_a_server_leaves_before_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    state = StackState(profile=Profile.TEAM, joined="10.0.0.5:8470", serves="10.0.0.7:8472")
    for name in ("link", "engine"):
        record = ProcessRecord(name=name, pid=2**22 + 1, started=0.0, fingerprint="")
        state = state.with_process(record)
    save_state(tmp_path, state)

    def stop(records: Sequence[ProcessRecord], **_: Any) -> int:
        events.extend(record.name for record in records if record.name not in events)
        return len(records)

    monkeypatch.setattr(control, "stop_processes", stop)
    monkeypatch.setattr(control.time, "sleep", lambda seconds: events.append("drained"))
    control.down(Settings(home=tmp_path))
    assert events == ["link", "drained", "engine"]
