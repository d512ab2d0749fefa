"""A server of a team's stack on another machine: where it answers, its certificate, whether it is ready."""

from __future__ import annotations

import http
import http.client
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.stack.front import is_local
from pipeline.stack.join_file import (
    JoinFile,
    client_context,
    format_address,
    is_everywhere,
    make_key,
    parse_address,
)
from pipeline.stack.link import LinkSpec
from pipeline.stack.state import load_state
from pipeline.types import Role

SERVER_PORT = 8472
READY_SECONDS = 10  # for one answer


def place(home: Path, role: Role, listen: str | None) -> str:
    """Return HOST:PORT where a server answers, empty for a worker.

    Raises:
        ConfigError: if it is not said where, is no address, or is one that only this machine reaches.
    """
    if role is Role.WORKER:
        if listen:
            raise ConfigError(
                "A worker answers no predictions: leave `--listen` away, or use `--role server`."
            )
        return ""
    listen = listen or load_state(home).serves
    if not listen:
        raise ConfigError("Say where other machines reach this server: `--listen HOST:PORT`.")
    host, port = parse_address(listen, SERVER_PORT)
    if is_everywhere(host) or is_local(host):
        raise ConfigError(f"{host} is no address to reach this server at: name the one of this machine.")
    return format_address(host, port)


def make_server_key(home: Path, serves: str) -> str:
    """Make the key of a server at an address; return its certificate."""
    host, _ = parse_address(serves)
    return make_key(server_key(home), "graft server", host)


def is_ready(home: Path, serves: str) -> bool:
    """Return True if the server at an address says that it is ready."""
    host, port = parse_address(serves)
    context = client_context(JoinFile(token="", certificate=LinkSpec.read(home).certificate))
    connection = http.client.HTTPSConnection(host, port, timeout=READY_SECONDS, context=context)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def server_key(home: Path) -> Path:
    """Return the file with the key and the certificate of a server."""
    return home / "servers" / "server.pem"
