"""One address for predictions: HAProxy in front of a team's engines and of the servers that have joined.

`python -m pipeline.stack.front --home HOME --listen HOST:PORT --engine PORT...` keeps HAProxy running, and
gives it another configuration whenever a machine joins or leaves. Requests on their way are not disturbed.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import logging
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from pipeline.stack.join_file import format_address, make_key, parse_address
from pipeline.stack.machines import Machine, read_machines
from pipeline.stack.profile import HAPROXY
from pipeline.stack.servers import find_programs, write_secret

log = logging.getLogger("front")

LOOK_SECONDS = 1.0  # between two looks at who has joined
STOP_SECONDS = 5
# A request that fits is sent to another server if the first one is lost before it answers.
RETRY_BYTES = 2**20
MAX_CONNECTIONS = 512
# A host that acknowledges nothing for so long is lost: tcp-ut while a request is sent, keepalive after that.
SILENT_SECONDS = 3
# What HAProxy says itself, as the engine's errors are.
UNAVAILABLE = {"code": 503, "message": "No engine answers now. Try again.", "status": "UNAVAILABLE"}
TEMPLATE = """\
global
  maxconn {max_connections}
  tune.bufsize {retry_bytes}
  tune.maxrewrite 4096
  ssl-default-server-options ssl-min-ver TLSv1.2
  ssl-default-bind-options ssl-min-ver TLSv1.2

defaults
  mode http
  option http-keep-alive
  option idle-close-on-response
  option http-buffer-request
  option srvtcpka
  srvtcpka-idle {silent_seconds}s
  srvtcpka-intvl 1s
  srvtcpka-cnt 3
  timeout connect 2s
  timeout http-request 60s
  timeout client 75s
  timeout server 600s
  timeout queue 10s
  option redispatch 1
  retries 2
  option httpchk GET /readyz
  default-server check inter 1s fastinter 300ms fall 3 rise 1
  http-error status 503 content-type application/json string '{unavailable}'

frontend front
  bind {bind}
  acl predicts path_end :predict :predictMany :explain
  use_backend predictions if METH_POST predicts
  default_backend engines

backend predictions
  balance leastconn
  retry-on conn-failure empty-response 502 503
  {predicting}

backend engines
  retry-on conn-failure
  {engines}
"""


def front_folder(home: Path) -> Path:
    """Return where the configuration of HAProxy is."""
    return home / "servers" / "front"


def front_key(home: Path) -> Path:
    """Return the file with the key and the certificate that clients of another machine see."""
    return front_folder(home) / "front.pem"


def ensure_front_key(home: Path, listen: str) -> None:
    """Make the key and the certificate of an address that others reach, unless there is one."""
    host, _ = parse_address(listen)
    if not is_local(host) and not front_key(home).exists():
        certificate = make_key(front_key(home), "graft front", host)
        (front_folder(home) / "certificate.pem").write_text(certificate, encoding="utf-8")


def is_local(host: str) -> bool:
    """Return True if only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def render(home: Path, listen: str, engines: Iterable[int], machines: Iterable[Machine]) -> str:
    """Return HAProxy's configuration; certificates of the machines are written beside it.

    Args:
        home: Of the stack; an address that others reach is served with its key.
        listen: HOST:PORT.
        engines: Ports of the stack's own engines, which also take everything but predictions.
        machines: Who has joined; those that serve get predictions.
    """
    host, port = parse_address(listen)
    own = [f"server engine-{number} 127.0.0.1:{port}" for number, port in enumerate(engines, 1)]
    others = [_server(home, machine) for machine in machines if machine.serves]
    secured = "" if is_local(host) else f" ssl crt {front_key(home)}"
    return TEMPLATE.format(
        max_connections=MAX_CONNECTIONS,
        silent_seconds=SILENT_SECONDS,
        retry_bytes=RETRY_BYTES,
        unavailable=json.dumps({"error": UNAVAILABLE}),
        bind=f"{format_address(host, port)}{secured}",
        predicting="\n  ".join([*own, *others]),
        engines="\n  ".join(own),
    )


def _server(home: Path, machine: Machine) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", machine.name)
    file = front_folder(home) / f"{name}.pem"
    write_secret(file, machine.certificate)
    address = format_address(*parse_address(machine.serves))
    # HAProxy's default-server takes `tcp-ut` and gives it to no server.
    return f"server {name} {address} tcp-ut {SILENT_SECONDS}s ssl verify required ca-file {file}"


class Front:
    """HAProxy, with the configuration of whoever has joined.

    Args:
        home: Of the stack.
        listen: HOST:PORT.
        engines: Ports of its own engines.
    """

    def __init__(self, home: Path, listen: str, engines: Sequence[int]) -> None:
        self._home, self._listen, self._engines = home, listen, engines
        self._file = front_folder(home) / "haproxy.cfg"
        self._program = str(find_programs(HAPROXY) / "haproxy")
        self._pid_file = front_folder(home) / "haproxy.pid"
        self._ending = threading.Event()
        self._text = ""

    def end(self) -> None:
        """End HAProxy; what a signal handler calls."""
        self._ending.set()

    def run(self) -> int:
        """Serve until the process is told to end, or HAProxy ends; return its exit code."""
        self._write()
        self._end_lost()
        command = [self._program, "-W", "-db", "-f", str(self._file)]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL) as haproxy:
            write_secret(self._pid_file, str(haproxy.pid))
            try:
                while haproxy.poll() is None and not self._ending.wait(LOOK_SECONDS):
                    if self._write():
                        haproxy.send_signal(signal.SIGUSR2)
            finally:
                code = self._stop(haproxy)
        return code

    def _end_lost(self) -> None:
        """End the HAProxy of a front that was killed: it would answer at the same address for ever."""
        try:
            lost = psutil.Process(int(self._pid_file.read_text()))
            if str(self._file) in lost.cmdline():
                lost.terminate()
                lost.wait(STOP_SECONDS)
        except (OSError, ValueError, psutil.Error):
            pass

    def _write(self) -> bool:
        """Write the configuration if it has changed and HAProxy takes it; return whether it is another."""
        text = render(self._home, self._listen, self._engines, read_machines(self._home))
        if text == self._text:
            return False
        self._text = text
        candidate = self._file.with_suffix(".new")
        write_secret(candidate, text)
        checked = subprocess.run(
            [self._program, "-c", "-q", "-f", str(candidate)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if checked.returncode:
            log.error("HAProxy refuses the configuration %s: %s", candidate, checked.stderr.strip())
            return False
        candidate.replace(self._file)
        names = dict.fromkeys(re.findall(r"^  server (\S+)", text, re.MULTILINE))
        log.info("predictions go to %s", ", ".join(names))
        return True

    @staticmethod
    def _stop(haproxy: subprocess.Popen[bytes]) -> int:
        haproxy.terminate()
        try:
            return haproxy.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            haproxy.kill()
            return haproxy.wait()


def main(words: list[str]) -> int:
    """Run the command line; return the exit code."""
    logging.basicConfig(format="[%(asctime)s] %(name)s %(levelname)s %(message)s", level=logging.INFO)
    parser = argparse.ArgumentParser(prog="python -m pipeline.stack.front")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--engine", type=int, nargs="+", required=True)
    arguments = parser.parse_args(words)
    front = Front(arguments.home, arguments.listen, arguments.engine)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: front.end())
    return front.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
