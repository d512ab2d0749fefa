"""`python -m pipeline.engine --host 127.0.0.1 --port 8500 --home .graft`: serve until SIGTERM."""

from __future__ import annotations

import argparse
import fcntl
import ipaddress
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import IO

import uvicorn
from fastapi import FastAPI

from pipeline.config import Settings
from pipeline.engine.api.app import create_app
from pipeline.engine.api.connections import LimitedProtocol, connection_limit
from pipeline.engine.auth import Tokens, token_file
from pipeline.engine.database import Database, read_database
from pipeline.engine.engine import Engine, local_parts
from pipeline.engine.home import state_directory
from pipeline.engine.settings import EngineSettings
from pipeline.engine.telemetry.log import set_up_logging
from pipeline.errors import ConfigError, PipelineError, StackError
from pipeline.storage import Storage

log = logging.getLogger(__name__)


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_exposure(host: str, home: Path) -> None:
    """Check that an engine that others can reach requires a token.

    Raises:
        ConfigError: if it would be open.
    """
    if not is_loopback(host) and Tokens.read(token_file(home)).is_open:
        raise ConfigError(
            f"Refusing to listen on {host} without tokens: anyone who reaches it could run code here. "
            f"Write {token_file(home)}, or listen on 127.0.0.1."
        )


def claim_home(home: Path, replica: int = 0) -> IO[str]:
    """Lock the engine's own files until the process ends.

    Raises:
        StackError: if another engine has them.
    """
    state = state_directory(home, replica)
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = (state / "engine.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise StackError(
            f"Another engine runs on {home}; stop it, use another GRAFT_HOME, or, with a database on a "
            "PostgreSQL server, another --replica."
        ) from error
    return file


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        StackError: if the port is taken, or the address is not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]  # without the address, which follows in brackets
        raise StackError(f"Cannot listen on {host}:{port}: {reason}. Choose another --port.") from error


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.engine", description="Serve ML Engine v1.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, required=True, help="port to listen on; 0 chooses a free one")
    parser.add_argument("--home", type=Path, default=None, help="GRAFT_HOME; by default the variable's value")
    parser.add_argument(
        "--replica", type=int, default=0, help="number among the engines of one home, which share a database"
    )
    parser.add_argument(
        "--follow", action="store_true", help="never lead the engines of a shared database: predict only"
    )
    parser.add_argument(
        "--tls-file", type=Path, default=None, help="serve TLS with the key and certificate of this PEM file"
    )
    return parser.parse_args(words)


def own_address(listener: socket.socket, scheme: str = "http") -> str:
    """Return where other machines reach a listening socket, as far as that can be known here."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = socket.getfqdn()
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def check_replica(replica: int, database: Database, *, follow: bool = False) -> None:
    """Check that several engines can use one home, or one of them may follow for ever.

    Raises:
        ConfigError: if the database is a file, which one engine uses.
    """
    if follow and not database.is_shared:
        raise ConfigError(
            "--follow needs a leader, and so a database on a PostgreSQL server. Name it in GRAFT_DATABASE."
        )
    if replica < 0 or (replica and not database.is_shared):
        raise ConfigError(
            f"--replica {replica}: several engines of one GRAFT_HOME, numbered from 0, need a database on a "
            "PostgreSQL server. Name it in GRAFT_DATABASE."
        )


def _configure(app: FastAPI, limits: EngineSettings, tls_file: Path | None) -> uvicorn.Config:
    LimitedProtocol.max_connections = connection_limit(limits.max_connections)
    LimitedProtocol.header_seconds = limits.header_seconds
    LimitedProtocol.body_seconds = limits.body_seconds
    LimitedProtocol.read_seconds = limits.read_seconds
    return uvicorn.Config(
        app,
        http=LimitedProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=75,
        ssl_certfile=tls_file,
    )


def serve(
    host: str,
    port: int,
    home: Path,
    replica: int = 0,
    *,
    follow: bool = False,
    tls_file: Path | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT."""
    check_exposure(host, home)
    claim = claim_home(home, replica)
    with claim, listen(host, port) as listener:
        os.environ["GRAFT_HOME"] = str(home)  # Storage, jobs and settings all read it
        settings, limits = Settings(), EngineSettings()
        database = read_database(home, settings.database, settings.database_password_file)
        check_replica(replica, database, follow=follow)
        parts = local_parts(
            home,
            database=database,
            project=settings.project,
            workspace=settings.workspace,
            storage=Storage.from_environment(),
            settings=limits,
            address=own_address(listener, "https" if tls_file else "http"),
            replica=replica,
            may_lead=not follow,
        )
        config = _configure(create_app(Engine(parts, limits)), limits, tls_file)
        for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again once it has stopped
            signal.signal(number, lambda *_: sys.exit(0))
        scheme = "https" if tls_file else "http"
        log.info("Listening on %s://%s:%d", scheme, host, listener.getsockname()[1])
        server = uvicorn.Server(config)
        server.run(sockets=[listener])
        if not server.started:
            raise StackError("The engine did not start; the reason is in the lines above.")


def main(words: list[str]) -> int:
    """Run the command line; return the exit code."""
    set_up_logging()
    for name in ("alembic", "httpx"):  # httpx: a line for each request to Ray
        logging.getLogger(name).setLevel(logging.WARNING)
    arguments = _arguments(words)
    try:
        home = (arguments.home or Settings().home).expanduser().absolute()
        serve(
            arguments.host,
            arguments.port,
            home,
            arguments.replica,
            follow=arguments.follow,
            tls_file=arguments.tls_file,
        )
    except PipelineError as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
