"""What a hostile job must not reach, all of it there to be reached; and how `hostile_ray_job` is asked."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

HOSTILE = Path(__file__).with_name("hostile_ray_job.py")
TOKEN = "the-token-of-the-engine"


@contextmanager
def targets(home: Path, engine_port: int) -> Iterator[dict[str, Any]]:
    """Make secrets and servers; yield what to try.

    The servers stand for a database and for Redis, and listen more carelessly than these would: on all
    addresses, and on Unix sockets that everybody may use.

    Args:
        home: Gets the stack's file with the engine's token.
        engine_port: Where the engine listens, on 127.0.0.1.
    """
    secrets = home / "secrets.json"
    secrets.write_text(TOKEN)
    paths = home / "database.sock", Path("/tmp") / f"graft-{os.getpid()}.sock"
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("0.0.0.0", 0))) for _ in range(2)]
        ports = [engine_port, *(server.getsockname()[1] for server in servers)]
        yield {
            "files": [str(secrets), "/etc/shadow"],
            "sockets": [_listen(stack, path) for path in paths],
            "addresses": [(address, port) for port in ports for address in _own_addresses()],
            "dashboard": "http://10.77.0.1:8265",
            "secrets_reversed": [TOKEN[::-1]],
        }


def _listen(stack: ExitStack, path: Path) -> str:
    server = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    server.bind(str(path))
    server.listen()
    path.chmod(0o777)
    stack.callback(path.unlink)
    return str(path)


def _own_addresses() -> list[str]:
    return [
        each.address
        for addresses in psutil.net_if_addrs().values()
        for each in addresses
        if each.family == socket.AF_INET
    ]


def read_report(text: str) -> dict[str, Any]:
    """Return what the hostile program printed last."""
    line = [line for line in text.splitlines() if line.startswith("REPORT ")][-1]
    report: dict[str, Any] = json.loads(line.removeprefix("REPORT "))
    return report


def reached(report: dict[str, Any]) -> list[str]:
    """Return the paths and addresses that the hostile program reached."""
    tried = report["files"] | report["sockets"] | report["addresses"]
    return [what for what, result in tried.items() if result["reached"]]


def check_that_this_machine_reaches(asked: dict[str, Any]) -> None:
    """Check that there is something to reach, so that a failure to do so means something."""
    command = [sys.executable, str(HOSTILE), json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    report = read_report(done.stdout)
    num_refused = len(_own_addresses()) - 1  # the engine listens on 127.0.0.1 only
    num_tried = len(asked["files"]) + len(asked["sockets"]) + len(asked["addresses"])
    assert len(reached(report)) == num_tried - num_refused
